"""Parquet and CSV: features fitted on the training rows, labels, and one line for what is wrong."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from criterium.data import Dataset, load
from criterium.data.columns import Column, fit

Columns = dict[str, Any]


def write(folder: Path, columns: Columns, form: str = "parquet", name: str = "table") -> str:
    path = folder / f"{name}.{form}"
    table = pa.table(columns)
    if form == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)
    return f"{form}:{path}"


def columns(rows: int = 60, **changes: Any) -> Columns:
    made = {
        "number": [float(row) for row in range(rows)],
        "colour": [("red", "green", "blue")[row % 3] for row in range(rows)],
        "y": [("yes", "no")[row % 2] for row in range(rows)],
    } | changes
    return {name: values for name, values in made.items() if values is not None}


def all_inputs(data: Dataset) -> np.ndarray:
    return torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs]).numpy()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_numbers_stay_and_categories_become_one_feature_each(tmp_path: Path, form: str) -> None:
    data = load(write(tmp_path, columns(), form), label="y")
    assert data.classes == ("no", "yes")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [38, 10, 12]
    inputs = all_inputs(data)
    targets = torch.cat([data.train.targets, data.validation.targets, data.test.targets]).numpy()
    order = inputs[:, 0].argsort()
    rows = np.arange(60)
    np.testing.assert_array_equal(inputs[order, 0], rows)
    hot = [rows % 3 == code for code in (2, 1, 0)]  # blue, green, red
    np.testing.assert_array_equal(inputs[order, 1:].T, hot)
    np.testing.assert_array_equal(targets[order], rows % 2 == 0)


def test_missing_numbers_become_the_median_with_an_indicator() -> None:
    nan = np.nan
    encode, _ = fit((Column("a"), Column("b")), np.array([[1, 5], [nan, 6], [2, 7], [9, 8.0]]))
    np.testing.assert_array_equal(encode(np.array([[nan, nan], [4.0, 4.0]])), [[2, 1, 6.5], [4, 0, 4]])


def test_categories_are_those_of_training_with_missing_as_one_of_them() -> None:
    column = Column("a", ("x", "y", "z"))
    encode, _ = fit((column,), np.array([[0], [2], [np.nan]]))
    cells = np.array([[0], [1], [2], [np.nan], [-1.0]])  # x, y unseen, z, missing, of another file
    np.testing.assert_array_equal(encode(cells), [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    encode, _ = fit((column,), np.array([[0], [2], [0]]))
    np.testing.assert_array_equal(encode(np.array([[np.nan], [2]])), [[0, 0], [0, 1]])


def test_columns_that_do_not_vary_are_left_out() -> None:
    cells = np.array([[7, 0, np.nan, 1], [7, 0, np.nan, 2.0]])
    encode, notes = fit((Column("same"), Column("text", ("x",)), Column("void"), Column("b")), cells)
    np.testing.assert_array_equal(encode(np.array([[5, 0, 3.0, 9.0]])), [[9]])
    assert notes == ["Columns left out, constant in training: same, text, void."]
    with pytest.raises(ValueError, match="data: no column varies over the training rows"):
        fit((Column("same"),), cells[:, :1])


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_missing_cells_of_a_file(tmp_path: Path, form: str) -> None:
    number = [None if row % 4 == 0 else float(row) for row in range(60)]
    colour = [None if row % 5 == 0 else "red" for row in range(60)]
    source = write(tmp_path, columns(number=number, colour=colour, other=list(range(60))), form)
    inputs = all_inputs(load(source, label="y"))
    order = inputs[:, -1].argsort()
    filled, missing, red, colourless = inputs[order, :4].T
    rows = np.arange(60)
    np.testing.assert_array_equal(missing, rows % 4 == 0)
    np.testing.assert_array_equal(filled[rows % 4 != 0], rows[rows % 4 != 0])
    assert len(set(filled[rows % 4 == 0])) == 1
    np.testing.assert_array_equal(red, rows % 5 != 0)
    np.testing.assert_array_equal(colourless, rows % 5 == 0)


def test_every_plain_type_of_column(tmp_path: Path) -> None:
    rows = range(60)
    made = columns(
        flag=[row % 2 == 0 for row in rows],
        whole=pa.array([row * 2**50 for row in rows], pa.uint64()),
        half=pa.array(np.arange(60, dtype=np.float16)),
        money=pa.array([row * 2 for row in rows], pa.decimal128(10, 2)),
        coded=pa.array(["u" if row < 30 else "v" for row in rows]).dictionary_encode(),
        large=pa.array(["s" if row < 20 else "t" for row in rows], pa.large_string()),
        void=pa.nulls(60),
    )
    data = load(write(tmp_path, made), label="y")
    inputs = all_inputs(data)
    row = inputs[:, 0]
    expected = np.stack(
        [row % 2 == 0, row * 2.0**50, row, row * 2, row < 30, row >= 30, row < 20, row >= 20], axis=1
    )
    np.testing.assert_array_equal(inputs[:, 4:], expected)
    assert "Columns left out, constant in training: void." in data.notes


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([10, 9], ("9", "10")),
        ([1.0, -2.0], ("-2", "1")),
        ([True, False], ("False", "True")),
        (["b", "a"], ("a", "b")),
        (pa.array(["b", "a"] * 30).dictionary_encode(), ("a", "b")),
        (pa.array([3, 2] * 30, pa.decimal128(5, 1)), ("2", "3")),
    ],
)
def test_labels_are_sorted_as_what_they_are(tmp_path: Path, values: Any, classes: tuple[str, ...]) -> None:
    data = load(write(tmp_path, columns(y=values * 30 if isinstance(values, list) else values)), label="y")
    assert data.classes == classes
    even = data.train.inputs[:, 0] % 2 == 0
    assert (data.train.targets[even] == 1).all()  # each list begins with the label that sorts last
    assert (data.train.targets[~even] == 0).all()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_rows_without_a_label_are_dropped_and_counted(tmp_path: Path, form: str) -> None:
    y = [None if row >= 50 else row % 2 for row in range(60)]
    data = load(write(tmp_path, columns(y=y), form), label="y")
    assert sorted(all_inputs(data)[:, 0]) == list(range(50))
    assert data.notes[0] == "10 rows without a label were left out."


def test_a_label_that_is_not_a_number_is_missing(tmp_path: Path) -> None:
    y = np.array([np.nan if row >= 50 else row % 2 for row in range(60)])
    data = load(write(tmp_path, columns(y=pa.array(y))), label="y")
    assert data.classes == ("0", "1")
    assert data.notes[0] == "10 rows without a label were left out."


def test_identifiers_are_left_out_so_that_equal_rows_are_found(tmp_path: Path) -> None:
    rows = 3000
    made = columns(rows, number=[row // 2 for row in range(rows)], name=[f"id {row}" for row in range(rows)])
    made["colour"] = made["y"] = ["red" if row // 2 % 2 else "blue" for row in range(rows)]
    data = load(write(tmp_path, made), label="y")
    assert data.train.inputs.shape[1] == 3
    assert data.notes[0] == "Columns left out, text of more than 1,000 different values: name."
    assert any(note.startswith("3000 of 3000 rows have the same input as another row") for note in data.notes)


def test_a_csv_column_that_turns_into_fractions_late_is_still_a_number(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    lines = [f"{row},{'ab'[row % 2]},{'x' * 40}" for row in range(40_000)]  # more than Arrow's first block
    lines[-1] = "0.5,a," + "x" * 40
    path.write_text("n,y,pad\n" + "\n".join(lines) + "\n")
    data = load(f"csv:{path}", label="y")
    assert data.train.inputs.shape[1] == 1
    assert 0.5 in all_inputs(data)


def test_rows_of_another_table_take_the_same_columns(tmp_path: Path) -> None:
    source = write(tmp_path, columns())
    other = {"extra": [1, 2], "colour": ["blue", "mauve"], "number": [-1, None]}
    for form in ("parquet", "csv"):
        data = load(source, label="y", ood=write(tmp_path, other, form, "other"))
        assert data.ood is not None
        median = float(data.train.inputs[:, 0].double().quantile(0.5))
        np.testing.assert_array_equal(data.ood.numpy(), [[-1, 1, 0, 0], [median, 0, 0, 0]])
        assert data.hashes.keys() == {"train", "validation", "test", "ood", "names"}


def test_numbers_of_another_table_may_stand_for_text(tmp_path: Path) -> None:
    source = write(tmp_path, columns(colour=[str(row % 3) for row in range(60)]))
    data = load(source, label="y", ood=write(tmp_path, {"number": [900.5], "colour": [2]}, name="other"))
    assert data.ood is not None
    np.testing.assert_array_equal(data.ood.numpy(), [[900.5, 0, 0, 1]])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"number": [1.0], "color": ["red"]},
            "has no column 'colour' as the training data has, only number, c",
        ),
        ({"number": ["one"], "colour": ["red"]}, "column 'number' holds text, expected numbers"),
        (
            {"number": pa.array([], pa.float64()), "colour": pa.array([], pa.string())},
            "holds no rows, expected",
        ),
    ],
)
def test_another_table_that_does_not_fit(tmp_path: Path, other: Columns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, columns()), label="y", ood=write(tmp_path, other, name="other"))


@pytest.mark.parametrize(
    ("changes", "label", "message"),
    [
        ({}, None, "label: not given, expected a column of "),
        ({}, "Y", "label: got 'Y', expected one of number, colour, y; did you mean 'y'?"),
        (
            {"number": [np.inf, -np.inf] + [0.0] * 58},
            "y",
            "column 'number' has 2 rows with an infinite value",
        ),
        (
            {"y": [datetime.date(2020, 1, 1)] * 60},
            "y",
            "column 'y' holds values of type date32[day], expected text or whole",
        ),
        ({"y": [0.5, 1.0] * 30}, "y", "column 'y' holds the label 0.5, expected text or whole numbers"),
        ({"y": [np.inf, 1.0] * 30}, "y", "column 'y' holds the label inf, expected text or whole numbers"),
        ({"y": [None] * 60}, "y", "column 'y' holds no labels"),
        ({"y": ["a"] * 60}, "y", "data: got one class, 'a', expected at least two"),
        ({"y": ["a"] * 58 + ["b"] * 2}, "y", "data: class 'b' has 2 rows, expected at least 3"),
        ({"number": None, "colour": None}, "y", "holds no columns to predict 'y' from"),
    ],
)
def test_bad_tables_get_one_line(tmp_path: Path, changes: Columns, label: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(write(tmp_path, columns(**changes)), label=label)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_bad_files_get_one_line(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"table.{form}"
    with pytest.raises(ValueError, match=f"table.{form}: no such file, expected a table in {form} format"):
        load(f"{form}:{path}", label="y")
    for contents in (b"", {"parquet": b"PAR1 and no more", "csv": b"a,y\n1,2\n1,2,3\n"}[form]):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=rf"table\.{form}: cannot be read as {form}") as caught:
            load(f"{form}:{path}", label="y")
        assert "\n" not in str(caught.value)


def test_infinite_numbers_in_csv_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,y\n" + "1,u\n2,v\n" * 10 + "inf,u\n")
    with pytest.raises(ValueError, match="column 'a' has 1 row with an infinite value"):
        load(f"csv:{tmp_path / 'table.csv'}", label="y")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,a,y\n1,2,3\n")
    with pytest.raises(ValueError, match="has more than one column 'a', expected different names"):
        load(f"csv:{tmp_path / 'table.csv'}", label="y")


def test_a_class_of_a_table_held_out_gives_rows_in_the_fitted_columns(tmp_path: Path) -> None:
    y = [("yes", "no", "rare")[0 if row % 2 else 1 if row < 50 else 2] for row in range(60)]
    colour = ["mauve" if label == "rare" else "red" if row % 4 else "blue" for row, label in enumerate(y)]
    data = load(write(tmp_path, columns(y=y, colour=colour)), label="y", ood="classes:rare")
    assert data.ood is not None
    np.testing.assert_array_equal(data.ood.numpy(), [[row, 0, 0] for row in (50, 52, 54, 56, 58)])
    assert data.classes == ("no", "yes")
