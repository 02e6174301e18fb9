"""The way of scores through a network of relaxed comparators, and of what travels with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from criterium.sorting.comparators import Comparator
from criterium.sorting.wiring import wiring


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
    them with the scores.
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
    # As two products, not values + swap * change, so that small values next to large ones keep their digits.
    return torch.addcmul(step.keep * values, step.swap, other)


def _tables(relaxation: str, scores: Tensor, k: int, unit: float) -> tuple[Tensor, Tensor]:
    """Return, for each layer, every wire's partner ``(n,)`` and sign times unit ``(n, 1)``."""
    if torch.compiler.is_compiling():
        from criterium.sorting.traced import wiring as constant

        # A network is made for one number of classes: counting them makes a constant of one that may change.
        tables = constant(relaxation, *(len([*range(number)]) for number in (scores.shape[-1], k)))
    else:
        tables = wiring(relaxation, scores.shape[-1], k)
    partners, signs = (table.to(scores.device) for table in tables)
    return partners, signs.to(scores.dtype).unsqueeze(-1) * unit
