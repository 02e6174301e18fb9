"""How many of several normal variables exceed a threshold, by their distances below it (Poisson binomial).

Of many only a sum counts, so several may stand at one point, also a part of one: a smooth function of the
distance is shared out between points by interpolation.

The number of hits has the generating polynomial prod_j (miss_j + hit_j z). With z in units of the k-th
highest odds hit_j / miss_j, the k strongest are factors (a + z) with a <= 1, after a common factor, and the
others (1 + r z) with r <= 1. The few are multiplied up a tree; of the many the power sums of r are enough.
Differences of large terms do not arise: the coefficient of z^(k-1) is at least 1, and large where the power
sums are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from criterium.order_statistics.poisson_binomial import Polynomial, chances, divided, from_power_sums


class LogNormal(NamedTuple):
    """The standard normal distribution at distances x below a threshold, in logarithms."""

    miss: Tensor
    """log Phi(x)"""
    hit: Tensor
    """log Phi(-x)"""
    density: Tensor
    """log phi(x)"""

    @classmethod
    def at(cls, x: Tensor) -> LogNormal:
        """Return the distribution at `x`, to full relative precision in both tails."""
        square = 0.5 * x * x
        # The tail beyond |x| is exp(-x^2/2) tail, with a tail that never leaves the range of numbers.
        tail = 0.5 * torch.special.erfcx(x.abs() * math.sqrt(0.5))
        small = tail.log() - square
        large = (-tail * (-square).exp()).log1p()
        behind = (x < 0).to(x.dtype)  # lerp by 0 or 1 is exact, and twenty times faster than where
        return cls(
            torch.lerp(large, small, behind),
            torch.lerp(small, large, behind),
            -square - 0.5 * math.log(2 * math.pi),
        )


class NormalTrials(NamedTuple):
    """The variables of N rows, by their distances below a threshold at 0."""

    few: Tensor
    """(N, k), of those with the highest odds, in falling order of odds."""
    many: Tensor
    """(N, G), of the others; far below the threshold where there is none."""
    number: Tensor | None = None
    """(N, G), how many of the others are there; None: one."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of values (..., N, G) over the others."""
        return (values if self.number is None else self.number * values).sum(-1)

    def log_tail(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log Pr[at most k - 1 hits] with t (Q, N) added to all distances, and its derivatives.

        Those are by each distance of the few (Q, N, k), and by that of one of the many (Q, N, G).
        """
        k = self.few.shape[1]
        few, many = (LogNormal.at(t.unsqueeze(2) + distance) for distance in (self.few, self.many))
        log_miss = few.miss.sum(-1) + self.total(many.miss)
        pull, pull_few = many.density - many.miss, few.density - few.miss
        if k == 1:
            return log_miss, pull_few.exp(), pull.exp()
        ahead = few.hit - few.miss
        unit = ahead[..., -1:]
        ahead = ahead - unit
        weak = (many.hit - many.miss - unit).clamp(max=0).exp()
        behind = (-ahead).permute(2, 0, 1).contiguous().exp()
        coefficients, exactly = chances(behind, torch.ones_like(behind), self._of_many(weak, k), k)
        coefficients = [value.clamp(min=torch.finfo(weak.dtype).tiny).unsqueeze(-1) for value in coefficients]
        scaled = torch.cat(coefficients, -1).log()
        scaled = scaled + unit * torch.arange(k, dtype=weak.dtype, device=weak.device)
        tail = scaled.logsumexp(-1)

        share = unit * (k - 1) - tail.unsqueeze(-1)
        by_many = (pull + share).exp() * divided(coefficients, weak).clamp(min=0)
        by_few = (pull_few + share - ahead).exp() * exactly.permute(1, 2, 0)
        return log_miss + ahead.sum(-1) + tail, by_few, by_many

    def _of_many(self, odds: Tensor, k: int) -> Polynomial:
        """Return the first k coefficients of the product of 1 + odds z over the others."""
        sums, power = [], odds
        for i in range(1, k):
            total = self.total(power)
            sums.append(total if i % 2 else -total)
            power = power * odds if i + 1 < k else power
        return from_power_sums(sums, torch.ones_like(odds[..., 0]))
