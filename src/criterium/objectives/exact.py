"""EXACT: expected accuracy under logit noise that shrinks as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from criterium._checks import positive
from criterium.losses.exact import ExactLoss
from criterium.objectives.base import Choice, GradientTransform, Objective, Search, Task


@dataclass(frozen=True)
class Exact(Objective):
    """Expected accuracy of standardised logits; the noise falls geometrically from `start` to `end`."""

    name = "exact"
    summary = "expected accuracy under logit noise, maximised directly"
    paper = "Karpukhin et al. 2022, EXACT: How to Train Your Accuracy, arXiv:2205.09615"
    learning_rate = 0.5
    search: ClassVar[Search] = {
        "margin": Choice((None, 0.5, 1.0, 5.0, 10.0)),
        "end": Choice((1.0, 0.1, 0.01)),
    }

    margin: float | None = None
    start: float = 10.0
    end: float = 1.0
    standardize: bool = True

    def __post_init__(self) -> None:
        """Check the temperatures, of which the last is met only when training is almost done."""
        positive("start", self.start)
        positive("end", self.end)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `ExactLoss` at the first temperature."""
        return (ExactLoss(temperature=self.start, margin=self.margin, standardize=self.standardize),)

    def schedule(self, criteria: Sequence[nn.Module], progress: float) -> None:
        """Lower the temperature: geometrically, as the authors lower the variance."""
        for criterion in criteria:
            criterion.temperature = self.start * (self.end / self.start) ** progress

    def gradient_transform(self) -> GradientTransform:
        """Return the paper's gradient normaliser, which takes the place of clipping."""
        return GradientNormalizer()


class GradientNormalizer(GradientTransform):
    """Divides gradients by a moving average of their norm: m <- 0.9 m + 0.1 ||g||, g <- g / max(m, 0.01)."""

    average: Tensor

    def __init__(self, *, momentum: float = 0.9, floor: float = 0.01) -> None:
        """Start without an average: the first norm becomes it."""
        super().__init__()
        self.momentum = momentum
        self.floor = floor
        self.register_buffer("average", torch.tensor(-1.0))

    @torch.no_grad()
    def forward(self, parameters: Sequence[nn.Parameter]) -> None:
        """Normalise the gradients in place."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients).to(self.average)
        moved = self.momentum * self.average + (1 - self.momentum) * norm
        self.average.copy_(torch.where(self.average < 0, norm, moved))
        torch._foreach_mul_(gradients, self.average.clamp(min=self.floor).reciprocal())
