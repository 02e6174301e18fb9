"""Differentiable top-k classification: cross-entropy on relaxed top-k membership."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium._checks import at_least, choice, non_negative
from criterium.losses._topk_rows import ALL
from criterium.losses.topk_cross_entropy import TOP1, TopKCrossEntropyLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task
from criterium.sorting.topk import check_options

_MANY = 16


@dataclass(frozen=True)
class TopK(Objective):
    """Half of the weight on being first, half on being among the first k.

    The options are close to the authors' commands for CIFAR-100 from scratch, which however have no
    ``"odd_even"`` and no `candidates`. The network sorts the true class and the largest other logits, in this
    order, so that the numbers of the classes do not matter: as many as `candidates`, None for all, or
    ``"auto"``: 16, or all where there are fewer.
    """

    name = "topk"
    summary = "cross-entropy on being among the top k, by a differentiable sorting network"
    paper = "Petersen et al. 2022, Differentiable Top-k Classification Learning, arXiv:2206.07290"
    search: ClassVar[Search] = {
        "optimizer": Choice(("sgd", "adamw")),
        "steepness": Choice((0.5, 1.0, 2.0)),
        "first": Choice((0.25, 0.5, 0.75)),
    }
    # The authors' commands for CIFAR-100 from scratch; Adam there, whose decay is 0.
    published: ClassVar[Setting] = {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
    }

    first: float = 0.5
    relaxation: str = "odd_even"
    distribution: str = "logistic_phi"
    steepness: float = 0.5
    art_lambda: float = 0.5
    candidates: int | str | None = "auto"
    top1: str = "softmax_ce"

    def __post_init__(self) -> None:
        """Check the options, but for what depends on k and on the number of classes."""
        if not 0 <= non_negative("first", self.first) <= 1:
            raise ValueError(f"first: got {self.first!r}, expected a number from 0 to 1")
        check_options(self.relaxation, self.distribution, self.steepness, self.art_lambda)
        choice("top1", self.top1, TOP1)
        if self.candidates == "auto" or self.candidates is None:
            return
        if isinstance(self.candidates, str):
            raise ValueError(f"candidates: got {self.candidates!r}, expected a whole number, 'auto' or none")
        at_least("candidates", self.candidates, 2)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `TopKCrossEntropyLoss` for the k that the classifier is judged on."""
        p_k = (1.0,) if task.k == 1 else (self.first, *[0.0] * (task.k - 2), 1 - self.first)
        # A number that was asked for is not clamped: the loss refuses one that does not fit.
        candidates = ALL if self.candidates is None else self.candidates
        if candidates == "auto":
            candidates = _MANY if task.num_classes > _MANY > len(p_k) else ALL
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
