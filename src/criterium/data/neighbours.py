"""Whether test rows lie so near to training rows that both may come from one patient, user or recording."""

from __future__ import annotations

import numpy as np

from criterium.data.array import Array

_TEST, _TRAIN, _WIDTH = 300, 5000, 4096  # as much as is looked at, which takes a fraction of a second
_AMONG = (20, 60, 200)
_SHARE = 0.3


def near_rows(train: Array, test: Array) -> float:
    """Return the share of test rows whose nearest training row is nearer than chance lets it be.

    Around a test row, the volume up to its nearest neighbour is a part r^d of the volume up to the k-th, r
    being the ratio of their distances and d the dimension in which the rows lie; r^d has Beta(1, k-1)'s
    distribution, so that k r^d < 0.01 occurs in one row of a hundred. The dimension is estimated from the
    neighbours between k/2 and k (Levina and Bickel, 2004). A group larger than k hides from one k, so
    several are tried. Rows count if r < 0.3 too: in many dimensions a small difference is a rare one.
    """
    width = np.prod(train.shape[1:], dtype=int)
    columns = np.unique(np.linspace(0, width - 1, min(width, _WIDTH)).astype(int))
    known, asked = _some(train, _TRAIN, columns), _some(test, _TEST, columns)
    center, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale == 0] = 1.0
    known, asked = (((rows - center) / scale).astype(np.float32) for rows in (known, asked))
    squares = (asked**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * asked @ known.T
    most = min(max(_AMONG), len(known) - 1)
    distances = np.sort(np.partition(np.maximum(squares, 1e-12), most, axis=1)[:, : most + 1], axis=1) ** 0.5
    return max((_share(distances, k) for k in _AMONG if k <= len(known) // 3), default=0.0)


def near_note(train: Array, test: Array) -> list[str]:
    """Return a note if many test rows have a training row that is almost the same."""
    share = near_rows(train, test)
    if share < _SHARE:
        return []
    return [
        f"{share:.0%} of the test rows looked at are almost the same as a training row, as rows of one"
        " patient, user or recording are; if they are, name these as groups, so that errors are of new ones."
    ]


def _share(distances: Array, k: int) -> float:
    to_kth = distances[:, k - 1 : k]
    steps = np.log(to_kth / distances[:, k // 2 - 1 : k - 1]).mean(axis=1)
    expected = np.cumsum(1 / np.arange(k - 1, k // 2 - 1, -1)).mean()  # in one dimension
    typical = float(np.median(steps))
    if typical <= 0:  # most rows have many neighbours at one distance, as on a grid
        return 0.0
    ratio = distances[:, 0] / to_kth[:, 0]
    # In logarithms: a dimension may be large.
    rare = np.log(ratio) * expected / typical < np.log(0.01 / k)
    return float(np.mean(rare & (ratio < 0.3)))


def _some(rows: Array, most: int, columns: Array) -> Array:
    index = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
    picked: Array = rows[index].reshape(len(index), -1)[:, columns].astype(np.float64)
    return picked
