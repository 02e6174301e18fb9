"""Sources of tables: rows of a Parquet or CSV file, their labels, groups and times, and what is noted."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from criterium._checks import choice, nearest
from criterium.data.array import Array
from criterium.data.cells import Reader, group_numbers, is_number, is_text, kind_name, moments, plain
from criterium.data.csv_file import read_csv
from criterium.data.files import reason
from criterium.data.labels import number_classes, text_classes
from criterium.data.limits import CELL, fits
from criterium.data.names import PART, split_names
from criterium.data.parquet_file import read_parquet
from criterium.data.raw import Column, Raw, Rows, counted, listed, shown
from criterium.data.suspects import column_notes
from criterium.data.text import MISSING, trimmed

_NO_NAME = re.compile(r"(Unnamed: \d+(_level_\d+)?(\.\d+)?)?")


@dataclass(frozen=True)
class TableOptions:
    """How a table is read; see `criterium.data.Source`."""

    label: str | None = None
    groups: str | None = None
    time: str | None = None
    split: str | None = None
    test: str | None = None
    drop: str | None = None
    missing: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None

    @property
    def tokens(self) -> frozenset[str]:
        """What stands for a missing cell, in lower case."""
        if self.missing is None:
            return MISSING
        return frozenset(token.strip().lower() for token in self.missing.split(","))


def read_table(path: Path, form: str, options: TableOptions) -> Raw:
    """Return the rows of a ``"parquet"`` or ``"csv"`` file, classes in the order of their labels."""
    file, parts = _open(path, form, options), None
    if options.test is not None:
        file, parts = _with_test(file, path, form, options)
    roles = _roles(path, file.names, options)
    if "split" in roles:
        parts = _parts(path, plain(file.column(roles["split"]), path), roles["split"])
    label = plain(file.column(roles["label"]), path)
    labelled = _has_label(label, form, options)
    if not labelled.any():
        raise ValueError(f"{path}: column {roles['label']!r} holds no labels")
    notes = list(file.notes)
    if dropped := int((~labelled).sum()):
        notes.append(f"{counted(dropped, 'row')} without a label were left out.")
        file, label = file.take(labelled), label.filter(pa.array(labelled))
        parts = None if parts is None else parts[labelled]
    classes, targets, label_notes = _classes(path, label, roles["label"])

    reader = Reader(path, form == "csv", options.tokens, options.decimal)
    left_out = {*roles.values(), *_dropped(options.drop, file.names)}
    for name in file.names:
        if name in left_out:
            continue
        if name in file.index or (name in file.unnamed and _numbers_rows(path, file.column(name))):
            reader.left_out.setdefault("a row index", []).append(name)
        else:
            reader.add(name, file.column(name))
    if not reader.columns:
        raise ValueError(
            f"{path}: holds no columns to predict {roles['label']!r} from, expected numbers or categories"
            + "".join(f"; {note.removesuffix('.')}" for note in reader.notes())
        )
    columns, cells = tuple(reader.columns), np.stack(reader.cells, axis=1)
    groups = group_numbers(path, file.column(roles["groups"]), form == "csv") if "groups" in roles else None
    times = None
    if "time" in roles:
        times = moments(path, file.column(roles["time"]), roles["time"], form == "csv")
    notes += [*label_notes, *reader.notes(), *column_notes(columns, cells, targets)]
    rows = Rows(cells, targets, groups, times)
    if parts is None:
        return Raw(classes, rows, columns=columns, notes=tuple(notes))
    found = {part: rows[parts == part] for part in ("train", "val", "test")}
    if len(found["test"]) == 0:
        notes.append("The rows marked for validation are tested on: there are none for a test part.")
        found |= {"test": found["val"], "val": found["test"]}
    val = found["val"] if len(found["val"]) else None
    return Raw(classes, found["train"], val, found["test"], columns=columns, notes=tuple(notes))


def read_table_cells(path: Path, form: str, columns: tuple[Column, ...], options: TableOptions) -> Array:
    """Return the cells of another table with the same columns; it needs no labels."""
    file = _open(path, form, options)
    reader = Reader(path, form == "csv", options.tokens, options.decimal)
    held = set(file.names)
    for column in columns:
        if column.name not in held:
            raise ValueError(
                f"{path}: has no column {column.name!r} as the training data has, only"
                f" {listed(file.names, 50)}{nearest(column.name, file.names)}"
            )
    return np.stack([reader.known(c.title, file.column(c.name), c) for c in columns], axis=1)


@dataclass(frozen=True)
class _File:
    """A table with the names of its columns, and which of these may be no more than a row index."""

    table: Any
    names: list[str]
    index: set[str]
    unnamed: set[str]
    notes: tuple[str, ...]

    def column(self, name: str) -> Any:
        return self.table.column(self._position[name])

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def take(self, rows: Array) -> _File:
        return replace(self, table=self.table.filter(pa.array(rows)))


def _open(path: Path, form: str, options: TableOptions) -> _File:
    index: set[str] = set()
    notes: list[str] = []
    if form == "csv":
        table, notes = read_csv(path, options.separator, options.encoding)
    else:
        table, index = read_parquet(path)
    rows, columns = table.shape
    fits(f"{path}: {rows:,} rows of {columns:,} columns", CELL * rows * columns)
    names = [name or f"column {position + 1}" for position, name in enumerate(table.column_names)]
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{path}: has more than one column {name!r}, expected different names")
    given = zip(names, table.column_names, strict=True)
    unnamed = {name for name, written in given if _NO_NAME.fullmatch(written)}
    return _File(table, names, index, unnamed, tuple(notes))


def _with_test(file: _File, path: Path, form: str, options: TableOptions) -> tuple[_File, Array]:
    """Return the rows of two files in one table, and the part that each is of."""
    test_path = Path(str(options.test)).expanduser()
    test = _open(test_path, form, options)
    if missing := [name for name in file.names if name not in set(test.names)]:
        raise ValueError(
            f"{test_path}: has no column {missing[0]!r} as {path} has, only {listed(test.names, 50)}"
        )
    try:
        theirs = pa.table([test.column(name) for name in file.names], file.names)
        both = pa.concat_tables([file.table.rename_columns(file.names), theirs], promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"{test_path}: has columns of other types than {path} ({reason(error)})") from error
    parts = np.repeat(["train", "test"], [len(file.table), len(test.table)])
    return replace(file, table=both), parts


def _parts(path: Path, column: Any, name: str) -> Array:
    """Return the part, train, val or test, that each row is of."""
    if not is_text(column.type):
        raise ValueError(
            f"{path}: column {name!r} holds {kind_name(column.type)}, expected train, val or test"
        )
    codes = trimmed(column).dictionary_encode()
    words = [PART.get(word.lower(), "") for word in codes.dictionary.to_pylist()]
    if codes.null_count or not all(words):
        wrong = "nothing" if codes.null_count else shown(codes.dictionary[words.index("")].as_py())
        raise ValueError(f"{path}: column {name!r} holds {wrong} in some rows, expected train, val or test")
    parts: Array = np.array(words)[codes.indices.to_numpy()]
    if not {"train"} < set(parts.tolist()):
        raise ValueError(f"{path}: column {name!r} names no rows for both training and test")
    return parts


def _roles(path: Path, names: list[str], options: TableOptions) -> dict[str, str]:
    """Return the columns that are no features, by what they are."""
    if options.label is None:
        raise ValueError(f"label: not given, expected a column of {path}: {listed(names, 50)}")
    roles: dict[str, str] = {}
    if options.split is not None and options.test is not None:
        raise ValueError("split: got a column, and test a file, expected one of the two")
    for role in ("label", "groups", "time", "split"):
        name = getattr(options, role)
        if name is None:
            continue
        for other in (other for other, taken in roles.items() if taken == name):
            raise ValueError(f"{role}: got the column {name!r}, which is the {other} already")
        roles[role] = choice(role, name, names)
    return roles


def _dropped(drop: str | None, names: list[str]) -> set[str]:
    return {choice("drop", name, names) for name in split_names(drop, names)} if drop else set()


def _has_label(label: Any, form: str, options: TableOptions) -> Array:
    if is_text(label.type):
        texts = trimmed(label) if form == "csv" else pc.if_else(pc.is_valid(trimmed(label)), label, None)
        held: Array = texts.is_valid().to_numpy(zero_copy_only=False)
        if options.missing is not None:
            absent = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(options.tokens), texts.type))
            held &= ~absent.to_numpy(zero_copy_only=False)
        return held
    valid: Array = pc.invert(pc.is_null(label, nan_is_null=True)).to_numpy(zero_copy_only=False)
    return valid


def _classes(path: Path, label: Any, name: str) -> tuple[tuple[str, ...], Array, list[str]]:
    if is_text(label.type):
        return text_classes(path, label, name)
    if not is_number(label.type):
        raise ValueError(
            f"{path}: column {name!r} holds {kind_name(label.type)}, expected text or whole numbers"
        )
    classes, targets = number_classes(path, label.to_numpy(zero_copy_only=False), name)
    return classes, targets, []


def _numbers_rows(path: Path, column: Any) -> bool:
    """Whether a column differs in every row, as a row index does."""
    values = plain(column, path)
    return (is_text(values.type) or is_number(values.type)) and len(pc.unique(values)) == len(values)
