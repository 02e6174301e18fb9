"""Parts of one's own for tables and arrays: a test file, a column that says which, and no parts at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from criterium.data import Dataset, load, read


def csv(folder: Path, name: str, rows: list[str], header: str = "x,c,y") -> str:
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return str(folder / name)


def rows(start: int, stop: int) -> list[str]:
    return [f"{row},{'uvw'[row % 3]},{'ab'[row % 2]}" for row in range(start, stop)]


def first(data: Dataset, part: str) -> list[int]:
    return sorted(map(int, getattr(data, part).inputs[:, 0].tolist()))


def test_a_test_file_is_the_test_part_of_every_repeat(tmp_path: Path) -> None:
    source = f"csv:{csv(tmp_path, 'train.csv', rows(0, 50))}"
    more = [*rows(100, 119), "119,new,b"]
    contents = read(source, label="y", test=csv(tmp_path, "test.csv", more))
    drawn = [contents.split(repeat) for repeat in range(3)]
    for data in drawn:
        assert first(data, "test") == list(range(100, 120))
        assert sorted(first(data, "train") + first(data, "validation")) == list(range(50))
        assert data.train.inputs.shape[1] == 4
        new = data.test.inputs[data.test.inputs[:, 0] == 119]
        assert new[0, 1:].tolist() == [0, 0, 0]  # a category that training has not
        assert not data.test_varies
    assert len({data.hashes["validation"] for data in drawn}) == 3


def test_a_test_file_may_have_other_order_and_number_types(tmp_path: Path) -> None:
    x = np.arange(60)
    pyarrow.parquet.write_table(pa.table({"a": x, "b": x * 0.5, "y": x % 2}), tmp_path / "train.parquet")
    other = pa.table({"y": x[:20] % 2, "b": x[:20].astype(np.float32), "more": x[:20], "a": x[:20] + 0.5})
    pyarrow.parquet.write_table(other, tmp_path / "test.parquet")
    data = load(f"parquet:{tmp_path / 'train.parquet'}", label="y", test=str(tmp_path / "test.parquet"))
    assert sorted(data.test.inputs.tolist()) == [[row + 0.5, row] for row in range(20)]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (("x,y", "1,a"), r"test\.csv: has no column 'c' as .*train\.csv has, only x, y"),
        (("x,c,y", "1,u,new"), "class 'new' occurs in the test part but not in the training part"),
        (("x,c,y",), "the test part holds no rows"),
    ],
)
def test_a_test_file_that_does_not_fit(tmp_path: Path, contents: tuple[str, ...], message: str) -> None:
    source = f"csv:{csv(tmp_path, 'train.csv', rows(0, 50))}"
    with pytest.raises(ValueError, match=message):
        load(source, label="y", test=csv(tmp_path, "test.csv", list(contents[1:]), contents[0]))


def test_a_column_says_which_rows_are_for_what(tmp_path: Path) -> None:
    words = ("Train", "training", "dev", "TEST", "train")
    lines = [f"{line},{words[row % 5]}" for row, line in enumerate(rows(0, 100))]
    source = f"csv:{csv(tmp_path, 't.csv', lines, 'x,c,y,part')}"
    data = load(source, label="y", split="part")
    assert first(data, "validation") == list(range(2, 100, 5))
    assert first(data, "test") == list(range(3, 100, 5))
    assert first(data, "train") == [row for row in range(100) if row % 5 in (0, 1, 4)]
    assert data.train.inputs.shape[1] == 4
    assert read(source, label="y", split="part").split(4).hashes == data.hashes


def test_without_test_rows_those_for_validation_are_tested_on(tmp_path: Path) -> None:
    lines = [f"{line},{'train' if row % 4 else 'val'}" for row, line in enumerate(rows(0, 100))]
    data = load(f"csv:{csv(tmp_path, 't.csv', lines, 'x,c,y,part')}", label="y", split="part")
    assert first(data, "test") == list(range(0, 100, 4))
    assert any("marked for validation are tested on" in note for note in data.notes)


@pytest.mark.parametrize(
    ("word", "options", "message"),
    [
        ("left", {}, "column 'part' holds 'left' in some rows, expected train, val or test"),
        ("", {}, "column 'part' holds nothing in some rows, expected train, val or test"),
        ("train", {}, "column 'part' names no rows for both training and test"),
        ("test", {"test": "t.csv"}, "split: got a column, and test a file, expected one of the two"),
        ("test", {"time": "x"}, "time: got a column, but the data has a test part of its own"),
    ],
)
def test_a_column_that_does_not_say_so(
    tmp_path: Path, word: str, options: dict[str, Any], message: str
) -> None:
    lines = [f"{line},{'train' if row % 4 else word}" for row, line in enumerate(rows(0, 100))]
    source = csv(tmp_path, "t.csv", lines, "x,c,y,part")
    if "test" in options:
        options = {"test": source}
    with pytest.raises(ValueError, match=message):
        load(f"csv:{source}", label="y", split="part", **options)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.arange(60) % 2 == 0, ("0", "1")),
        (np.where(np.arange(60) % 2, 1, -1), ("-1", "1")),
        (np.array(["no", "yes"] * 30), ("no", "yes")),
    ],
)
def test_arrays_without_parts_are_split_as_tables_are(
    tmp_path: Path, labels: Any, classes: tuple[str, ...]
) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(60.0)[:, None], y=labels, groups=np.arange(60) // 3)
    contents = read(f"npz:{tmp_path / 't.npz'}")
    data = contents.split(1)
    assert (data.classes, contents.test_varies) == (classes, True)
    assert sorted(first(data, "train") + first(data, "validation") + first(data, "test")) == list(range(60))
    assert not {row // 3 for row in first(data, "train")} & {row // 3 for row in first(data, "test")}
    wanted = labels.astype(int) if labels.dtype.kind == "b" else labels
    for row, target in zip(data.test.inputs[:, 0].int().tolist(), data.test.targets.tolist(), strict=True):
        assert data.classes[target] == str(wanted[row])
