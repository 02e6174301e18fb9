"""Which rows belong together: those with the same input, and those of one group."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from criterium.data.array import Array

_BLOCK = 2**20  # words that are hashed at once
_GOLDEN = 0x9E3779B97F4A7C15


def row_keys(inputs: Array) -> Array:
    """Return a 64-bit hash of each row; rows that hold the same values have the same one."""
    if inputs.dtype.kind == "f":
        inputs = inputs + inputs.dtype.type(0.0)  # makes 0.0 of -0.0, which has other bits
    width = math.prod(inputs.shape[1:]) * inputs.dtype.itemsize
    words = -(-width // 8)
    places = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    keys = np.empty(len(inputs), dtype=np.uint64)
    step = max(1, _BLOCK // max(1, words))
    for start in range(0, len(inputs), step):
        rows = np.ascontiguousarray(inputs[start : start + step])
        padded = np.zeros((len(rows), 8 * words), dtype=np.uint8)
        padded[:, :width] = rows.reshape(len(rows), -1).view(np.uint8) if width else 0
        keys[start : start + step] = _mix(padded.view(np.uint64) + places).sum(axis=1, dtype=np.uint64)
    return keys


def position_keys(positions: Array) -> Array:
    """Return a 64-bit hash of each row of integers that stays the same from release to release."""
    rows = np.ascontiguousarray(positions.astype("<i8"))
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8")


def _mix(words: Array) -> Array:
    # The finaliser of splitmix64 (Steele, Lea and Flood, 2014): each bit changes half of the others.
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def together(keys: Array, groups: Array) -> Array:
    """Return a number for each row, the same for rows that a chain of equal keys or groups joins."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, key = np.unique(keys, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    nodes = len(keys) and int(key.max()) + 1
    size = nodes + (len(keys) and int(group.max()) + 1)
    edges = coo_array((np.ones(len(keys), dtype=bool), (key, nodes + group)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    joined: Array = component[key].astype(np.int64)
    return joined
