"""Cross-entropy: what everything else is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import non_negative
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross-entropy, with label smoothing if asked for."""

    name = "cross-entropy"
    summary = "maximum likelihood, the usual way"
    paper = "Good 1952; smoothing: Szegedy et al. 2016, arXiv:1512.00567"
    search: ClassVar[Search] = {"label_smoothing": Choice((0.0, 0.05, 0.1))}
    # He et al. 2016, arXiv:1512.03385, section 4.2 (CIFAR-10).
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the option."""
        if not 0 <= non_negative("label_smoothing", self.label_smoothing) <= 1:
            raise ValueError(f"label_smoothing: got {self.label_smoothing!r}, expected a number from 0 to 1")

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `torch.nn.CrossEntropyLoss`."""
        return (nn.CrossEntropyLoss(label_smoothing=self.label_smoothing),)
