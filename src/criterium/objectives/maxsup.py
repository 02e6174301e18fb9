"""MaxSup: a penalty on the largest logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import nn

from criterium._checks import non_negative
from criterium.losses.maxsup import MaxSupLoss
from criterium.objectives.base import Choice, Objective, Search, Task


@dataclass(frozen=True)
class MaxSup(Objective):
    """Cross-entropy with a penalty on the largest logit that rises from `start` to `end` during training."""

    name = "maxsup"
    summary = "cross-entropy with the largest logit held close to the mean"
    paper = "Zhou et al. 2025, Overcoming Representation Collapse in Label Smoothing, arXiv:2502.15798"
    search: ClassVar[Search] = {"end": Choice((0.1, 0.2, 0.4))}

    start: float = 0.1
    end: float = 0.2

    def __post_init__(self) -> None:
        """Check the ends, of which the last is met only when training is almost done."""
        non_negative("start", self.start)
        non_negative("end", self.end)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `MaxSupLoss` with the first weight of the penalty."""
        return (MaxSupLoss(alpha=self.start),)

    def schedule(self, criteria: Sequence[nn.Module], progress: float) -> None:
        """Raise the weight of the penalty linearly, as the authors' code does."""
        for criterion in cast("Sequence[MaxSupLoss]", criteria):
            criterion.alpha = self.start + (self.end - self.start) * progress
