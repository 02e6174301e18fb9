"""Smooth loss functions for deep top-k classification: the top-k SVM, smoothed and as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.linear import LinearCriterion
from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task

_STRONGEST = 64


@dataclass(frozen=True)
class SmoothTopKSVM(Objective):
    """Margin of the true logit over the k-th largest other one, smoothed over all sets of k classes.

    The temperature is the paper's for CIFAR-100; for ImageNet it is 0.1.
    """

    name = "smooth-topk-svm"
    summary = "margin over the k-th largest wrong logit, smoothed over all sets of k classes"
    paper = "Berrada et al. 2018, Smooth Loss Functions for Deep Top-k Classification, arXiv:1802.07595"
    search: ClassVar[Search] = {"temperature": Choice((0.1, 0.3, 1.0))}
    # For CIFAR-100: the paper's DenseNet 40-40.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}

    temperature: float = 1.0
    margin: float = 1.0

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `SmoothTopKSVMLoss` for the k that the classifier is judged on."""
        return (SmoothTopKSVMLoss(k=task.k, temperature=self.temperature, margin=self.margin),)

    def fused(self, head: nn.Module, criterion: nn.Module) -> nn.Module:
        """Return the criterion of features, which looks at the strongest 64 classes and no others."""
        candidates = max(_STRONGEST, int(getattr(criterion, "k", 0)) + 1)
        return LinearCriterion(head, criterion, candidates=candidates)


@dataclass(frozen=True)
class TopKSVM(Objective):
    """The hinge that the smooth one is a smoothing of: the control for what the smoothing brings.

    It asks for a place among the k largest and nothing else, so that the first place is left to chance.
    """

    name = "topk-svm"
    summary = "hinge on a place among the k largest logits; does not order them"
    paper = "Lapin et al. 2015, Top-k Multiclass SVM, arXiv:1511.06683; form of Berrada et al. 2018"
    search: ClassVar[Search] = {"margin": Choice((0.5, 1.0, 2.0))}

    margin: float = 1.0

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `TopKSVMLoss` for the k that the classifier is judged on."""
        return (TopKSVMLoss(k=task.k, margin=self.margin),)
