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
    """A distribution with its steepness; gaps are given to its methods multiplied by the steepness."""

    distribution: str
    steepness: float
    art_lambda: float

    def shares(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(gap) and f(-gap)."""
        drive = self._drive(gap)
        return self._share(drive), self._share(-drive)

    def slope(self, gap: Tensor, keep: Tensor, swap: Tensor) -> Tensor:
        """Return the derivative of f at `gap`, given `shares`."""
        match self.distribution:
            case "logistic":
                return keep * swap
            case "logistic_phi":
                size, base = self._size(gap)
                return keep * swap * (1 - self.art_lambda * size / base) / base.pow(self.art_lambda)
            case "gaussian":
                return (-0.5 * gap * gap).exp() / math.sqrt(2 * math.pi)
            case "reciprocal":
                return (2 + gap.abs()).pow(-2)
            case "cauchy":
                return (1 + gap * gap).reciprocal() / math.pi
            case _:  # optimal
                return (4 * gap.abs().clamp_min(0.25)).pow(-2)

    def _drive(self, gap: Tensor) -> Tensor:
        if self.distribution != "logistic_phi":
            return gap
        _, base = self._size(gap)
        return gap / base.pow(self.art_lambda)

    def _size(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return |gap| without the steepness, and what its power divides the gap by."""
        size = gap.abs() / self.steepness
        return size, torch.where(size < _TIE, 1.0, size + 1e-10)

    def _share(self, drive: Tensor) -> Tensor:
        match self.distribution:
            case "logistic" | "logistic_phi":
                return torch.sigmoid(drive)
            case "gaussian":
                # Not torch.special.ndtr: its vectorised form is (1 + erf) / 2, which loses small shares.
                return 0.5 * torch.erfc(drive / -math.sqrt(2))
            case "reciprocal":
                return torch.where(drive < 0, 1 / (2 - drive.clamp_max(0)), 1 - 1 / (2 + drive.clamp_min(0)))
            case "cauchy":
                # The angle of (-drive, 1) over pi: atan(drive) / pi + 1/2 without its cancellation.
                return torch.atan2(torch.ones_like(drive), -drive) / math.pi
            case _:  # optimal
                tails = torch.where(
                    drive < 0, -1 / (16 * drive.clamp_max(-0.25)), 1 - 1 / (16 * drive.clamp_min(0.25))
                )
                return torch.where(drive.abs() <= 0.25, 0.5 + drive, tails)


def comparator(distribution: str, steepness: float, art_lambda: float) -> Comparator:
    """Return the comparator of checked options."""
    choice("distribution", distribution, DISTRIBUTIONS)
    positive("steepness", steepness)
    if not 0 <= art_lambda < 1:
        raise ValueError(f"art_lambda: got {art_lambda!r}, expected a number in [0, 1)")
    return Comparator(distribution, steepness, art_lambda)
