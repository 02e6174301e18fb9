"""Training: one loop for every objective, on Hugging Face Accelerate."""

from criterium.training.devices import accelerator_for
from criterium.training.loop import Diverged, Trained, train
from criterium.training.recipe import Recipe
from criterium.training.trainer import predict

__all__ = ["Diverged", "Recipe", "Trained", "accelerator_for", "predict", "train"]
