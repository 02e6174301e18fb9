"""Cells as the file holds them: numbers stay numbers, labels stay apart, and what was judged is noted."""

from __future__ import annotations

import codecs
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from criterium.data import Dataset, load, read
from criterium.data.text import interpret, trimmed

ROWS = 60


def csv(folder: Path, header: str, rows: list[str], name: str = "t.csv", encoding: str = "utf-8") -> str:
    (folder / name).write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return f"csv:{folder / name}"


def parquet(folder: Path, **columns: Any) -> str:
    pyarrow.parquet.write_table(pa.table(columns), folder / "t.parquet")
    return f"parquet:{folder / 't.parquet'}"


def values(data: Dataset, column: int = 0) -> list[float]:
    return sorted(
        torch.cat([part.inputs for part in (data.train, data.validation, data.test)])[:, column].tolist()
    )


def numbers(*cells: str, **options: Any) -> list[float | None] | None:
    found = interpret(trimmed(pa.array(cells)), **options).values
    return None if found is None else found.to_pylist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1", " 2 ", "-3.5e2", "+.5", "7."), [1, 2, -350, 0.5, 7]),
        (("1", "", "  "), [1, None, None]),
        (
            ("1.5", "?", "NA", "n/a", "NaN", "-", "--", "None", "#N/A", "<NA>", "null", "."),
            [1.5] + [None] * 11,
        ),
        (("999.5", "1,000", "1,234,567.25"), [999.5, 1000, 1234567.25]),
        (("1 000", "2\u00a0500", "3'000"), [1000, 2500, 3000]),
        (("1,5", "2,25", "1,000"), [1.5, 2.25, 1.0]),
        (("2.31", "1,5"), [2.31, 1.5]),
        (("1.234,5", "2,5"), [1234.5, 2.5]),
        (("12%", "5 %", "-0.5%"), [0.12, 0.05, -0.005]),
        (("0.5", "12%"), [0.5, 0.12]),
        (("$1,000", "-$5", "€ 2.5"), [1000, -5, 2.5]),
        (("true", "FALSE", "True"), [True, False, True]),
        (("true", "NA"), [True, None]),
        (("a", "b"), None),
        (("2", "3", "4", "5more"), None),
        (("NA", "?"), None),
        (("0x1f", "1"), None),
    ],
)
def test_numbers_are_read_however_they_are_written(cells: tuple[str, ...], expected: Any) -> None:
    found = numbers(*cells)
    if expected is None or found is None:
        assert found is expected
    else:
        np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-15)


def test_decimal_and_missing_can_be_set() -> None:
    assert numbers("1,000", "2,500", decimal=",") == [1.0, 2.5]
    assert numbers("1.000", "2", decimal=",") == [1000, 2]
    assert numbers("1,000", decimal=".") == [1000]
    assert numbers("1", "unknown", missing={"unknown"}) == [1, None]
    assert numbers("1", "?", missing={"unknown"}) is None


def test_dates_are_numbers() -> None:
    days = numbers("2024-01-31", "", "1969-12-31T23:59:59.5")
    assert days == [
        datetime.datetime(2024, 1, 31),
        None,
        datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000),
    ]
    assert numbers("2024-13-01", "2024-01-01") is None


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        ("?", "Cells that count as missing numbers: a (2 '?')."),
        ("NA", "Cells that count as missing numbers: a (2 'NA')."),
        ("oops", "Cells that are no numbers and count as missing: a (2 'oops')."),
        ("1,000", "Numbers that are written in other forms: a (2 '1,000')."),
        ("1,5", "Numbers that are written in other forms: a (2 '1,5')."),
        ("12%", "Numbers that are written in other forms: a (2 '12%')."),
        ("007", "Columns read as numbers though they have leading zeros, as codes do: a (2 '007')."),
    ],
)
def test_two_odd_cells_leave_a_column_of_numbers_what_it_is(tmp_path: Path, odd: str, note: str) -> None:
    rows = [f'"{odd if row in (7, 50) else row * 0.37}",{row % 7},{row % 2}' for row in range(ROWS)]
    data = load(csv(tmp_path, "a,b,y", rows), label="y")
    assert data.train.inputs.shape[1] <= 3  # a, whether it is missing, b
    assert note in data.notes
    kept = sorted(np.float32(row * 0.37) for row in range(ROWS) if row not in (7, 50))
    assert set(kept) <= set(map(np.float32, values(data)))


