"""EXACT: expected accuracy under logit noise that shrinks as training goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from criterium._checks import positive
from criterium.losses.exact import ExactLoss
from criterium.objectives.base import Choice, GradientTransform, Objective, Range, Search, Setting, Task


@dataclass(frozen=True)
class Exact(Objective):
    """Expected accuracy of standardised logits; the noise falls geometrically from `start` to `end`.

    `start` None is the paper's 10 for up to 50 classes, and lower for more: see `start_temperature`.
    """

    name = "exact"
    summary = "expected accuracy under logit noise, maximised directly"
    paper = "Karpukhin et al. 2022, EXACT: How to Train Your Accuracy, arXiv:2205.09615"
    learning_rate = 0.5
    search: ClassVar[Search] = {
        "optimizer": Choice(("sgd", "adamw")),  # the paper trains with both
        "start": Range(1.0, 10.0),
        "margin": Choice((None, 0.5, 1.0, 5.0, 10.0)),
        "end": Choice((1.0, 0.1, 0.01)),
    }
    # The authors' best for CIFAR-10 (their configuration of SGD).
    published: ClassVar[Setting] = {
        "learning_rate": 1.0,
        "weight_decay": 1e-4,
        "margin": 0.5,
        "start": 10.0,
    }

    margin: float | None = None
    start: float | None = None
    end: float = 1.0
    standardize: bool = True

    def __post_init__(self) -> None:
        """Check the temperatures, of which the last is met only when training is almost done."""
        if self.start is not None:
            positive("start", self.start)
        positive("end", self.end)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return `ExactLoss` at the first temperature."""
        start = start_temperature(task.num_classes) if self.start is None else self.start
        return (_Annealed(start, self.margin, self.standardize),)

    def schedule(self, criteria: Sequence[nn.Module], progress: float) -> None:
        """Lower the temperature: geometrically, as the authors lower the variance."""
        for criterion in cast("Sequence[_Annealed]", criteria):
            criterion.temperature = criterion.start * (self.end / criterion.start) ** progress

    def gradient_transform(self) -> GradientTransform:
        """Return the paper's gradient normaliser, which takes the place of clipping."""
        return GradientNormalizer()


def start_temperature(num_classes: int) -> float:
    """Return the temperature to begin with: 10, or less where that would reward giving up classes.

    Standardised logits that are perfect lead by C / sqrt(C - 1). With many classes and T = 10 such logits
    have a lower expected accuracy (0.094 for 150 classes) than logits of the same variance that are perfect
    for one half of the classes and nothing for the other (0.104), and training goes there. So with more
    than 50 classes training begins at the highest temperature, 10 at most, at which perfect logits have an
    expected accuracy of 0.9: 3.0 for 150 classes.

    Example:
        >>> start_temperature(10), round(start_temperature(150), 1), start_temperature(100_000)
        (10.0, 3.0, 10.0)

    """
    if num_classes <= 50:
        return 10.0
    lead = num_classes / math.sqrt(num_classes - 1)
    noise = torch.linspace(-8, 8, 1601, dtype=torch.float64)

    def perfect(temperature: float) -> float:
        wins = (num_classes - 1) * torch.special.log_ndtr(noise + lead / temperature)
        return float(torch.trapezoid((wins - noise.square() / 2).exp(), noise)) / math.sqrt(2 * math.pi)

    low, high = 1.0, 10.0
    if perfect(high) >= 0.9:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if perfect(middle) >= 0.9 else (low, middle)
    return low


class _Annealed(ExactLoss):
    """`ExactLoss` that remembers the temperature it began with."""

    def __init__(self, start: float, margin: float | None, standardize: bool) -> None:
        super().__init__(temperature=start, margin=margin, standardize=standardize)
        self.start = start


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
