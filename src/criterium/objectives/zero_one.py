"""Relaxed zero-one losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import choice, positive
from criterium.losses.zero_one import ZeroOneRelaxationLoss
from criterium.objectives.base import Choice, Objective, Search, Task

_KINDS = ("sigmoid", "polynomial", "beta_bernoulli")


@dataclass(frozen=True)
class ZeroOne(Objective):
    """A smooth count of the wrong classes that beat the true one.

    The two scalars of "beta_bernoulli" stay at 0, as in the authors' script, which does not train them.
    """

    name = "zero-one"
    summary = "a smooth count of the wrong classes that beat the true one"
    paper = "Hasan and Pal 2015, arXiv:1511.05643; all kinds in Karpukhin et al. 2022, arXiv:2205.09615"
    search: ClassVar[Search] = {"kind": Choice(_KINDS), "temperature": Choice((0.5, 1.0, 10.0))}

    kind: str = "sigmoid"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        choice("kind", self.kind, _KINDS)
        positive("temperature", self.temperature)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `ZeroOneRelaxationLoss`."""
        return (ZeroOneRelaxationLoss(kind=self.kind, temperature=self.temperature),)
