"""DisMax: distances to all prototypes, and images mixed by quadrants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from criterium._checks import non_negative
from criterium.heads import DisMaxHead
from criterium.losses.fractional_probability import mean_of_halves, mix_quadrants, mixed_targets
from criterium.losses.isomax import IsoMaxLoss
from criterium.objectives.base import Choice, Objective, Search, Setting, Task


@dataclass(frozen=True)
class DisMax(Objective):
    """Logits from a distance and the mean distance; half of each batch of images is mixed.

    Data without images is not mixed: there are no quadrants to exchange.
    """

    name = "dismax"
    summary = "distances to all prototypes as logits, mixed images, max-mean logit entropy score"
    paper = "Macêdo et al. 2022, Distinction Maximization Loss, arXiv:2205.05874"
    search: ClassVar[Search] = {"alpha": Choice((0.5, 1.0))}
    # The authors' script for CIFAR-10 and CIFAR-100.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}
    score = "mmles"
    mixes = True

    alpha: float = 1.0
    entropic_scale: float = 10.0

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return the head of all distances."""
        return DisMaxHead(in_features, task.num_classes)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the loss of a batch whose second half is mixed, or of one that is not."""
        isomax = IsoMaxLoss(entropic_scale=self.entropic_scale, reduction="none")
        return (_DisMaxLoss(self.alpha, isomax),)

    def fused(self, head: nn.Module, criterion: nn.Module) -> nn.Module:
        """Return the same of features."""
        assert isinstance(criterion, _DisMaxLoss)
        return _DisMaxLoss(self.alpha, super().fused(head, criterion.isomax))

    def transform_batch(self, inputs: Tensor, target: Tensor, task: Task) -> tuple[Tensor, Tensor]:
        """Mix the second half of a batch of images."""
        if not task.is_image:
            return inputs, target
        height, width = inputs.shape[-2:]
        return mix_quadrants(inputs), mixed_targets(target, task.num_classes, (height, width))


class _DisMaxLoss(nn.Module):
    """The mean of what `isomax` says of each row, with regard to halves where the batch is mixed."""

    def __init__(self, alpha: float, isomax: nn.Module) -> None:
        super().__init__()
        self.alpha = non_negative("alpha", alpha)
        self.isomax = isomax

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        losses: Tensor = self.isomax(outputs, target)
        return mean_of_halves(losses, target, self.alpha) if target.is_floating_point() else losses.mean()
