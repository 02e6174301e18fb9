"""Repeats: each split by a draw of its own and fitted on its own training rows; groups, times, one split."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from test_data_protocol import assert_disjoint

from criterium.data import Contents, Dataset, Source, load, read
from criterium.data.keys import row_keys, together

PARTS = ("train", "validation", "test")


def table(folder: Path, **columns: object) -> str:
    pyarrow.parquet.write_table(pa.table(columns), folder / "t.parquet")
    return f"parquet:{folder / 't.parquet'}"


def npz(folder: Path, rows: int = 100, **more: object) -> str:
    arrays = {
        "x_train": np.arange(rows, dtype=np.float32)[:, None],
        "y_train": np.arange(rows) % 2,
        "x_test": 1000 + np.arange(40, dtype=np.float32)[:, None],
        "y_test": np.arange(40) % 2,
    }
    np.savez(folder / "set.npz", **(arrays | more))
    return f"npz:{folder / 'set.npz'}"


def first_column(data: Dataset, part: str) -> set[float]:
    return set(getattr(data, part).inputs[:, 0].tolist())


def test_repeat_0_is_what_load_gives() -> None:
    contents = read("digits")
    again, loaded = contents.split(), load("digits")
    assert again.hashes == loaded.hashes
    assert (again.notes, again.test_varies) == (loaded.notes, True)


def test_the_split_of_repeat_0_has_not_changed_since_the_first_races() -> None:
    hashes = load("digits").hashes
    assert hashes["train"].startswith("2ac0623fa5ce606b")
    assert hashes["validation"].startswith("8332a4fde4a16eda")
    assert hashes["test"].startswith("873e91d6c223243e")
    assert hashes["ood"].startswith("31e1cdc4451f4d4b")


def test_every_repeat_draws_parts_of_its_own_and_the_same_ones_again() -> None:
    contents = read("digits", ood="none")
    drawn = [contents.split(repeat) for repeat in range(6)]
    for data in drawn:
        assert_disjoint(data)
        assert [len(getattr(data, part)) for part in PARTS] == [
            len(getattr(drawn[0], part)) for part in PARTS
        ]
    for part in PARTS:
        assert len({data.hashes[part] for data in drawn}) == 6
    assert contents.split(3).hashes == drawn[3].hashes == read("digits", ood="none").split(3).hashes
    # Two test parts of a fifth share a fifth of their rows by chance; digits repeats no input.
    keys = [row_keys(data.test.inputs.numpy()) for data in drawn]
    shared = [np.isin(one, other).mean() for one in keys for other in keys if one is not other]
    assert abs(np.mean(shared) - 0.2) < 0.02


def test_all_rows_take_their_turn_in_the_test_part(tmp_path: Path) -> None:
    contents = read(table(tmp_path, x=np.arange(200.0), y=np.arange(200) % 2), label="y")
    times = np.zeros(200)
    for repeat in range(60):
        times[sorted(map(int, first_column(contents.split(repeat), "test")))] += 1
    # 60 draws of a fifth: 12 times each, deviation 3.1.
    assert times.mean() == 12
    assert 2 < times.std() < 4.2
    assert times.min() > 0


def test_what_is_fitted_is_fitted_on_the_training_rows_of_the_repeat(tmp_path: Path) -> None:
    rows = 90
    rng = np.random.default_rng(0)
    number = rng.normal(size=rows)
    number[::6] = np.nan
    colour = [f"c{row % 30}" for row in range(rows)]  # three of each: some are not in training
    contents = read(
        table(tmp_path, row=np.arange(rows) * 1.0, n=number, c=colour, y=np.arange(rows) % 2), label="y"
    )
    widths = set()
    for repeat in range(4):
        data = contents.split(repeat)
        trained = data.train.inputs[:, 0].long().numpy()
        missing = data.test.inputs[data.test.inputs[:, 2] == 1]
        np.testing.assert_allclose(missing[:, 1], np.nanmedian(number[trained]), rtol=1e-6)
        assert data.train.inputs.shape[1] == 3 + len({colour[row] for row in trained})
        torch.testing.assert_close(data.center, data.train.inputs.double().mean(0).float())
        widths.add(data.train.inputs.shape[1])
    assert len(widths) > 1


def test_an_official_test_part_stays_and_training_is_divided_anew(tmp_path: Path) -> None:
    contents = read(npz(tmp_path))
    drawn = [contents.split(repeat) for repeat in range(4)]
    assert not contents.test_varies
    assert len({data.hashes["test"] for data in drawn}) == 1
    assert len({data.hashes["validation"] for data in drawn}) == 4
    for data in drawn:
        assert first_column(data, "train") | first_column(data, "validation") == set(range(100))
        assert [len(getattr(data, part)) for part in PARTS] == [80, 20, 40]


def test_same_split_holds_every_part(tmp_path: Path) -> None:
    for source in ("digits", npz(tmp_path)):
        contents = read(source, same_split=True)
        assert not contents.test_varies
        assert contents.split(5).hashes == contents.split(0).hashes == load(source).hashes


def grouped(folder: Path, form: str = "parquet", **more: object) -> tuple[str, np.ndarray, np.ndarray]:
    """60 patients of 1 to 19 rows, near-equal rows each, shuffled."""
    rng = np.random.default_rng(1)
    who = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 20, 60)))
    place = rng.normal(size=(60, 2))[who] + 0.01 * rng.normal(size=(len(who), 2))
    columns = {"a": place[:, 0], "b": place[:, 1], "who": [f"p{one}" for one in who], "y": who % 2}
    return table(folder, **(columns | more)), who, place[:, 0]


def patients(data: Dataset, part: str, who: np.ndarray, place: np.ndarray) -> set[int]:
    at = {np.float32(value): one for value, one in zip(place, who, strict=True)}
    return {at[np.float32(value)] for value in getattr(data, part).inputs[:, 0].tolist()}


def test_rows_of_one_group_stay_in_one_part_in_every_repeat(tmp_path: Path) -> None:
    source, who, place = grouped(tmp_path)
    contents = read(source, label="y", groups="who")
    for repeat in range(5):
        data = contents.split(repeat)
        assert data.train.inputs.shape[1] == 2  # the group is no feature
        found = [patients(data, part, who, place) for part in PARTS]
        assert sum(map(len, found)) == len(set.union(*found)) == 60
        assert [getattr(data, part).units for part in PARTS] == [len(one) for one in found] == [38, 10, 12]
        assert "Groups: 38 in train, 10 in validation, 12 in test." in data.notes
    plain = load(source, label="y")
    assert plain.test.units == len(plain.test)


def test_groups_that_share_an_input_stay_together_too() -> None:
    keys, groups = np.array([1, 1, 2, 3, 4, 5, 5]), np.array([0, 1, 1, 2, 2, 3, 4])
    joined = together(keys, groups)
    assert joined[0] == joined[1] == joined[2]
    assert joined[3] == joined[4] != joined[0]
    assert joined[5] == joined[6]
    assert len(set(joined.tolist())) == 3
    assert len(together(keys[:0], groups[:0])) == 0


def test_rows_without_a_group_are_on_their_own(tmp_path: Path) -> None:
    source, _, _ = grouped(tmp_path)
    names = pyarrow.parquet.read_table(tmp_path / "t.parquet")["who"].to_pylist()
    named = [None if name in ("p0", "p1", "p2") else name for name in names]
    alone = named.count(None)
    source, _, _ = grouped(tmp_path, who=named)
    data = load(source, label="y", groups="who")
    assert sum(getattr(data, part).units for part in PARTS) == 57 + alone


def test_too_few_groups_of_a_class_are_refused_by_name(tmp_path: Path) -> None:
    source = table(tmp_path, x=np.arange(40.0), g=np.arange(40) // 10, y=np.arange(40) // 20)
    with pytest.raises(ValueError, match="class '0' has 2 groups, expected at least 3, one each"):
        load(source, label="y", groups="g")


def test_groups_of_arrays_hold_for_the_division_of_training(tmp_path: Path) -> None:
    contents = read(npz(tmp_path, groups=np.arange(100) // 5))
    for repeat in range(3):
        data = contents.split(repeat)
        train, validation = ({int(x) // 5 for x in first_column(data, part)} for part in PARTS[:2])
        assert not train & validation
        assert (data.train.units, data.validation.units) == (16, 4)
    source = npz(tmp_path, groups=np.arange(100) // 5, groups_test=np.repeat(["new", "4"], 20))
    with pytest.raises(ValueError, match="groups_test holds other types than groups, expected whole"):
        read(source)
    data = load(npz(tmp_path, groups=np.arange(100) // 5, groups_test=19 + np.arange(40) // 20))
    assert data.test.units == 2
    assert "5 training rows are of a group that also occurs among the test rows." in data.notes
    assert not {int(x) // 5 for x in first_column(data, "validation")} & {19}


@pytest.mark.parametrize(
    "moments",
    [
        np.arange(200) // 2,
        pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(row // 2) for row in range(200)]),
        pa.array([datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=row // 2) for row in range(200)]),
    ],
)
def test_the_latest_rows_are_the_test_part_of_every_repeat(tmp_path: Path, moments: object) -> None:
    order = np.random.default_rng(0).permutation(200)
    moments = pa.array(moments).take(pa.array(order))
    contents = read(table(tmp_path, x=order * 1.0, t=moments, y=order % 2), label="y", time="t")
    drawn = [contents.split(repeat) for repeat in range(3)]
    assert not contents.test_varies
    for data in drawn:
        assert first_column(data, "test") == set(range(160, 200))
        assert data.train.inputs.shape[1] == 1
    assert len({data.hashes["validation"] for data in drawn}) == 3
    assert "The test part is the latest 20% of the rows: 40 of 200." in drawn[0].notes


def test_a_group_is_as_late_as_its_latest_row(tmp_path: Path) -> None:
    x = np.arange(200)
    group = np.where(x < 195, x % 40, 7)  # group 7 alone comes last
    data = load(table(tmp_path, x=x * 1.0, t=x, g=group, y=x // 40 % 2), label="y", time="t", groups="g")
    late = first_column(data, "test")
    assert {float(row) for row in x[group == 7]} <= late
    rest = first_column(data, "train") | first_column(data, "validation")
    assert max(rest) < max(late)
    assert not {group[int(row)] for row in rest} & {group[int(row)] for row in late}


def test_times_that_cannot_order_rows_are_refused(tmp_path: Path) -> None:
    x = np.arange(60)
    with pytest.raises(ValueError, match="time: all rows have the same time, expected different ones"):
        load(table(tmp_path, x=x, t=x * 0, y=x % 2), label="y", time="t")
    with pytest.raises(ValueError, match="column 't' has 1 row without a time"):
        load(table(tmp_path, x=x, t=[None, *x[1:]], y=x % 2), label="y", time="t")
    with pytest.raises(
        ValueError, match="column 't' holds text, expected numbers, or dates such as 2024-12-31"
    ):
        load(table(tmp_path, x=x, t=["a"] * 60, y=x % 2), label="y", time="t")
    with pytest.raises(ValueError, match="time: got the column 'y', which is the label already"):
        load(table(tmp_path, x=x, y=x % 2), label="y", time="y")
    with pytest.raises(ValueError, match="groups: got 'G', expected one of x, g, y; did you mean 'g'"):
        load(table(tmp_path, x=x, g=x, y=x % 2), label="y", groups="G")
    with pytest.raises(ValueError, match="time: got 't' for digits, expected it only with parquet or csv"):
        load("digits", time="t")


def test_names_are_part_of_what_is_hashed(tmp_path: Path) -> None:
    x, y = np.arange(60.0), ["ab"[row % 2] for row in range(60)]
    before = read(table(tmp_path, x=x, y=y), label="y")
    for other in (
        read(table(tmp_path, z=x, y=y), label="y"),
        read(table(tmp_path, x=x, y=[c * 2 for c in y]), label="y"),
    ):
        assert other.split().hashes["train"] == before.split().hashes["train"]
        assert other.split().hashes["names"] != before.split().hashes["names"]
        assert other.hash != before.hash
    assert read(table(tmp_path, x=x, y=y), label="y").hash == before.hash


def test_a_source_is_plain_values(tmp_path: Path) -> None:
    source = Source("mnist", data_dir=tmp_path)  # type: ignore[arg-type]
    assert source.data_dir == str(tmp_path)
    assert isinstance(Source("digits").read(), Contents)


@pytest.mark.parametrize("repeat", [-1, 1.5, True, "1"])
def test_a_repeat_is_a_whole_number(repeat: object) -> None:
    with pytest.raises(ValueError, match=r"repeat: got .*, expected a whole number of at least 0"):
        read("digits").split(repeat)  # type: ignore[arg-type]
