"""How many of a few independent events happen, and how many happen beside each one of them.

The chances are the coefficients of the product of (miss_j + hit_j z) over the events. It is multiplied up
a tree of pairs, without the powers of z that nobody asked for; on the way down each event gets the product
of all others. Nothing is ever subtracted or divided, so small chances keep their digits in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

Polynomial = list[Tensor]
"""Coefficients, from the power 0 upwards, of shapes that broadcast."""


def count_events(miss: Tensor, hit: Tensor, others: Polynomial, length: int) -> tuple[Polynomial, Tensor]:
    """Return Pr[i events] for i < `length`, and for each event Pr[`length` - 1 events beside it].

    Args:
        miss: (M, ...) chances that an event does not happen; M is at least `length`.
        hit: (M, ...) chances that it does.
        others: chances (...) that 0, 1, ... further events happen.
        length: at least 1.

    """
    levels = [[miss, hit][:length]]
    while levels[-1][0].shape[0] > 1:
        if levels[-1][0].shape[0] % 2:
            levels[-1] = _with_an_impossible_one(levels[-1])
        left, right = _halves(levels[-1])
        levels.append(_multiply(left, right, length))
    total = _multiply([coefficient[0] for coefficient in levels.pop()], others, length)

    beside = [coefficient.unsqueeze(0) for coefficient in others]
    for level in reversed(levels):
        left, right = _halves(level)
        beside = [coefficient[: left[0].shape[0]] for coefficient in beside]
        # Of the last products a single coefficient is asked for.
        lowest = length - 1 if level is levels[0] else 0
        first, second = _multiply(beside, right, length, lowest), _multiply(beside, left, length, lowest)
        beside = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    return total, beside[-1][: miss.shape[0]]


def _multiply(a: Polynomial, b: Polynomial, length: int, lowest: int = 0) -> Polynomial:
    """Return the coefficients from `lowest` to below `length` of the product."""
    product = []
    for power in range(lowest, min(length, len(a) + len(b) - 1)):
        first, last = max(0, power - len(b) + 1), min(power + 1, len(a))
        value = a[first] * b[power - first]
        for i in range(first + 1, last):
            value = torch.addcmul(value, a[i], b[power - i])
        product.append(value)
    return product


def _halves(level: Polynomial) -> tuple[Polynomial, Polynomial]:
    half = level[0].shape[0] // 2
    return [coefficient[:half] for coefficient in level], [coefficient[half:] for coefficient in level]


def _with_an_impossible_one(level: Polynomial) -> Polynomial:
    return [torch.cat((c, torch.full_like(c[:1], float(power == 0)))) for power, c in enumerate(level)]
