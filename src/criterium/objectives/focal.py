"""Focal loss: rows that are already classified with certainty count little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import non_negative
from criterium.losses.focal import FocalLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class Focal(Objective):
    """Cross-entropy times a power of the probability that misses the true class."""

    name = "focal"
    summary = "cross-entropy that counts less the surer the model is of the true class"
    paper = "Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002"
    search: ClassVar[Search] = {"gamma": Choice((0.5, 1.0, 2.0, 5.0))}
    # Section 4.1, for detection: the paper trains no classifier of whole images.
    published: ClassVar[Setting] = {"learning_rate": 0.01, "weight_decay": 1e-4}

    gamma: float = 2.0

    def __post_init__(self) -> None:
        """Check the option."""
        non_negative("gamma", self.gamma)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `FocalLoss`."""
        return (FocalLoss(gamma=self.gamma),)
