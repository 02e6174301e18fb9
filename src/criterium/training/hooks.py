"""Where a technique may take part in training, each place with what plain training does there.

A third place lies between backward and the optimiser's step: `criterium.objectives.GradientTransform`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Forward:
    """How a batch becomes a loss: the model's logits, then the criterion."""

    def __init__(self, criteria: Sequence[nn.Module]) -> None:
        """Take the criterion of each update of a step."""
        self.criteria = criteria

    def model(self, model: nn.Module) -> nn.Module:
        """Return what is called in training; with inputs alone it returns logits, as `model` does."""
        return model

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch, which may depend on none before it."""

    def loss(self, model: nn.Module, inputs: Tensor, target: Tensor, update: int) -> Tensor:
        """Return the loss of an update of a step, the first or the second."""
        loss: Tensor = self.criteria[update](model(inputs), target)
        return loss


class Weights:
    """How weights are trained: by the recipe's optimisers, and by nothing else."""

    own: Sequence[nn.Parameter] = ()
    """Parameters that no optimiser of the recipe trains."""
    optimizers: Sequence[torch.optim.Optimizer] = ()
    """Those that train `own`: a checkpoint holds their state."""

    def begin_step(self, step: int, steps: int, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Begin `step` of `steps`; `optimizers` are those of the recipe."""

    def loss(self, loss: Tensor) -> Tensor:
        """Return the loss with what is to be added to it."""
        return loss

    def end_update(self, update: int, factor: float) -> None:
        """Update `own` at `factor` times its learning rate, after the optimiser of this update."""

    def trained(self, model: nn.Module) -> nn.Module:
        """Return `model` with plain weights."""
        return model
