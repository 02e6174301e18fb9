"""The way of scores through a network of relaxed comparators, and of what travels with them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from criterium.sorting.comparators import Comparator
from criterium.sorting.networks import NETWORKS


def top_columns(scores: Tensor, k: int, relaxation: str, rule: Comparator) -> Tensor:
    """Return ``(M, n, k)`` relaxed indicators of the k largest of ``(M, n)`` scores, the largest first.

    Sorted scores are L_m ... L_1 s, with a symmetric L_t for each layer. The weights of one rank are that
    row of the product, made from its left end: a unit vector sent through the layers in reverse.
    """
    partners, signs = _tables(relaxation, scores, k, rule.unit)
    steps = [step for _, step in _sweep(scores.T.unsqueeze(0), partners, signs, rule)]
    rows, n = scores.shape
    ranks = torch.eye(n, device=scores.device, dtype=scores.dtype)[n - k :].flip(0)
    columns = ranks.unsqueeze(-1).expand(k, n, rows)
    for step in reversed(steps):
        columns = _mix(columns, columns.index_select(1, step.partner), step)
    return columns.permute(2, 1, 0)


def carry_row(scores: Tensor, index: Tensor, k: int, relaxation: str, rule: Comparator) -> Tensor:
    """Return ``(M, k)``, row `index` ``(M,)`` of `top_columns`, without the other rows.

    Read from its right end the product needs no stored layers: the unit vector of an element goes through
    them beside the scores.
    """
    row = torch.zeros_like(scores).scatter(-1, index.unsqueeze(-1), 1.0)
    state = torch.stack([scores.T, row.T])
    for latest, _ in _sweep(state, *_tables(relaxation, scores, k, rule.unit), rule):
        state = latest
    return state[1, -k:].flip(0).T


class _Step(NamedTuple):
    """What one layer did: wires' partners, how far away these were, and the shares that were kept."""

    partner: Tensor
    sign: Tensor
    change: Tensor
    gap: Tensor
    keep: Tensor
    swap: Tensor


def _sweep(
    state: Tensor, partners: Tensor, signs: Tensor, rule: Comparator
) -> Iterator[tuple[Tensor, _Step]]:
    """Send ``(channels, n, M)`` through the layers, whose comparators look at channel 0."""
    for partner, sign in zip(partners.unbind(), signs.unbind(), strict=True):
        other = state.index_select(1, partner)
        change = other - state
        gap = change[0] * sign
        step = _Step(partner, sign, change, gap, *rule.shares(gap))
        state = _mix(state, other, step)
        yield state, step


def _mix(values: Tensor, other: Tensor, step: _Step) -> Tensor:
    # Written as two products, not as values + swap * change, for the digits of small values beside large.
    return torch.addcmul(step.keep * values, step.swap, other)


def _tables(relaxation: str, scores: Tensor, k: int, unit: float) -> tuple[Tensor, Tensor]:
    """Return, for each layer, every wire's partner ``(n,)`` and sign times unit ``(n, 1)``."""
    partners, signs = (table.to(scores.device) for table in _wiring(relaxation, scores.shape[-1], k))
    return partners, signs.to(scores.dtype).unsqueeze(-1) * unit


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _wiring(relaxation: str, n: int, k: int) -> tuple[Tensor, Tensor]:
    partners, signs = _wiring_arrays(relaxation, n, k)
    return torch.from_numpy(partners), torch.from_numpy(signs)


@functools.lru_cache(maxsize=32)
def _wiring_arrays(relaxation: str, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `_tables` as arrays: the sign is 1 at the low end of a gap and -1 at the high end.

    A wire that meets no comparator is its own partner: half of itself and half of itself, which is exact.
    """
    layers = NETWORKS[relaxation](n, k)
    partners = np.tile(np.arange(n), (len(layers), 1))
    signs = np.zeros((len(layers), n), dtype=np.int8)
    for layer, pairs in enumerate(layers):
        low, high = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        partners[layer, low], partners[layer, high] = high, low
        signs[layer, low], signs[layer, high] = 1, -1
    return partners, signs
