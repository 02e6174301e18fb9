"""Guided complement entropy: flat wrong classes and a sure true one, in a single loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import non_negative
from criterium.losses.guided_complement import GuidedComplementEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class GuidedComplement(Objective):
    """Guided complement entropy in the place of cross-entropy; `alpha` is its guiding power.

    Its claim is robustness under attack; it promises no lower error.
    """

    name = "gce"
    summary = "flat probabilities of the wrong classes, guided by the true one's"
    paper = "Chen et al. 2019, Guided Complement Entropy, arXiv:1903.09799"
    search: ClassVar[Search] = {"optimizer": Choice(("sgd", "adamw")), "alpha": Choice((0.2, 1 / 3))}
    # The authors' script for MNIST; Adam there, whose decay is 0.
    published: ClassVar[Setting] = {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
    }

    alpha: float = 1 / 3

    def __post_init__(self) -> None:
        """Check the power."""
        non_negative("alpha", self.alpha)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the one criterion."""
        return (GuidedComplementEntropyLoss(alpha=self.alpha),)
