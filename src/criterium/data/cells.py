"""The columns of a table as a matrix of numbers, and what a reader must know of how they were read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from criterium.data.array import Array
from criterium.data.columns import UNSEEN
from criterium.data.limits import CELL, fits
from criterium.data.raw import Column, counted, listed, shown
from criterium.data.text import MISSING, TEXT, Reading, exact, interpret, leading_zeros, trimmed, words_alone

MOST_CATEGORIES = 1000
"""A text column with more values is an identifier or free text: too wide as one feature a value."""

_LONGEST = 4096  # places of a list that become features
_FEW = 20  # in fewer rows, text that differs in every row may be a category
_PARTS = {"month": pc.month, "weekday": pc.day_of_week, "hour": pc.hour}


@dataclass
class Reader:
    """Turns columns into cells, and collects what is to be noted.

    `as_text` says that the file holds nothing but text (CSV), of which numbers have to be made; the types of
    other files are believed.
    """

    path: Path
    as_text: bool
    missing: Collection[str] = MISSING
    decimal: str | None = None
    columns: list[Column] = field(default_factory=list)
    cells: list[Array] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, column: Any) -> None:
        """Read a column of the file, or leave it out."""
        values = plain(column, self.path)
        if is_text(values.type):
            cells, reading = self._read_text(values)
            if not self.as_text or reading.values is None:
                self._add_categories(name, cells if self.as_text else values)
                self._remark_numbers(name, reading)
                return
            self._remark(name, reading, cells)
            values = reading.values
        if pa.types.is_temporal(values.type):
            self._add_times(name, values)
        elif is_number(values.type):
            self._keep(Column(name, origin=origin(values)), values)
        elif (width := _vector_width(values)) > 0:
            fits(f"{self.path}: column {name!r}", CELL * width * len(values))
            for place in range(width):
                self._keep(Column(name, part=str(place)), _element(values, place))
        else:
            self._leave_out("neither numbers, text nor dates", f"{name} ({values.type})")

    def known(self, name: str, column: Any, like: Column) -> Array:
        """Return the cells of a column of another file, in the form of `like`."""
        values = plain(column, self.path)
        if like.categories is not None:
            return _codes(trimmed(values) if self.as_text else values.cast(TEXT), like.categories)
        if self.as_text and is_text(values.type):
            reading = interpret(trimmed(values), self.missing, self.decimal)
            if reading.values is None:
                other = shown(next(iter(reading.others), ""))
                raise ValueError(f"{self.path}: column {name!r} holds text such as {other}, expected numbers")
            values = reading.values
        if like.part is not None and like.part.isdecimal():
            if _vector_width(values) <= int(like.part):
                raise ValueError(f"{self.path}: column {like.name!r} holds no lists as long as in training")
            values = _element(values, int(like.part))
        if not (is_number(values.type) or pa.types.is_temporal(values.type)):
            raise ValueError(f"{self.path}: column {name!r} holds {kind_name(values.type)}, expected numbers")
        if like.part in _PARTS:
            values = _PARTS[like.part](values)
        return self._numbers(name, values, like.origin)

    def notes(self) -> list[str]:
        """Return what a reader must know of the columns."""
        return [f"Columns left out, {why}: {listed(names)}." for why, names in self.left_out.items()] + [
            f"{what}: {listed(names)}." for what, names in self.remarks.items()
        ]

    def _read_text(self, values: Any) -> tuple[Any, Reading]:
        if self.as_text and self.decimal != ",":
            try:  # most columns are plain numbers, and need not be trimmed
                return values, Reading(exact(values), len(values))
            except pa.ArrowInvalid:
                pass
            if words_alone(values, self.missing):
                return values, Reading(None, texts=len(values))
        cells = trimmed(values)
        return cells, interpret(cells, self.missing, self.decimal)

    def _keep(self, column: Column, values: Any) -> None:
        self.columns.append(column)
        self.cells.append(self._numbers(column.title, values, column.origin))

    def _leave_out(self, why: str, name: str) -> None:
        self.left_out.setdefault(why, []).append(name)

    def _add_categories(self, name: str, texts: Any) -> None:
        names = pc.unique(texts).drop_null()
        if len(names) > MOST_CATEGORIES:
            self._leave_out(f"text of more than {MOST_CATEGORIES:,} different values", name)
        elif len(names) == len(texts) >= _FEW:
            self._leave_out("text that differs in every row", name)
        else:
            column = Column(name, tuple(sorted(names.to_pylist())))
            self.columns.append(column)
            self.cells.append(_codes(texts, column.categories or ()))

    def _add_times(self, name: str, values: Any) -> None:
        whole = _since(values)
        self._keep(Column(name, origin=origin(whole)), whole)
        if pa.types.is_time(values.type) or pa.types.is_duration(values.type):
            return
        added = []
        for part, of in _PARTS.items():
            if (part != "hour" or pa.types.is_timestamp(values.type)) and len(pc.unique(of(values))) > 1:
                self._keep(Column(name, part=part), of(values))
                added.append(part)
        self.remarks.setdefault("Columns of dates read as numbers", []).append(
            f"{name} (with {', '.join(added)})" if added else name
        )

    def _remark(self, name: str, reading: Reading, cells: Any) -> None:
        zeros = {} if pa.types.is_temporal(reading.values.type) else leading_zeros(cells)
        for what, found in (
            ("Cells that count as missing numbers", reading.missing),
            ("Cells that are no numbers and count as missing", reading.others),
            ("Numbers that are written in other forms", reading.forms),
            ("Columns read as numbers though they have leading zeros, as codes do", zeros),
        ):
            if found:
                self.remarks.setdefault(what, []).append(f"{name} ({_examples(found)})")

    def _remark_numbers(self, name: str, reading: Reading) -> None:
        if reading.numbers > reading.texts:
            told = _examples(reading.others or reading.missing)
            self.remarks.setdefault("Text taken as categories though most of it is numbers", []).append(
                f"{name} ({told})" if told else name
            )

    def _numbers(self, name: str, values: Any, less: int) -> Array:
        """Return float64, less an origin; one NaN for all that is missing: equal rows have equal bits."""
        if pa.types.is_temporal(values.type):
            values = _since(values)
        if less:
            absent = pc.is_null(values).to_numpy(zero_copy_only=False)
            whole = pc.fill_null(values.cast(pa.int64()), less).to_numpy(zero_copy_only=False)
            steps = (whole.view(np.uint64) - np.int64(less).view(np.uint64)).view(np.int64)
            found = np.where(absent, np.nan, steps.astype(np.float64))
        else:
            if pa.types.is_boolean(values.type):
                values = values.cast(pa.uint8())
            found = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if infinite := int(np.isinf(found).sum()):
            raise ValueError(
                f"{self.path}: column {name!r} has {counted(infinite, 'row')} with an infinite value,"
                " expected finite numbers"
            )
        cells: Array = np.where(np.isnan(found), np.nan, found)
        return cells


def group_numbers(path: Path, column: Any, as_text: bool) -> Array:
    """Return a number for each row, the same for rows of one group; a row without one is on its own."""
    values = plain(column, path)
    if not (is_text(values.type) or is_number(values.type) or pa.types.is_temporal(values.type)):
        raise ValueError(f"{path}: groups: got {kind_name(values.type)}, expected text, numbers or dates")
    codes = (trimmed(values) if as_text else values).dictionary_encode().indices
    numbers = codes.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    alone = np.isnan(numbers)
    numbers[alone] = np.arange(alone.sum()) + (np.nanmax(numbers, initial=-1) + 1)
    whole: Array = numbers.astype(np.int64)
    return whole


def moments(path: Path, column: Any, name: str, as_text: bool) -> Array:
    """Return whole numbers or float64 that rise with time."""
    values = plain(column, path)
    if as_text:
        values = interpret(trimmed(values)).values
    if values is None or not (is_number(values.type) or pa.types.is_temporal(values.type)):
        kind = kind_name(TEXT if values is None else values.type)
        raise ValueError(
            f"{path}: column {name!r} holds {kind}, expected numbers, or dates such as 2024-12-31"
        )
    if values.null_count:
        raise ValueError(f"{path}: column {name!r} has {counted(values.null_count, 'row')} without a time")
    since = _since(values) if pa.types.is_temporal(values.type) else values
    times: Array = since.to_numpy(zero_copy_only=False)
    if times.dtype.kind == "f" and not np.isfinite(times).all():
        raise ValueError(f"{path}: column {name!r} has rows without a time")
    return times


def plain(column: Any, path: Path) -> Any:
    """Return a column in one piece, without the dictionary or decimals that some files have."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(_spelled_out(column, path), path)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if is_text(kind) and kind != TEXT:
        column = column.cast(TEXT)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _spelled_out(column: Any, path: Path) -> Any:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    kind = column.type.value_type
    if is_text(kind):  # a long text may stand in few bytes for many rows
        chunks = [pa.DictionaryArray.from_arrays(part.indices, part.dictionary.cast(TEXT)) for part in chunks]
        lengths = [pc.binary_length(part.dictionary).take(part.indices) for part in chunks]
        fits(f"{path}: a column of text", sum(pc.sum(length).as_py() or 0 for length in lengths))
        kind = TEXT
    return pa.chunked_array([part.dictionary_decode() for part in chunks], kind)


