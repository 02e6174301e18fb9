"""Sources of tables: Parquet and CSV files, read by Arrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from criterium._checks import choice, nearest
from criterium.data.array import Array
from criterium.data.columns import UNSEEN
from criterium.data.files import existing_file, reason
from criterium.data.raw import Column, Raw, Rows, counted, listed

MOST_CATEGORIES = 1000
"""A text column with more values is an identifier or free text: too wide as one feature a value."""


def read_table(
    path: Path, form: str, label: str | None, groups: str | None = None, time: str | None = None
) -> Raw:
    """Return the rows of a ``"parquet"`` or ``"csv"`` file, classes in the order of their labels."""
    table = _read(path, form)
    if label is None:
        raise ValueError(f"label: not given, expected a column of {path}: {', '.join(table.column_names)}")
    roles: dict[str, str] = {}
    for role, name in (("label", label), ("groups", groups), ("time", time)):
        if name in roles:
            raise ValueError(
                f"got column {name!r} as {roles[name]} and as {role}, expected different columns"
            )
        if name is not None:
            roles[choice(role, name, table.column_names)] = role
    labelled = table.filter(pc.invert(pc.is_null(table[label], nan_is_null=True)))
    notes = []
    if dropped := len(table) - len(labelled):
        notes.append(f"{dropped} rows without a label were left out.")
    if len(labelled) == 0:
        raise ValueError(f"{path}: column {label!r} holds no labels")
    classes, targets = _labels(path, labelled[label], label)
    inputs = labelled.drop_columns(list(roles))
    columns = [_column(path, inputs[name], name) for name in inputs.column_names]
    wide = [column for column in columns if len(column.categories or ()) > MOST_CATEGORIES]
    if wide:
        names = listed([column.name for column in wide])
        notes.append(f"Columns left out, text of more than {MOST_CATEGORIES:,} different values: {names}.")
    kept = tuple(column for column in columns if column not in wide)
    if not kept:
        raise ValueError(
            f"{path}: holds no columns to predict {label!r} from, expected numbers or categories"
        )
    rows = Rows(
        _cells(path, inputs, kept),
        targets,
        None if groups is None else _groups(labelled[groups]),
        None if time is None else _times(path, labelled[time], time),
    )
    return Raw(classes, rows, columns=kept, notes=tuple(notes))


def read_table_cells(path: Path, form: str, columns: tuple[Column, ...]) -> Array:
    """Return the cells of another table with the same columns; it needs no labels."""
    table = _read(path, form)
    for column in columns:
        if column.name not in table.column_names:
            raise ValueError(
                f"{path}: has no column {column.name!r} as the training data has, only"
                f" {', '.join(table.column_names)}{nearest(column.name, table.column_names)}"
            )
    return _cells(path, table, columns)


def _read(path: Path, form: str) -> Any:
    existing_file(path, f"a table in {form} format")
    try:
        if form == "parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                table = file.read()
        else:
            # Arrow infers the types from the first block: let that be the whole file.
            block = min(max(path.stat().st_size, 1), 2**31 - 1)
            table = pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(block_size=block),
                convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True),
            )
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as {form} ({reason(error)})") from error
    names = table.column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: has more than one column {repeated[0]!r}, expected different names")
    return table


def _labels(path: Path, column: Any, name: str) -> tuple[tuple[str, ...], Array]:
    """Return the sorted class names and a class index for each row."""
    if not (_is_text(column.type) or _is_number(column.type)):
        raise ValueError(f"{path}: column {name!r} has type {column.type}, expected text or whole numbers")
    values = _plain(column).to_numpy()
    if values.dtype.kind == "f":
        whole = (values == np.floor(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            raise ValueError(
                f"{path}: column {name!r} holds the label {values[~whole][0]}, expected text or whole numbers"
            )
        values = values.astype(np.int64)
    names, targets = np.unique(values, return_inverse=True)
    return tuple(map(str, names)), targets.astype(np.int64)


def _groups(column: Any) -> Array:
    """Return a number for each row, the same for rows of one group; a row without one is on its own."""
    codes = _plain(column).combine_chunks().dictionary_encode().indices
    numbers = codes.to_numpy(zero_copy_only=False).astype(np.float64)
    alone = np.isnan(numbers)
    numbers[alone] = np.arange(alone.sum()) + (np.nanmax(numbers, initial=-1) + 1)
    whole: Array = numbers.astype(np.int64)
    return whole


def _times(path: Path, column: Any, name: str) -> Array:
    """Return numbers that rise with time."""
    kind = column.type
    if column.null_count:
        raise ValueError(f"{path}: column {name!r} has {counted(column.null_count, 'row')} without a time")
    if pa.types.is_temporal(kind):
        wide = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        column = column.cast(wide)
    elif not _is_number(kind):
        raise ValueError(f"{path}: column {name!r} has type {kind}, expected numbers, dates or times")
    times: Array = _plain(column).to_numpy()
    return times


def _column(path: Path, column: Any, name: str) -> Column:
    if _is_text(column.type):
        return Column(name, tuple(sorted(pc.unique(_plain(column)).drop_null().to_pylist())))
    if _is_number(column.type):
        return Column(name)
    raise ValueError(f"{path}: column {name!r} has type {column.type}, expected numbers, text or booleans")


def _cells(path: Path, table: Any, columns: tuple[Column, ...]) -> Array:
    cells = [
        _numbers(path, table[c.name], c) if c.categories is None else _codes(table[c.name], c)
        for c in columns
    ]
    return np.stack(cells, axis=1)


def _numbers(path: Path, column: Any, known: Column) -> Array:
    if not _is_number(column.type):
        raise ValueError(f"{path}: column {known.name!r} has type {column.type}, expected numbers")
    values = _plain(column).cast(pa.float64(), safe=False).to_numpy()
    # Features are float32; what is beyond its range is as bad as an infinity.
    too_large = np.abs(values) > np.finfo(np.float32).max
    if too_large.any():
        raise ValueError(
            f"{path}: column {known.name!r} has {int(too_large.sum())} rows with an infinite value,"
            " expected finite numbers"
        )
    return np.where(np.isnan(values), np.nan, values)  # one NaN for all, so that equal rows have equal bits


def _codes(column: Any, known: Column) -> Array:
    text = _plain(column).cast(pa.string())
    codes = pc.index_in(text, value_set=pa.array(known.categories, type=pa.string())).to_numpy()
    unseen = np.isnan(codes) & text.is_valid().to_numpy()
    return np.where(unseen, UNSEEN, codes.astype(np.float64))


def _plain(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        return _plain(column.cast(column.type.value_type))
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def _is_text(kind: Any) -> bool:
    return _is_one_of(kind, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def _is_number(kind: Any) -> bool:
    types = pa.types
    return _is_one_of(
        kind, types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null
    )


def _is_one_of(kind: Any, *tests: Callable[[Any], bool]) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(plain) for test in tests)