def test_text_that_is_mostly_numbers_is_noted(tmp_path: Path) -> None:
    source = parquet(
        tmp_path, a=["?" if row == 7 else str(row % 9) for row in range(ROWS)], y=np.arange(ROWS) % 2
    )
    assert (
        "Text taken as categories though most of it is numbers: a (1 '?')." in load(source, label="y").notes
    )


def test_a_missing_word_of_ones_own(tmp_path: Path) -> None:
    rows = [
        f"{'unknown' if row % 4 == 0 else row},{row % 7},{'x' if row == 5 else 'uv'[row % 2]}"
        for row in range(ROWS)
    ]
    data = load(csv(tmp_path, "a,b,y", rows), label="y", missing="Unknown, x")
    assert data.classes == ("u", "v")
    assert data.train.inputs.shape[1] == 3
    assert "1 row without a label were left out." in data.notes


@pytest.mark.parametrize(
    ("label", "noted"), [("NA", True), ("nan", True), ("null", True), ("?", True), ("AS", False)]
)
def test_a_label_that_may_stand_for_a_missing_one_is_a_class(tmp_path: Path, label: str, noted: bool) -> None:
    names = ("EU", label, "SA", "")
    rows = [f'{row},"{names[row % 4]}"' for row in range(80)]
    data = load(csv(tmp_path, "x,y", rows), label="y")
    assert data.classes == tuple(sorted(names[:3]))
    assert "20 rows without a label were left out." in data.notes
    note = f"Labels that may stand for a missing one but are classes of their own: '{label}' (20 rows)."
    assert (note in data.notes) == noted


@pytest.mark.parametrize(
    ("labels", "classes", "alike"),
    [
        (
            ("01", "1", "001", "2"),
            ("001", "01", "1", "2"),
            "'01' (20 rows) and '1' (20 rows) and '001' (20 rows)",
        ),
        (("1", "true", "0"), ("0", "1", "true"), None),
        (("1", "1.0", "2"), ("1", "1.0", "2"), "'1' (20 rows) and '1.0' (20 rows)"),
        (("10", "9"), ("9", "10"), None),
        (("1.0", "2.0"), ("1", "2"), None),
        (("-1", "+1"), ("-1", "1"), None),
        (("1e3", "x"), ("1e3", "x"), None),
        (
            ("cat", "cat ", "Cat"),
            ("Cat", "cat", "cat "),
            "'cat' (20 rows) and 'cat ' (20 rows) and 'Cat' (20 rows)",
        ),
        (("é", "e\u0301"), ("e\u0301", "é"), r"'é' (20 rows) and 'e\u0301' (20 rows)"),
        (("dog", "d\u200bog"), ("dog", "d\u200bog"), r"'dog' (20 rows) and 'd\u200bog' (20 rows)"),
        ((" yes", " no"), ("no", "yes"), None),
    ],
)
def test_labels_are_text_as_the_file_holds_them(
    tmp_path: Path, labels: tuple[str, ...], classes: tuple[str, ...], alike: str | None
) -> None:
    rows = [f'{row},"{labels[row % len(labels)]}"' for row in range(20 * len(labels))]
    data = load(csv(tmp_path, "x,y", rows), label="y")
    assert (
        data.classes == tuple(sorted(classes, key=classes.index))
        if alike is None
        else set(data.classes) == set(classes)
    )
    counts = sum(
        np.bincount(part.targets, minlength=len(classes)) for part in (data.train, data.validation, data.test)
    )
    assert counts.tolist() == [20] * len(classes)
    found = [note for note in data.notes if "look alike" in note]
    assert found == ([] if alike is None else [f"Labels that look alike are classes of their own: {alike}."])


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"column 'y' holds the label 0\.5, expected text or whole numbers"):
        load(csv(tmp_path, "x,y", [f"{row},{(0.5, 1, 2)[row % 3]}" for row in range(ROWS)]), label="y")


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0"])
@pytest.mark.parametrize("cells", [range(ROWS), range(1, ROWS + 1), [f"row {row}" for row in range(ROWS)]])
def test_a_row_index_without_a_name_is_left_out(tmp_path: Path, name: str, cells: Any) -> None:
    rows = [f"{cell},{row * 7 % 31},{'no' if row < 30 else 'yes'}" for row, cell in enumerate(cells)]
    data = load(csv(tmp_path, f"{name},a,y", rows), label="y")
    assert data.train.inputs.shape[1] == 1
    assert f"Columns left out, a row index: {name if 'U' in name else 'column 1'}." in data.notes


