"""IsoMax and IsoMax+: classification by distance to prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.heads import IsoMaxHead, IsoMaxPlusHead
from criterium.losses.isomax import IsoMaxLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class IsoMax(Objective):
    """Minus the distance to a prototype as logit, sharpened by the entropic scale in training."""

    name = "isomax"
    summary = "distances to prototypes as logits, entropic scale in training only"
    paper = "Macêdo et al. 2021, Entropic Out-of-Distribution Detection, arXiv:1908.05569"
    search: ClassVar[Search] = {"entropic_scale": Choice((5.0, 10.0, 20.0))}
    # The authors' script for CIFAR-10 and CIFAR-100, the same for all their losses.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}
    score = "es"
    score_at_one = True

    entropic_scale: float = 10.0

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return the distance head."""
        return IsoMaxHead(in_features, task.num_classes)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `IsoMaxLoss`."""
        return (IsoMaxLoss(entropic_scale=self.entropic_scale),)


@dataclass(frozen=True)
class IsoMaxPlus(IsoMax):
    """IsoMax on normalised features and prototypes, scored by the smallest distance."""

    name = "isomax-plus"
    summary = "distances between normalised features and prototypes, learned distance scale"
    paper = "Macêdo and Ludermir 2022, Enhanced Isotropy Maximization Loss, arXiv:2105.14399"
    score = "mds"

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return the normalised distance head."""
        return IsoMaxPlusHead(in_features, task.num_classes)
