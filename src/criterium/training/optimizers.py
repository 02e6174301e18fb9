"""From a recipe to the optimiser of a model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from criterium.training.recipe import Recipe


def optimizer_for(
    recipe: Recipe, model: nn.Module, learning_rate: float, without: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the optimiser of `model`'s parameters, except those that another one trains."""
    others = {id(parameter) for parameter in without}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in others]
    decayed = [p for p in trained if p.dim() > 1]
    spared = [p for p in trained if p.dim() <= 1]
    decay = 5e-4 if recipe.weight_decay is None else recipe.weight_decay
    groups = [
        {"params": parameters, "weight_decay": share}
        for parameters, share in ((decayed, decay), (spared, 0.0))
        if parameters
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=fused)
