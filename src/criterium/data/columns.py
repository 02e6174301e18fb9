"""From the cells of a table to features, fitted on the training rows alone.

A table is held as a float64 matrix, one column a column: numbers as they are, categories as their
index in `Column.categories`, NaN where a cell is missing, and `UNSEEN` for a category of another file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from criterium.data.array import Array
from criterium.data.limits import fits
from criterium.data.raw import Column, counted, listed
from criterium.data.rounding import Rounding, median

UNSEEN = -1.0

_VALUE, _MISSING, _CATEGORY = range(3)
_BLOCK = 2**22  # cells that are turned into features at once


@dataclass(frozen=True)
class Encoder:
    """What each of F features is: the number, whether a cell is missing, or whether it is one category.

    Missing numbers become the training median. Categories are those seen in training; a cell of any other
    has 0 in all of them.
    """

    titles: tuple[str, ...]
    column: Array
    kind: Array
    fill: Array
    code: Array
    rounding: Rounding

    def __call__(self, cells: Array) -> Array:
        """Return float32 features (N, F) of the cells (N, columns).

        Raises:
            ValueError: a value is too large for float32 beside those of training.

        """
        features = np.empty((len(cells), len(self.column)), dtype=np.float32)
        rows = max(1, _BLOCK // max(1, len(self.column)))
        for start in range(0, len(cells), rows):
            self._encode(cells[start : start + rows], features[start : start + rows])
        return features

    def _encode(self, cells: Array, features: Array) -> None:
        value, missing = (np.flatnonzero(self.kind == kind) for kind in (_VALUE, _MISSING))
        numbers = cells[:, self.column[value]]
        titles = [self.titles[index] for index in self.column[value]]
        features[:, value] = self.rounding(np.where(np.isnan(numbers), self.fill[value], numbers), titles)
        features[:, missing] = np.isnan(cells[:, self.column[missing]])
        for column, first, last in self._runs:
            features[:, first:last] = 0
            codes = self.code[first:last]
            place = np.minimum(np.searchsorted(codes, cells[:, column]), last - first - 1)
            row = np.flatnonzero(codes[place] == cells[:, column])
            features[row, first + place[row]] = 1

    @cached_property
    def _runs(self) -> list[tuple[int, int, int]]:
        """The columns of categories, each with the first and the last of its features, sorted by code."""
        category = np.flatnonzero(self.kind == _CATEGORY)
        columns, first, length = np.unique(self.column[category], return_index=True, return_counts=True)
        starts = category[first] if len(category) else first
        return [(int(c), int(s), int(s + n)) for c, s, n in zip(columns, starts, length, strict=True)]

    def take(self, kept: Array) -> Encoder:
        """Return the encoder of some of the features."""
        column, kind, fill, code = (of[kept] for of in (self.column, self.kind, self.fill, self.code))
        return Encoder(self.titles, column, kind, fill, code, self.rounding.take(kept[self.kind == _VALUE]))


def fit(columns: Sequence[Column], cells: Array) -> tuple[Encoder, list[str]]:
    """Return the encoder of the training rows `cells` (N, columns), with notes for the reader.

    Features that do not vary in training are left out.
    """
    of, kinds, fills, codes = [], [], [], []
    gaps = np.isnan(cells)
    for index, column in enumerate(columns):
        present = cells[~gaps[:, index], index]
        if column.categories is None:
            found = [(_VALUE, median(present) if len(present) else 0.0, 0.0)]
        else:
            found = [(_CATEGORY, 0.0, code) for code in np.unique(present)]
        if len(present) < len(cells):
            found.append((_MISSING, 0.0, 0.0))
        of += [index] * len(found)
        for kind, fill, code in found:
            kinds.append(kind)
            fills.append(fill)
            codes.append(code)
    # Float32, and once more while statistics are taken and parts are copied.
    fits(f"data: {len(of):,} features of {counted(len(cells), 'row')}", 8 * len(of) * len(cells))
    column_of, kind_of, fill_of = np.array(of), np.array(kinds), np.array(fills)
    value = kind_of == _VALUE
    numbers = cells[:, column_of[value]]
    rounding = Rounding.fit(np.where(np.isnan(numbers), fill_of[value], numbers))
    titles = tuple(column.title for column in columns)
    encoder = Encoder(titles, column_of, kind_of, fill_of, np.array(codes), rounding)
    features = encoder(cells)
    varies = features.min(axis=0) != features.max(axis=0)
    if not varies.any():
        raise ValueError("data: no column varies over the training rows, expected at least one that does")
    constant = np.setdiff1d(np.arange(len(columns)), column_of[varies])
    names = [titles[index] for index in constant]
    notes = [f"Columns left out, constant in training: {listed(names)}."] if names else []
    return encoder.take(varies), notes
