"""Stochastically smoothed top-k calibrated hinge losses, balanced and for long-tailed classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from criterium._checks import non_negative
from criterium.heads import NormalizedLinear
from criterium.losses.noised_topk import NoisedTopKHingeLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class NoisedTopK(Objective):
    """Hinge between the true logit and the smoothed (k+1)-th largest."""

    name = "noised-topk"
    summary = "calibrated top-k hinge, smoothed by noise on the logits"
    paper = "Garcin et al. 2022, Stochastic smoothing of the top-K calibrated hinge loss, arXiv:2202.02193"
    search: ClassVar[Search] = {"epsilon": Choice((0.2, 0.5, 1.0))}
    # The authors' best for CIFAR-100 with a fifth of the labels wrong, at k = 5.
    published: ClassVar[Setting] = {
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
        "epsilon": 0.2,
        "samples": 10,
    }

    epsilon: float = 1.0
    samples: int | None = 5  # None: the expectation

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `NoisedTopKHingeLoss` for the k that the classifier is judged on."""
        return (NoisedTopKHingeLoss(k=task.k, epsilon=self.epsilon, samples=self.samples),)


@dataclass(frozen=True)
class NoisedTopKImbalanced(Objective):
    """The same on cosine logits, with margins that are wider for rare classes."""

    name = "noised-topk-imbalanced"
    summary = "calibrated top-k hinge with wider margins for rare classes, cosine head"
    paper = "Garcin et al. 2022, the same for imbalanced classes, arXiv:2202.02193"
    search: ClassVar[Search] = {"max_margin": Choice((0.1, 0.2, 0.4)), "scale": Choice((30.0, 50.0, 60.0))}
    # The authors' fine-tuning of a pretrained ResNet-50 on Pl@ntNet-300K; their weight decay is not known.
    published: ClassVar[Setting] = {
        "learning_rate": 0.002,
        "epsilon": 0.01,
        "max_margin": 0.2,
        "scale": 60.0,
    }

    max_margin: float = 0.2
    scale: float = 50.0
    epsilon: float = 0.01
    samples: int | None = 5  # None: the expectation

    def __post_init__(self) -> None:
        """Check the option that becomes a tensor."""
        non_negative("max_margin", self.max_margin)

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return a head whose logits are cosines."""
        return NormalizedLinear(in_features, task.num_classes)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `NoisedTopKHingeLoss` with margins that go as n_c^(-1/4)."""
        # A class without rows gets the margin of a class with one.
        margin = torch.tensor(task.class_counts, dtype=torch.float64).clamp(min=1).pow(-0.25)
        return (
            NoisedTopKHingeLoss(
                k=task.k,
                epsilon=self.epsilon,
                margin=(self.max_margin * margin / margin.max()).float(),
                scale=self.scale,
                samples=self.samples,
            ),
        )
