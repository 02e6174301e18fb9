"""How many of several independent competitors win, when each has its own chance (Poisson-binomial).

Of many only the sum of what they do counts, so several may stand at one point, also a part of one: a smooth
function of the distance is shared out between points by interpolation.

The number that win has the generating polynomial prod_j (w_j + l_j z), where l_j is the chance that
competitor j wins, w_j = 1 - l_j, and the coefficient of z^i the chance that i of them do. With z in units of
the k-th highest odds l_j / w_j, the k strongest are factors (a + z) with a <= 1, after a common factor, and
the others (1 + r z) with r <= 1. The few are multiplied up a tree; of the many only the power sums of r are
needed, from which Newton's identities give the first coefficients. Differences of large terms do not arise:
the coefficient of z^(k-1) is at least 1, and large where the power sums are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Odds(NamedTuple):
    """Normal competitors at distance x: log Phi(x), log Phi(-x) and log phi(x)."""

    log_win: Tensor
    log_lose: Tensor
    log_density: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Odds:
        """Return the odds at `x`, to full relative precision in both tails."""
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


class Competitors(NamedTuple):
    """The competitors of N elements, by the distances from them when the element carries no noise."""

    few: Tensor
    """(N, k), of those with the highest odds, in falling order of odds."""
    many: Tensor
    """(N, G), of the others; far behind the element where there is none."""
    number: Tensor | None = None
    """(N, G), how many of the others are there; None: one."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of values (..., N, G) over the others."""
        return (values if self.number is None else self.number * values).sum(-1)

    def beaten(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log Pr[at most k - 1 win] with t (Q, N) added to all distances, and its derivatives.

        Those are by each distance of the few (Q, N, k), and by that of one of the many (Q, N, G).
        """
        k = self.few.shape[1]
        few, many = (Odds.of(t.unsqueeze(2) + distance) for distance in (self.few, self.many))
        log_win = few.log_win.sum(-1) + self.total(many.log_win)
        pull, pull_few = many.log_density - many.log_win, few.log_density - few.log_win
        if k == 1:
            return log_win, pull_few.exp(), pull.exp()
        ahead = few.log_lose - few.log_win
        unit = ahead[..., -1:]
        ahead = ahead - unit
        weak = (many.log_lose - many.log_win - unit).clamp(max=0).exp()
        of_few, without_one = _products(torch.stack(((-ahead).exp(), torch.ones_like(ahead)), -1), k)
        of_many = self._symmetric(weak, k)
        coefficients = _multiply(of_few, of_many, k).clamp(min=torch.finfo(weak.dtype).tiny)
        scaled = coefficients.log() + unit * torch.arange(k, dtype=weak.dtype, device=weak.device)
        tail = scaled.logsumexp(-1)

        # Leaving out one: its factor is divided out of the many, or was never multiplied to the few.
        without = coefficients[..., :1]
        for i in range(1, k):
            without = coefficients[..., i : i + 1] - weak * without
        share = unit * (k - 1) - tail.unsqueeze(-1)
        by_many = (pull + share).exp() * without.clamp(min=0)
        exactly = (without_one * of_many.flip(-1).unsqueeze(-2)).sum(-1)
        by_few = (pull_few + share - ahead).exp() * exactly
        return log_win + ahead.sum(-1) + tail, by_few, by_many

    def _symmetric(self, values: Tensor, k: int) -> Tensor:
        """Return e_0, ..., e_(k-1), the symmetric polynomials of values (..., N, G) of the others."""
        sums, power = [], values
        for i in range(1, k):
            sums.append(self.total(power))
            power = power * values if i + 1 < k else power
        found = [torch.ones_like(values[..., 0])]
        for i in range(1, k):
            signed = [(-1) ** j * found[i - 1 - j] * sums[j] for j in range(i)]
            found.append((torch.stack(signed).sum(0) / i).clamp(min=0))
        return torch.stack(found, -1)


def _products(factors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the first k coefficients of the product of (..., m, 2) polynomials, and of it without each."""
    size = 1 << (factors.shape[-2] - 1).bit_length()
    one = factors.new_tensor([1.0, 0.0]).expand(*factors.shape[:-2], size - factors.shape[-2], 2)
    levels = [torch.cat((factors, one), -2)]
    while levels[-1].shape[-2] > 1:
        pair = _pairs(levels[-1])
        levels.append(_multiply(pair[..., 0, :], pair[..., 1, :], k))
    # Down the tree again, each node gets the product of everything outside it.
    outside = torch.ones_like(levels[-1][..., :1])
    for level in levels[-2::-1]:
        sibling = _pairs(level).flip(-2)
        outside = _multiply(outside.unsqueeze(-2), sibling, k).flatten(-3, -2)
    outside = functional.pad(outside, (0, k - outside.shape[-1]))
    return levels[-1][..., 0, :], outside[..., : factors.shape[-2], :]


def _pairs(polynomials: Tensor) -> Tensor:
    *rows, number, degree = polynomials.shape
    return polynomials.reshape(*rows, number // 2, 2, degree)


def _multiply(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Return the product of polynomials along the last dimension, without powers of k and above."""
    degree = min(k, a.shape[-1] + b.shape[-1] - 1)
    terms = [
        sum(a[..., i] * b[..., n - i] for i in range(max(0, n - b.shape[-1] + 1), min(n + 1, a.shape[-1])))
        for n in range(degree)
    ]
    return torch.stack(terms, -1)  # type: ignore[arg-type]
