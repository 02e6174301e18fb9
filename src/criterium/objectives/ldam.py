"""LDAM with deferred re-weighting, for classes of very different size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from criterium._checks import non_negative, positive
from criterium.heads import NormalizedLinear
from criterium.losses.ldam import LDAMLoss, effective_number_weight
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class LDAM(Objective):
    """Wider margins for rarer classes; in the last part of training these classes also count more.

    Class weights go with the inverse of the effective number of rows, from the share `defer` of training
    on: the authors' epoch 160 of 200. `defer` = 1 leaves them out.
    """

    name = "ldam"
    summary = "cross-entropy with wider margins for rare classes, which count more at the end; cosine head"
    paper = "Cao et al. 2019, Label-Distribution-Aware Margin Loss, arXiv:1906.07413"
    search: ClassVar[Search] = {"max_margin": Choice((0.2, 0.5, 1.0)), "scale": Choice((30.0, 40.0))}
    # The authors' script for long-tailed CIFAR-10.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 2e-4}

    max_margin: float = 0.5
    scale: float = 30.0
    beta: float = 0.9999
    defer: float = 0.8

    def __post_init__(self) -> None:
        """Check the options, of which the last two are met only when training is almost done."""
        non_negative("max_margin", self.max_margin)
        positive("scale", self.scale)
        if not non_negative("beta", self.beta) < 1:
            raise ValueError(f"beta: got {self.beta!r}, expected a number from 0 to below 1")
        if not non_negative("defer", self.defer) <= 1:
            raise ValueError(f"defer: got {self.defer!r}, expected a share from 0 to 1")

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return a head whose logits are cosines."""
        return NormalizedLinear(in_features, task.num_classes)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `LDAMLoss` for the counts of the training rows."""
        # A class without rows is treated as one with one.
        counts = torch.tensor(task.class_counts).clamp(min=1)
        return (LDAMLoss(class_counts=counts, max_margin=self.max_margin, scale=self.scale),)

    def schedule(self, criteria: Sequence[nn.Module], progress: float) -> None:
        """Weight the classes once the share `defer` of training is over."""
        for criterion in cast("Sequence[LDAMLoss]", criteria):
            if progress < self.defer:
                criterion.weight = None
            elif criterion.weight is None:
                criterion.weight = effective_number_weight(criterion.class_counts, beta=self.beta)
