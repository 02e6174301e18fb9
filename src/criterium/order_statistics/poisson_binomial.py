"""The Poisson binomial distribution: how many of several independent events happen, and of all but one.

Its chances are the coefficients of the product of (miss_j + hit_j z) over the events. Two ways lead to them:

- a few events are multiplied up a tree of pairs, without the powers of z that are not asked for; on the way
  down each event gets the product of all others. Nothing is subtracted or divided, so small chances keep
  their digits in float32;
- of many, each less likely to happen than not, the sums of powers of their odds are enough, by Newton's
  identities, and one of them is divided out again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Polynomial = list[Tensor]
"""Coefficients, from the power 0 upwards, of shapes that broadcast."""


def chances(miss: Tensor, hit: Tensor, others: Polynomial, length: int) -> tuple[Polynomial, Tensor]:
    """Return Pr[i events] for i < `length`, and for each event Pr[`length` - 1 of the others].

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


def from_power_sums(sums: Sequence[Tensor], first: Tensor) -> Polynomial:
    """Return the coefficients of first exp(sum_i sums_i z^i / i), by Newton's identities.

    With sums_i = -sum_j (-odds_j)^i they are those of first prod_j (1 + odds_j z).
    """
    polynomial = [first]
    for n in range(1, len(sums) + 1):
        total = polynomial[n - 1] * sums[0]
        for i in range(1, n):
            total = torch.addcmul(total, polynomial[n - 1 - i], sums[i])
        polynomial.append((total / n).clamp(min=0))
    return polynomial


def divided(product: Sequence[Tensor], odds: Tensor) -> Tensor:
    """Return the last coefficient of the product without its factor 1 + odds z.

    It is sum_l (-odds)^l product_(m-l), which is stable for odds of at most 1.
    """
    quotient = product[0]
    for coefficient in product[1:]:
        quotient = torch.addcmul(coefficient, odds, quotient, value=-1)
    return quotient


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
