"""What an objective is: everything that a paper changes about training a classifier, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from criterium.linear import LinearCriterion


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn uniformly in their logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[Any, ...]


Search = Mapping[str, Range | Choice]
"""By option, of the objective or of the recipe: where its values are searched."""

Setting = Mapping[str, Any]
"""By option, of the objective or of the recipe: its value."""


@dataclass(frozen=True)
class Task:
    """What an objective may know of the data: training rows only."""

    num_classes: int
    class_counts: tuple[int, ...]
    k: int  # the k of the top-k error that the classifier will be judged on
    is_image: bool
    # By level of the tree that the classes hang in, from the root down: the number of each class's group.
    hierarchy: tuple[tuple[int, ...], ...] | None = None


class GradientTransform(nn.Module):
    """Changes gradients between backward and the optimiser's step; its state lies in buffers."""

    def __init__(self) -> None:
        """Take no options: those of PyTorch's modules are unknown to a type checker."""
        super().__init__()

    def forward(self, parameters: Sequence[nn.Parameter]) -> None:
        """Change ``parameter.grad`` in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class Objective:
    """Plain training: a linear head, one criterion, one update a step.

    A paper's objective is a frozen dataclass that overrides what the paper changes. Its fields are the
    paper's own options; they must be JSON values, so that a run can be written down and run again.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    learning_rate: ClassVar[float] = 0.1  # default for SGD with momentum 0.9
    search: ClassVar[Search] = {}  # in addition to learning rate and weight decay, or in their place
    published: ClassVar[Setting] = {}  # the paper's setting for the nearest case, with its source
    score: ClassVar[str] = "mps"  # the score by which the paper tells OOD inputs
    score_at_one: ClassVar[bool] = False  # at temperature 1 rather than at the fitted one, as the authors do
    mixes: ClassVar[bool] = False  # brings its own mixing of images, so CutMix is left out

    def head(self, in_features: int, task: Task) -> nn.Module:
        """Return the output layer."""
        return nn.Linear(in_features, task.num_classes)

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the criterion of each update in a step; each update has a forward pass and optimiser."""
        raise NotImplementedError

    def fused(self, head: nn.Module, criterion: nn.Module) -> nn.Module:
        """Return one of `criteria` fused with the head: called with features, and never forming all logits.

        Raises:
            ValueError: the criterion or the head has no fused form.

        """
        return LinearCriterion(head, criterion)

    def transform_batch(self, inputs: Tensor, target: Tensor, task: Task) -> tuple[Tensor, Tensor]:
        """Return the batch to train on. Rows come in random order; inputs are standardised later."""
        return inputs, target

    def schedule(self, criteria: Sequence[nn.Module], progress: float) -> None:
        """Set options of the criteria before a step; `progress` runs from 0 to below 1 over training."""

    def gradient_transform(self) -> GradientTransform | None:
        """Return what replaces gradient clipping, if anything."""
        return None
