"""Training: one loop for every objective, on Hugging Face Accelerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criterium._lazy import lazily

if TYPE_CHECKING:
    from criterium.training.devices import accelerator_for
    from criterium.training.loop import Diverged, Trained, train
    from criterium.training.recipe import Recipe
    from criterium.training.trainer import predict
else:  # the command reads the recipe's defaults without torch
    __getattr__ = lazily(
        __name__,
        {
            "Diverged": "criterium.training.loop",
            "Recipe": "criterium.training.recipe",
            "Trained": "criterium.training.loop",
            "accelerator_for": "criterium.training.devices",
            "predict": "criterium.training.trainer",
            "train": "criterium.training.loop",
        },
    )

__all__ = ["Diverged", "Recipe", "Trained", "accelerator_for", "predict", "train"]
