"""A large table taken a few rows at a time, so that what is computed from it needs no second one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CELLS = 2**22
"""Numbers in a block: in float64, 32 MiB."""


def rows_at_once(columns: int) -> int:
    """Return how many rows of that many numbers a block holds: one at least."""
    return max(1, CELLS // columns)


def blocks(rows: int, columns: int) -> list[slice]:
    """Return slices that cover `rows` rows, as many at a time as `rows_at_once` says.

    Example:
        >>> blocks(5, CELLS // 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]

    """
    step = rows_at_once(columns)
    return [slice(start, min(start + step, rows)) for start in range(0, max(1, rows), step)]


def by_rows(function: Callable[..., np.ndarray], table: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Return `function` of `table` (N, C) and `others` (N, ...), called with a block of rows at a time.

    What it returns of the blocks is joined along the last dimension, so its numbers must be numbers of rows.

    Example:
        >>> by_rows(lambda rows: rows.max(axis=1), np.array([[1, 2], [4, 3]]))
        array([2, 4])

    """
    parts = [function(table[rows], *(other[rows] for other in others)) for rows in blocks(*table.shape)]
    return np.concatenate(parts, axis=-1)


def finite(table: np.ndarray) -> np.ndarray:
    """Return (N,) whether all numbers of a row are finite."""
    return by_rows(lambda rows: np.isfinite(rows).all(axis=1), table)
