"""Which rows belong together: those with the same input, and those of one group."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from criterium.data.array import Array


def row_keys(inputs: Array) -> Array:
    """Return a 64-bit hash of each row; rows that hold the same values have the same one."""
    if inputs.dtype.kind == "f":
        inputs = inputs + inputs.dtype.type(0.0)  # makes 0.0 of -0.0, which has other bits
    width = math.prod(inputs.shape[1:])
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), width)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8")


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
