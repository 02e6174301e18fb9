"""Columns that may give the class away without being a feature: row numbers, ids, the label once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from criterium.data.array import Array
from criterium.data.raw import Column, listed

_CELLS = 20_000_000  # the most that are looked at, so that a wide table takes seconds


def column_notes(columns: Sequence[Column], cells: Array, targets: Array) -> list[str]:
    """Return notes on columns of the cells (N, columns) that a reader of the results should look at."""
    if len(cells) < 20:  # in a few rows all of this happens by chance
        return []
    ordered = _in_order(cells)
    unique = _ids(columns, cells) & ~ordered
    tells = _tells_class(columns, cells, targets)

    def names(found: Array) -> str:
        return listed([columns[index].title for index in np.flatnonzero(found).tolist()])

    notes = []
    if ordered.any():
        notes.append(
            "Columns that rise or fall from row to row, as row numbers and times do, which tell the class"
            f" where rows are sorted by it: {names(ordered)}."
        )
    if unique.any():
        notes.append(f"Columns of whole numbers that differ in every row, as ids do: {names(unique)}.")
    if tells.any():
        notes.append(
            "Columns that alone tell the class of at least 99% of the rows, as what is known only after the"
            f" class does: {names(tells)}."
        )
    return notes


def _in_order(cells: Array) -> Array:
    """Whether each column never falls, or never rises, and changes in at least half of the rows."""
    found = np.zeros(cells.shape[1], dtype=bool)
    for part in _blocks(cells):
        steps = np.diff(cells[:, part], axis=0)
        changes = (steps != 0).sum(axis=0) >= len(steps) / 2
        found[part] = changes & ((steps >= 0).all(axis=0) | (steps <= 0).all(axis=0))
    return found


def _ids(columns: Sequence[Column], cells: Array) -> Array:
    """Whether each column holds whole numbers that are all different."""
    head = cells[:1000]
    with np.errstate(invalid="ignore"):
        whole: Array = (head == np.floor(head)).all(axis=0)
    whole &= [column.categories is None and column.part is None for column in columns]
    for index in np.flatnonzero(whole):
        whole[index] = _all_differ(head[:, index]) and _all_differ(cells[:, index])
    return whole


def _all_differ(values: Array) -> bool:
    return len(np.unique(values)) == len(values) and bool((values == np.floor(values)).all())


def _tells_class(columns: Sequence[Column], cells: Array, targets: Array) -> Array:
    """Whether each column alone, cut into a few intervals or by its categories, tells the class."""
    rows = np.linspace(0, len(cells) - 1, min(len(cells), max(200, _CELLS // cells.shape[1]))).astype(int)
    sample, classes = targets[rows], int(targets.max()) + 1
    commonest = np.bincount(sample).max()
    allowed = min(0.01 * len(rows), 0.1 * (len(rows) - commonest))
    found = np.zeros(cells.shape[1], dtype=bool)
    for part in _blocks(cells[rows]):
        values = cells[rows, part]
        by_value = sample[np.argsort(values, axis=0, kind="stable")]
        # Each row on the wrong side of its cut changes the class twice on the way up.
        changes = (by_value[1:] != by_value[:-1]).sum(axis=0)
        found[part] = (changes - (len(np.unique(sample)) - 1)) / 2 <= allowed
    for index, column in enumerate(columns):
        if column.categories is not None and len(column.categories) <= len(rows) / 5:
            code = np.nan_to_num(cells[rows, index], nan=-1).astype(np.int64) + 1
            pairs, counts = np.unique(code * classes + sample, return_counts=True)
            best = np.zeros(len(column.categories) + 1, dtype=np.int64)
            np.maximum.at(best, pairs // classes, counts)
            found[index] = len(rows) - best.sum() <= allowed
    return found


def _blocks(cells: Array) -> list[slice]:
    width = max(1, 2**22 // max(len(cells), 1))
    return [slice(start, start + width) for start in range(0, cells.shape[1], width)]