def test_a_column_without_a_name_that_is_no_index_stays(tmp_path: Path) -> None:
    data = load(
        csv(tmp_path, ",a,y", [f"{row % 3},{row * 7 % 31},{row % 2}" for row in range(ROWS)]), label="y"
    )
    assert data.train.inputs.shape[1] == 2


def test_an_empty_column_without_a_name_is_constant(tmp_path: Path) -> None:
    data = load(csv(tmp_path, "a,y,", [f"{row * 7 % 31},{row % 2}," for row in range(ROWS)]), label="y")
    assert data.train.inputs.shape[1] == 1
    assert "Columns left out, constant in training: column 3." in data.notes


@pytest.mark.parametrize("name", ["__index_level_0__", "when"])
def test_the_index_that_pandas_leaves_in_parquet_is_left_out(tmp_path: Path, name: str) -> None:
    table = pa.table({"a": np.arange(ROWS) * 7 % 31, "y": np.arange(ROWS) // 30, name: np.arange(ROWS)})
    table = table.replace_schema_metadata({"pandas": f'{{"index_columns": ["{name}"], "columns": []}}'})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    data = load(f"parquet:{tmp_path / 't.parquet'}", label="y")
    assert data.train.inputs.shape[1] == 1
    assert f"Columns left out, a row index: {name}." in data.notes
    assert load(f"parquet:{tmp_path / 't.parquet'}", label="y", time=name).test.inputs.shape[1] == 1


def test_columns_that_give_the_class_away_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(300) % 3)
    columns = {
        "leak": np.where(np.arange(300) == 7, 9.0, y + 0.1 * rng.random(300)),
        "code": [f"c{one}{row % 4}" for row, one in enumerate(y)],
        "number": 1000 - np.arange(300),
        "customer": rng.permutation(300),
        "fair": rng.normal(size=300),
        "useful": y + rng.normal(size=300),
        "colour": [("red", "blue")[row % 2] for row in range(300)],
        "note": [f"text {row}" for row in range(300)],
    }
    notes = load(parquet(tmp_path, **columns, y=y), label="y").notes
    told = [note.rpartition(": ")[2] for note in notes if note.startswith("Columns")]
    assert told == ["note.", "number.", "customer.", "leak, code."]


def test_a_rare_class_makes_no_column_a_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    notes = load(
        parquet(tmp_path, a=rng.normal(size=1000), y=(np.arange(1000) % 100 == 0) * 1), label="y"
    ).notes
    assert not any("alone tell" in note for note in notes)


@pytest.mark.parametrize(
    "column",
    [
        1_726_000_000_000 + 250 * np.arange(128),
        1_726_000_000 + np.arange(128),
        100_100_000.0 + np.arange(128),
        2**53 + 1 + np.arange(128),
        -(2**60) + np.arange(128),
        np.iinfo(np.int64).max - np.arange(128),
        1e300 * np.arange(1, 129),
        1e-200 * np.arange(128),
        pa.array([datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=row) for row in range(128)]),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv", "npz"])
def test_no_two_values_become_one(tmp_path: Path, column: Any, form: str) -> None:
    order, y = np.random.default_rng(0).permutation(128), np.arange(128) % 2
    column = pa.array(column).take(pa.array(order))
    if form == "npz" and not pa.types.is_timestamp(column.type):
        x = column.to_numpy()[:, None]
        np.savez(tmp_path / "t.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
        data = load(f"npz:{tmp_path / 't.npz'}")
    elif form == "csv":
        data = load(
            csv(tmp_path, "a,y", [f"{cell},{one}" for cell, one in zip(column, y, strict=True)]), label="y"
        )
    else:
        data = load(parquet(tmp_path, a=column, y=y), label="y")
    scaled = [
        ((part.inputs - data.center) / data.scale)[:, 0] for part in (data.train, data.validation, data.test)
    ]
    assert len(torch.cat(scaled).unique()) == 128
    ranks = (
        torch.cat([part.inputs[:, 0] for part in (data.train, data.validation, data.test)])
        .argsort()
        .argsort()
    )
    # Standardised values lie on a line over the rank, as the file's do.
    line = np.polyfit(ranks.numpy(), torch.cat(scaled).numpy(), 1)
    np.testing.assert_allclose(np.polyval(line, ranks), torch.cat(scaled), atol=1e-4)
    assert not any("constant" in note or "same input" in note for note in data.notes)


def test_all_columns_constant_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as no column varies"):
        load(parquet(tmp_path, a=np.ones(ROWS), b=["x"] * ROWS, y=np.arange(ROWS) % 2), label="y")


def test_values_far_beyond_training_are_refused_by_name(tmp_path: Path) -> None:
    contents = read(
        parquet(tmp_path, far=np.r_[np.arange(ROWS - 1.0), 1e300], y=np.arange(ROWS) % 2), label="y"
    )
    said = set()
    for repeat in range(12):
        try:
            assert contents.split(repeat).train.inputs.isfinite().all()
        except ValueError as error:
            said.add(str(error).partition(" (in ")[0])
    assert said == {"data: column 'far' has values far beyond those of training"}


def test_dates_and_columns_of_other_types_do_not_stop_a_table(tmp_path: Path) -> None:
    start = datetime.date(2024, 1, 1)
    days = [start + datetime.timedelta(row * 5 % 59) for row in range(ROWS)]
    source = parquet(
        tmp_path,
        day=days,
        raw=pa.array([b"x"] * ROWS),
        pair=pa.array([{"a": 1}] * ROWS),
        view=pa.array(["u", "v"] * 30, pa.string_view()),
        y=np.arange(ROWS) // 2 % 2,
    )
    data = load(source, label="y")
    assert "Columns of dates read as numbers: day (with month, weekday)." in data.notes
    note = "Columns left out, neither numbers, text nor dates: raw (binary), pair (struct<a: int64>)."
    assert note in data.notes
    inputs = torch.cat([part.inputs for part in (data.train, data.validation, data.test)])
    expected = sorted(((day - datetime.date(1970, 1, 1)).days, day.month, day.weekday()) for day in days)
    assert sorted(map(tuple, inputs[:, :3].int().tolist())) == expected
    assert inputs.shape[1] == 5  # with the two categories of `view`


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.int64()), pa.list_(pa.float64(), 3)]
)
def test_lists_of_numbers_are_vectors(tmp_path: Path, kind: Any) -> None:
    vectors = [[row, row % 7, -row] for row in range(ROWS)]
    columns = {"v": pa.array(vectors, kind), "ragged": [[1.0] * (1 + row % 2) for row in range(ROWS)]}
    source = parquet(tmp_path, **columns, y=np.arange(ROWS) % 2)
    data = load(source, label="y")
    inputs = torch.cat([part.inputs for part in (data.train, data.validation, data.test)])
    assert sorted(inputs.tolist()) == vectors
    assert "Columns left out, neither numbers, text nor dates: ragged (list<element: double>)." in data.notes
    (tmp_path / "ood").mkdir()
    other = parquet(tmp_path / "ood", v=pa.array([[5, 6, 7]], kind))
    ood = load(source, label="y", ood=other).ood
    assert ood is not None
    assert ood.tolist() == [[5, 6, 7]]
    short = parquet(tmp_path / "ood", v=[[5.0, 6.0]])
    with pytest.raises(ValueError, match="column 'v' holds no lists as long as in training"):
        load(source, label="y", ood=short)


