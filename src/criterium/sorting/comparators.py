"""Relaxed comparators: which share of the smaller value stays on the low wire.

A hard comparator leaves the smaller of two values on its low wire. A relaxed one leaves a mean of both
there: the share f(gap) of the value on the low wire and f(-gap) of the other, where gap is the value on
the high wire minus that on the low one, and f a symmetric distribution function. The second share is
never formed as 1 - f(gap): a small share would lose its digits, in float32 up to a fifth of a gradient.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from criterium._checks import choice, positive

DISTRIBUTIONS = ("logistic", "logistic_phi", "gaussian", "reciprocal", "cauchy", "optimal")

_TIE = 1e-7
"""``logistic_phi`` has an unbounded slope at a gap of zero; gaps below this one are taken as they are."""


class Comparator(NamedTuple):
    """A distribution with its steepness; its methods are given gaps of scores times `unit`."""

    distribution: str
    steepness: float
    art_lambda: float

    @property
    def unit(self) -> float:
        """What scores are multiplied by once, before the network, instead of every gap in it."""
        return 1.0 if self.distribution == "logistic_phi" else self.steepness

    def shares(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(gap) and f(-gap)."""
        return self.share(gap), self.share(-gap)

    def share(self, gap: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return f(gap), written to `out` where that is given."""
        match self.distribution:
            case "logistic":
                return torch.sigmoid(gap, out=out)
            case "logistic_phi":
                drive = _base(gap.abs()).pow(-self.art_lambda).mul_(gap).mul_(self.steepness)
                return torch.sigmoid(drive, out=out)
            case "gaussian":
                # Not torch.special.ndtr: its vectorised form is (1 + erf) / 2, which loses small shares.
                return torch.mul(torch.erfc(gap * -math.sqrt(0.5)), 0.5, out=out)
            case "reciprocal":
                low, high = 1 / (2 - gap.clamp_max(0)), 1 - 1 / (2 + gap.clamp_min(0))
                return torch.where(gap < 0, low, high, out=out)
            case "cauchy":
                # The angle of (-gap, 1) over pi: atan(gap) / pi + 1/2 without its cancellation.
                return torch.mul(torch.atan2(torch.ones_like(gap), -gap), 1 / math.pi, out=out)
            case _:  # optimal
                low, high = -1 / (16 * gap.clamp_max(-0.25)), 1 - 1 / (16 * gap.clamp_min(0.25))
                tails = torch.where(gap < 0, low, high)
                return torch.where(gap.abs() <= 0.25, 0.5 + gap, tails, out=out)

    def slope(self, gap: Tensor, share: Tensor) -> Tensor:
        """Return the derivative of f at `gap`, where f(gap) is `share`."""
        match self.distribution:
            case "logistic":
                return torch.addcmul(share, share, share, value=-1)
            case "logistic_phi":
                size = gap.abs()
                base = _base(size.clone())
                logistic = torch.addcmul(share, share, share, value=-1)
                rest = 1 - size.div_(base).mul_(self.art_lambda)
                return logistic.mul_(rest).mul_(base.pow_(-self.art_lambda)).mul_(self.steepness)
            case "gaussian":
                return (-0.5 * gap * gap).exp() / math.sqrt(2 * math.pi)
            case "reciprocal":
                return (2 + gap.abs()).pow(-2)
            case "cauchy":
                return (1 + gap * gap).reciprocal() / math.pi
            case _:  # optimal
                return (4 * gap.abs().clamp_min(0.25)).pow(-2)


def _base(size: Tensor) -> Tensor:
    """Turn the sizes of gaps, in place, into what `logistic_phi` divides by a power of: 1 where they tie."""
    base: Tensor = torch.threshold_(size.add_(1e-10), _TIE, 1.0)
    return base


def comparator(distribution: str, steepness: float, art_lambda: float) -> Comparator:
    """Return the comparator of checked options."""
    choice("distribution", distribution, DISTRIBUTIONS)
    positive("steepness", steepness)
    if not 0 <= art_lambda < 1:
        raise ValueError(f"art_lambda: got {art_lambda!r}, expected a number in [0, 1)")
    return Comparator(distribution, steepness, art_lambda)
