"""The chance to be among the k largest, where few competitors are known one by one, and of many a tally.

The integral is that of `order_statistics`. What the many add to it are sums of smooth functions of their
gaps, so they may be given by points and the number at each: no whole number where a competitor is shared out
between the points around it, by polynomial interpolation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium.sorting.competitors import Odds

_BLOCK = 1 << 15  # numbers held at once, about what a core's cache holds
_REACH, _FAR = 8.5, 19.0
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Tally(NamedTuple):
    """Competitors of N elements by the gaps to them, in standard deviations of the noise, in float64."""

    few: Tensor
    """(N, k), the k strongest in rising order of gaps."""
    points: Tensor
    """(N, G), gaps at or above those."""
    numbers: Tensor
    """(N, G), how many of the others are at each point."""

    def rows(self, part: slice) -> Tally:
        """Return the competitors of some elements."""
        return Tally(self.few[part], self.points[part], self.numbers[part])

    def beaten(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log Pr[at most k - 1 win] where the element's own noise is t (Q, N), and its derivatives.

        Those are by the gap to each of the few (Q, N, k), and by that to one competitor at each point
        (Q, N, G). How they come about is told in `competitors`.
        """
        k = self.few.shape[1]
        few, many = (Odds.of(t.unsqueeze(-1) + gap) for gap in (self.few, self.points))
        ahead = few.log_lose - few.log_win
        unit = ahead[..., -1:]
        ahead = ahead - unit
        without_one, of_few = _products((-ahead).exp())
        log_win = few.log_win.sum(-1) + (self.numbers * many.log_win).sum(-1) + ahead.sum(-1)

        if k > 1:
            weak = (many.log_lose - many.log_win - unit).clamp_(max=0).exp_()
            of_many = _symmetric(weak, self.numbers, k)
        else:
            weak, of_many = many.log_win, torch.ones_like(unit)
        coefficients = torch.stack(
            [(of_few[..., : n + 1] * of_many[..., : n + 1].flip(-1)).sum(-1) for n in range(k)], dim=-1
        ).clamp(min=torch.finfo(t.dtype).tiny)
        tail = (coefficients.log() + unit * torch.arange(k, dtype=t.dtype, device=t.device)).logsumexp(-1)

        # By one competitor: its density times the chance that k - 1 of the others win.
        share = unit * (k - 1) - tail.unsqueeze(-1)
        without = coefficients[..., :1]
        for n in range(1, k):
            without = coefficients[..., n : n + 1] - weak * without
        by_points = (many.log_density - many.log_win).add_(share).exp_().mul_(without.clamp(min=0))
        exactly = (without_one * of_many.flip(-1).unsqueeze(-2)).sum(-1)
        by_few = (few.log_density - few.log_win + share - ahead).exp() * exactly
        return log_win + tail, by_few, by_points

    def rise(self, t: Tensor) -> Tensor:
        """Return the derivative of the integrand's logarithm at t (N,)."""
        _, by_few, by_points = self.beaten(t.unsqueeze(0))
        rise: Tensor = by_few[0].sum(1) + (self.numbers * by_points[0]).sum(1) - t
        return rise


