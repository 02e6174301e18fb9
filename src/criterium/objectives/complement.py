"""Complement objective training: even out the wrong classes, in a second update or in the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from criterium._checks import non_negative
from criterium.losses.complement import ComplementEntropyLoss
from criterium.objectives.base import Objective, Setting, Task


@dataclass(frozen=True)
class ComplementObjective(Objective):
    """Each step: an update for cross-entropy, then a forward pass and update for complement entropy.

    With `updates` = 1, which is not in the paper, one update for cross-entropy + `beta` times complement
    entropy, from one forward pass. In two updates `beta` scales the loss of the second.
    """

    name = "cot"
    summary = "cross-entropy, alternating with flattening the wrong classes' probabilities"
    paper = "Chen et al. 2019, Complement Objective Training, arXiv:1903.01182"
    # The authors' script for CIFAR-10; momentum and decay act in both updates, as here.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}

    updates: int = 2
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        if self.updates not in (1, 2):
            raise ValueError(f"updates: got {self.updates!r}, expected 1 or 2 a step")
        non_negative("beta", self.beta)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the two criteria that take turns, or the one that is their sum."""
        complement = ComplementEntropyLoss()
        if self.updates == 1:
            return (_Complement(self.beta, complement, nn.CrossEntropyLoss()),)
        return nn.CrossEntropyLoss(), _Complement(self.beta, complement)

    def fused(self, head: nn.Module, criterion: nn.Module) -> nn.Module:
        """Return the criterion of features; a sum of two is a sum of two fused ones."""
        if not isinstance(criterion, _Complement):
            return super().fused(head, criterion)
        main = None if criterion.main is None else super().fused(head, criterion.main)
        return _Complement(self.beta, super().fused(head, criterion.complement), main)


class _Complement(nn.Module):
    """`complement` times `beta`, added to `main` if there is one."""

    def __init__(self, beta: float, complement: nn.Module, main: nn.Module | None = None) -> None:
        super().__init__()
        self.beta = beta
        self.complement = complement
        self.main = main

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        term: Tensor = self.beta * self.complement(outputs, target)
        return term if self.main is None else self.main(outputs, target) + term
