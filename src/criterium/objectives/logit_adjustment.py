"""Logit adjustment, for classes of very different size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from criterium._checks import non_negative
from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Task


@dataclass(frozen=True)
class LogitAdjusted(Objective):
    """Cross-entropy of the logits plus the log-frequency of each class; predictions go without it.

    It aims at the mean of the classes' own errors, so where classes are rare and the error over all rows
    is what counts, cross-entropy is the better choice.
    """

    name = "logit-adjusted"
    summary = "cross-entropy with class frequencies added in training, for the balanced error"
    paper = "Menon et al. 2021, Long-Tail Learning via Logit Adjustment, arXiv:2007.07314"
    search: ClassVar[Search] = {"tau": Choice((0.5, 1.0, 2.0))}

    tau: float = 1.0

    def __post_init__(self) -> None:
        """Check the option."""
        non_negative("tau", self.tau)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `LogitAdjustedCrossEntropyLoss` for the counts of the training rows."""
        # A class without rows is treated as one with one.
        counts = torch.tensor(task.class_counts).clamp(min=1)
        return (LogitAdjustedCrossEntropyLoss(class_counts=counts, tau=self.tau),)