def log_chance(tally: Tally, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithm of the chance (N,), and its derivatives by `few` and by one at each of `points`.

    Of `classes` competitors: all that are in the tally, and about as many where some count for nothing.
    """
    number, each = tally.points.shape
    size = max(1, min(number, _BLOCK // each))
    parts = [_of_rows(tally.rows(slice(at, at + size)), classes) for at in range(0, max(number, 1), size)]
    value, by_few, by_points = (torch.cat(found) for found in zip(*parts, strict=True))
    return value, by_few, by_points


def _of_rows(tally: Tally, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    nodes, log_weights = _nodes(tally, classes)
    block = max(1, _BLOCK // max(1, tally.points.numel()))
    peak = torch.full_like(nodes[0], -torch.inf)
    total, few, points = torch.zeros_like(peak), torch.zeros_like(tally.few), torch.zeros_like(tally.points)
    for start in range(0, len(nodes), block):
        log_tail, by_few, by_points = tally.beaten(nodes[start : start + block])
        log_mass = log_weights[start : start + block] + log_tail
        # A running maximum keeps the sums in range, whatever the size of the chances.
        higher = torch.maximum(peak, log_mass.amax(0))
        mass, shrink = (log_mass - higher).exp(), (peak - higher).exp()
        total = total * shrink + mass.sum(0)
        few = few * shrink.unsqueeze(1) + torch.einsum("qn,qnk->nk", mass, by_few)
        points = points * shrink.unsqueeze(1) + torch.einsum("qn,qng->ng", mass, by_points)
        peak = higher
    each = total.unsqueeze(1)
    return (peak + total.log()).clamp(max=0), few / each, points / each


def _nodes(tally: Tally, classes: int) -> tuple[Tensor, Tensor]:
    """Return nodes t and the logarithms of weight times density, both (Q, N): see `order_statistics`.

    Reach and density bring the error under 1e-7 of the largest derivative.
    """
    mode, width = _mode(tally, classes)
    count = 38 + math.ceil(9 * math.log10(max(2, classes)))
    # The derivative's own integrand lies where the few come level with the element.
    k = tally.few.shape[1]
    lead = tally.few[:, -1].clamp(0, _FAR) * (k / (k + 1))
    left = -torch.maximum(_REACH * width, lead + 6 * width) / width
    part = torch.linspace(0, 1, count, dtype=mode.dtype, device=mode.device).unsqueeze(1)
    length = _REACH + 0.5 - left
    u = left + length * part
    t = mode + width * u + (1 - width) * F.softplus(u - 1)
    spacing = (width + (1 - width) * torch.sigmoid(u - 1)) * length / (count - 1)
    return t, spacing.log() - 0.5 * t * t - _LOG_SQRT_2PI


def _mode(tally: Tally, classes: int) -> tuple[Tensor, Tensor]:
    """Return where the integrand is largest, and how wide its peak is there: a few digits are enough.

    It is not beyond where the k-th strongest is left behind: the others of the few may win.
    """
    low = torch.zeros_like(tally.few[:, 0])
    high = -tally.few[:, -1].clamp(max=0) + math.sqrt(2 * math.log(max(2, classes))) + 1
    at_low, at_high = tally.rise(low), tally.rise(high)
    t = low
    for _ in range(10):
        # Regula falsi; halving the value of an end that stays put keeps both ends moving (Illinois).
        t = low + (high - low) * (at_low / (at_low - at_high).clamp(min=1e-30)).clamp(0, 1)
        value = tally.rise(t)
        right = value > 0
        low, high = torch.where(right, t, low), torch.where(right, high, t)
        at_low, at_high = torch.where(right, value, 0.5 * at_low), torch.where(right, 0.5 * at_high, value)
    step = 0.05
    curvature = (tally.rise(t - step) - tally.rise(t + step)) / (2 * step)
    return t, curvature.clamp(min=1).rsqrt()


def _products(roots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first k coefficients of prod_i (a_i + z) without each factor (..., k, k), and of all."""
    k = roots.shape[-1]
    factor = torch.eye(k, dtype=torch.bool, device=roots.device).unsqueeze(-1)
    without = F.pad(roots.new_ones(*roots.shape, 1), (0, k - 1))
    for i in range(k):
        grown = roots[..., i, None, None] * without + F.pad(without[..., :-1], (1, 0))
        without = torch.where(factor[i], without, grown)
    last = without[..., -1, :]
    return without, roots[..., -1:] * last + F.pad(last[..., :-1], (1, 0))


def _symmetric(values: Tensor, count: Tensor, k: int) -> Tensor:
    """Return e_0, ..., e_(k-1) of (..., G) values that count so many times, by Newton's identities."""
    sums, power = [], count * values
    for n in range(1, k):
        sums.append(power.sum(-1))
        power = power * values if n + 1 < k else power
    found = [torch.ones_like(values[..., 0])]
    for n in range(1, k):
        signed = [(-1) ** j * found[n - 1 - j] * sums[j] for j in range(n)]
        found.append((torch.stack(signed).sum(0) / n).clamp(min=0))
    return torch.stack(found, -1)
