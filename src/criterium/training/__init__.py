"""Training: one loop for every objective, on Hugging Face Accelerate."""

from criterium.training.loop import Diverged, Trained, predict, train
from criterium.training.recipe import Recipe

__all__ = ["Diverged", "Recipe", "Trained", "predict", "train"]
