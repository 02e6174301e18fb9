"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Task


@dataclass(frozen=True)
class LabelSmoothing(Objective):
    """Cross-entropy with a share of each target spread over all classes."""

    name = "label-smoothing"
    summary = "cross-entropy with a share of each target spread over all classes"
    paper = "Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567"
    search: ClassVar[Search] = {"smoothing": Choice((0.05, 0.1, 0.2))}

    smoothing: float = 0.1

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `LabelSmoothingCrossEntropyLoss`."""
        return (LabelSmoothingCrossEntropyLoss(smoothing=self.smoothing),)