def test_columns_are_left_out_on_request(tmp_path: Path) -> None:
    source = parquet(
        tmp_path,
        a=np.arange(ROWS) % 7,
        **{"b, c": np.arange(ROWS) % 5},
        d=np.arange(ROWS) % 3,
        y=np.arange(ROWS) % 2,
    )
    assert load(source, label="y", drop="b, c,d").train.inputs.shape[1] == 1
    with pytest.raises(ValueError, match="drop: got 'e', expected one of a, b, c, d, y"):
        load(source, label="y", drop="e")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_separators_are_found_out_and_noted(tmp_path: Path, separator: str, name: str) -> None:
    rows = [
        separator.join((f"{row * 0.37:.2f}".replace(".", ","), str(row % 7), str(row % 2)))
        for row in range(ROWS)
    ]
    source = csv(tmp_path, separator.join("xzy"), rows)
    data = load(source, label="y")
    assert f"The cells of the file are separated by {name}." in data.notes
    np.testing.assert_allclose(values(data), [row * 0.37 for row in range(ROWS)], atol=1e-5)
    assert load(source, label="y", separator=separator).hashes == data.hashes
    with pytest.raises(ValueError, match="separator: got 'ab', expected one character"):
        load(source, label="y", separator="ab")


def test_line_breaks_and_separators_between_quotes_are_text(tmp_path: Path) -> None:
    rows = [f'"a;\nb,{row % 2}",{row},"{"yes" if row % 2 else "no, never"}"' for row in range(ROWS)]
    data = load(csv(tmp_path, '"one\ntwo",x,y', rows), label="y")
    assert data.classes == ("no, never", "yes")
    assert data.train.inputs.shape[1] == 3


