"""Networks as tables: whom each wire meets in each layer."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from criterium.sorting.networks import NETWORKS


def wiring(relaxation: str, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Return, for each layer, every wire's partner ``(n,)`` and its sign.

    The sign is 1 at the low end of a gap and -1 at the high end. A wire that meets no comparator is its own
    partner: half of itself and half of itself, which is exact.
    """
    partners, signs = _arrays(relaxation, n, k)
    return torch.from_numpy(partners), torch.from_numpy(signs)


@functools.lru_cache(maxsize=32)
def _arrays(relaxation: str, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    layers = NETWORKS[relaxation](n, k)
    partners = np.tile(np.arange(n), (len(layers), 1))
    signs = np.zeros((len(layers), n), dtype=np.int8)
    for layer, pairs in enumerate(layers):
        low, high = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        partners[layer, low], partners[layer, high] = high, low
        signs[layer, low], signs[layer, high] = 1, -1
    return partners, signs
