"""Complement objective training: a second update that evens out the wrong classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from criterium.losses.complement import ComplementEntropyLoss
from criterium.objectives.base import Objective, Task


@dataclass(frozen=True)
class ComplementObjective(Objective):
    """Each step: an update for cross-entropy, then a forward pass and update for complement entropy."""

    name = "cot"
    summary = "cross-entropy, alternating with flattening the wrong classes' probabilities"
    paper = "Chen et al. 2019, Complement Objective Training, arXiv:1903.01182"

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the two criteria that take turns."""
        return nn.CrossEntropyLoss(), ComplementEntropyLoss()