@pytest.mark.parametrize(
    ("encoding", "mark", "note"),
    [
        ("utf-8", b"", None),
        ("utf-8", codecs.BOM_UTF8, None),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16"),
        ("utf-16-le", b"", "utf-16-le"),
        ("latin-1", b"", "windows-1252"),
    ],
)
def test_encodings_are_found_out_and_noted(
    tmp_path: Path, encoding: str, mark: bytes, note: str | None
) -> None:
    text = "größe,y\n" + "".join(f"{row},{'ja' if row % 2 else 'möglich'}\n" for row in range(ROWS))
    (tmp_path / "t.csv").write_bytes(mark + text.encode(encoding))
    data = load(f"csv:{tmp_path / 't.csv'}", label="y")
    assert data.classes == ("ja", "möglich")
    told = [said for said in data.notes if "was read as" in said]
    assert told == (
        [] if note is None else [f"The file was read as {note}; if names look wrong, give its encoding."]
    )
    if not mark:
        assert load(f"csv:{tmp_path / 't.csv'}", label="y", encoding=encoding).classes == ("ja", "möglich")


def test_an_encoding_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    source = csv(tmp_path, "größe,y", ["1,2"], encoding="latin-1")
    with pytest.raises(ValueError, match=r"is no utf-8 text .* at byte 2.*, expected it in another"):
        load(source, label="y", encoding="utf-8")
    with pytest.raises(ValueError, match="encoding: got 'klingon', expected a name such as utf-8"):
        load(source, label="y", encoding="klingon")


def test_a_held_out_class_may_hold_a_comma(tmp_path: Path) -> None:
    names = ("Smith, John", "Smith", "Doe", "Roe")
    rows = [f'{row},"{names[row % 4]}"' for row in range(80)]
    source = csv(tmp_path, "x,y", rows)
    assert load(source, label="y", ood="classes:Smith, John").classes == ("Doe", "Roe", "Smith")
    assert load(source, label="y", ood="classes:Doe, Smith, John").classes == ("Roe", "Smith")


def test_near_equal_rows_on_both_sides_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 10)
    place = rng.normal(size=(60, 4))[who] + 0.05 * rng.normal(size=(600, 4))
    columns = dict(zip("abcd", place.T, strict=True))
    source = parquet(tmp_path, **columns, who=[f"p{one}" for one in who], y=who % 2)
    assert any(
        "almost the same as a training row" in note for note in load(source, label="y", drop="who").notes
    )
    assert not any("almost the same" in note for note in load(source, label="y", groups="who").notes)
    columns = dict(zip("abcd", rng.normal(size=(4, 600)), strict=True))
    assert not any(
        "almost the same" in note for note in load(parquet(tmp_path, **columns, y=who % 2), label="y").notes
    )


def test_data_dir_is_refused_where_nothing_reads_it(tmp_path: Path) -> None:
    source = csv(tmp_path, "x,y", ["1,2"])
    with pytest.raises(ValueError, match=r"data_dir: got '/nope' for csv:.*, expected it only with mnist or"):
        load(source, label="y", data_dir="/nope")
