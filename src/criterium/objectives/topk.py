"""Differentiable top-k classification: cross-entropy on relaxed top-k membership."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Task

_MANY = 16


@dataclass(frozen=True)
class TopK(Objective):
    """Half of the weight on being first, half on being among the first k.

    The paper's setting for training from scratch, but for `candidates`, which it uses for many classes:
    the network then sorts the true class and the strongest others only.
    """

    name = "topk"
    summary = "cross-entropy on being among the top k, by a differentiable sorting network"
    paper = "Petersen et al. 2022, Differentiable Top-k Classification Learning, arXiv:2206.07290"
    search: ClassVar[Search] = {"steepness": Choice((0.5, 1.0, 2.0)), "first": Choice((0.25, 0.5, 0.75))}

    first: float = 0.5
    relaxation: str = "odd_even"
    distribution: str = "logistic_phi"
    steepness: float = 0.5
    art_lambda: float = 0.5
    candidates: int | None = None
    top1: str = "softmax_ce"

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `TopKCrossEntropyLoss` for the k that the classifier is judged on."""
        p_k = (1.0,) if task.k == 1 else (self.first, *[0.0] * (task.k - 2), 1 - self.first)
        # Candidates save time where classes are many; where they are few, all of them take part. A number
        # that was asked for is not clamped: the loss refuses one that does not fit.
        candidates = self.candidates
        if candidates is None and task.num_classes > _MANY:
            candidates = _MANY
        return (
            TopKCrossEntropyLoss(
                p_k=p_k,
                relaxation=self.relaxation,
                distribution=self.distribution,
                steepness=self.steepness,
                art_lambda=self.art_lambda,
                top1=self.top1,
                candidates=candidates,
            ),
        )