def origin(values: Any) -> int:
    """Return what to subtract from integers that float64 cannot tell apart; 0 for all other columns."""
    if not pa.types.is_integer(values.type) or values.null_count == len(values):
        return 0
    least, most = pc.min_max(values).as_py().values()
    return least if max(abs(least), abs(most)) > 2**53 and least >= -(2**63) and most < 2**63 else 0


def is_text(kind: Any) -> bool:
    """Whether a type is text."""
    types = pa.types
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view))


def kind_name(kind: Any) -> str:
    """Return a type in words."""
    return "text" if is_text(kind) else f"values of type {kind}"


def is_number(kind: Any) -> bool:
    """Whether a type is numbers; a column without any value counts as one of them."""
    types = pa.types
    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_null))


def _vector_width(values: Any) -> int:
    """Return the length of lists of numbers that are all as long, and not too long; 0 for all else."""
    types = pa.types
    if not any(test(values.type) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        return 0
    lengths = pc.unique(pc.list_value_length(values))
    if not is_number(values.type.value_type) or values.null_count or len(lengths) != 1:
        return 0
    return width if (width := int(lengths[0].as_py())) <= _LONGEST else 0


def _element(values: Any, place: int) -> Any:
    return pc.list_element(values, place)


def _since(values: Any) -> Any:
    """Return dates and times as the whole numbers that they are stored as."""
    kind = values.type
    if pa.types.is_date(kind):
        return values.cast(pa.date32()).cast(pa.int32())
    return values.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())


def _codes(texts: Any, categories: tuple[str, ...]) -> Array:
    codes = pc.index_in(texts, value_set=pa.array(categories, TEXT)).to_numpy(zero_copy_only=False)
    unseen = np.isnan(codes) & texts.is_valid().to_numpy(zero_copy_only=False)
    return np.where(unseen, UNSEEN, codes.astype(np.float64))


def _examples(cells: Mapping[str, int]) -> str:
    rest = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    return ", ".join(f"{count:,} {shown(text, 20)}" for text, count in list(cells.items())[:3]) + rest
