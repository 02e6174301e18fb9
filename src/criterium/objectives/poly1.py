"""Poly-1: cross-entropy with a larger first coefficient in its Taylor series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.losses.poly1 import Poly1CrossEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Task


@dataclass(frozen=True)
class Poly1(Objective):
    """Cross-entropy plus a multiple of the probability that misses the true class."""

    name = "poly1"
    summary = "cross-entropy plus a multiple of the probability that misses the true class"
    paper = "Leng et al. 2022, PolyLoss, arXiv:2204.12511"
    search: ClassVar[Search] = {"epsilon": Choice((1.0, 2.0, 4.0, 5.0))}

    epsilon: float = 1.0

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `Poly1CrossEntropyLoss`."""
        return (Poly1CrossEntropyLoss(epsilon=self.epsilon),)
