"""The multi-class hinge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import non_negative
from criterium.losses.hinge import MulticlassHingeLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class Hinge(Objective):
    """Every wrong class is to stay a margin below the true one."""

    name = "hinge"
    summary = "hinge between the true logit and every other, averaged"
    paper = "Weston and Watkins 1999, Support Vector Machines for Multi-Class Pattern Recognition"
    search: ClassVar[Search] = {"margin": Choice((0.1, 1.0, 5.0, 10.0))}
    # What Karpukhin et al. 2022 found best for CIFAR-10.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "margin": 1.0, "clip": 10.0}

    margin: float = 1.0

    def __post_init__(self) -> None:
        """Check the option."""
        non_negative("margin", self.margin)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `MulticlassHingeLoss`."""
        return (MulticlassHingeLoss(margin=self.margin),)
