"""From the cells of a table to features, fitted on the training rows alone.

A table is held as a float64 matrix, one column a column: numbers as they are, categories as their
index in `Column.categories`, NaN where a cell is missing, and `UNSEEN` for a category of another file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from criterium.data.array import Array
from criterium.data.raw import Column, listed

UNSEEN = -1.0


@dataclass(frozen=True)
class Numbers:
    """Numbers, missing ones replaced by the training median, and whether they were missing."""

    median: float
    indicator: bool

    def __call__(self, cells: Array) -> Array:
        """Return the features (N, 1 or 2) of the cells (N,)."""
        missing = np.isnan(cells)
        filled = np.where(missing, self.median, cells)
        return np.stack([filled, missing], axis=1) if self.indicator else filled[:, None]


@dataclass(frozen=True)
class Categories:
    """One feature for each category seen in training, "missing" included; all 0 for any other."""

    seen: Array
    missing: bool

    def __call__(self, cells: Array) -> Array:
        """Return the features (N, number of categories) of the cells (N,)."""
        hot = cells[:, None] == self.seen
        return np.concatenate([hot, np.isnan(cells)[:, None]], axis=1) if self.missing else hot


@dataclass(frozen=True)
class Encoder:
    """The features of all columns, those left out that do not vary in training."""

    encodings: tuple[Numbers | Categories, ...]
    varies: Array

    def __call__(self, cells: Array) -> Array:
        """Return float32 features (N, F) of the cells (N, columns)."""
        return np.concatenate(_blocks(self.encodings, cells), axis=1)[:, self.varies]


def fit(columns: tuple[Column, ...], cells: Array) -> tuple[Encoder, list[str]]:
    """Return the encoder of the training rows `cells` (N, columns), with notes for the reader."""
    encodings = tuple(_fit_column(column, cells[:, i]) for i, column in enumerate(columns))
    varies = [block.min(axis=0) != block.max(axis=0) for block in _blocks(encodings, cells)]
    constant = [column.name for column, varying in zip(columns, varies, strict=True) if not varying.any()]
    if len(constant) == len(columns):
        raise ValueError("data: no column varies over the training rows, expected at least one that does")
    notes = [f"Columns left out, constant in training: {listed(constant)}."] if constant else []
    return Encoder(encodings, np.concatenate(varies)), notes


def _fit_column(column: Column, cells: Array) -> Numbers | Categories:
    present = cells[~np.isnan(cells)]
    missing = len(present) < len(cells)
    if column.categories is not None:
        return Categories(np.unique(present), missing)
    return Numbers(float(np.median(present)) if len(present) else 0.0, missing)


def _blocks(encodings: tuple[Numbers | Categories, ...], cells: Array) -> list[Array]:
    return [encode(cells[:, i]).astype(np.float32) for i, encode in enumerate(encodings)]
