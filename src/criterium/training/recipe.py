"""The settings of a training run that are not an objective's own; read by the command before torch is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from criterium._checks import at_least, choice, non_negative, positive


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the objective.

    Args:
        epochs: passes over the training rows.
        batch_size: rows a step.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        learning_rate: its largest value; None takes what the objective's paper used for SGD, and 1e-3
            for AdamW.
        weight_decay: None is 5e-4; not applied to norms, biases and other parameters of one dimension.
        schedule: "cosine" to zero, or "step": times 0.1 at 1/2 and 3/4 of training.
        warmup: share of the steps over which the learning rate rises from zero.
        clip: largest norm of the gradient, None for no limit. An objective may bring its own rule.
        augment: "none", or "crop-flip": padded random crops and horizontal flips of images.
        cutmix: share of the batches whose images are mixed by CutMix, 0 to 1.
        orthogonal: a method of `criterium.orthogonal` by which the backbone's layers are trained, or with
            ":stochastic=0.25" a share of their axes at a time; None for plain training.
        compress_activations: 1 to 8 bits, or a level such as "L3", at which `criterium.compress_activations`
            keeps the model's activations until the backward pass; None keeps them as they are.
        fused: fuse the loss with the output layer (`criterium.linear`), so that the matrix of logits, rows
            times classes, is never held in training: for classes by the ten thousand.

    """

    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str = "cosine"
    warmup: float = 0.05
    clip: float | None = None
    augment: str = "none"
    cutmix: float = 0.0
    orthogonal: str | None = None
    compress_activations: int | str | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 2)
        choice("optimizer", self.optimizer, ("sgd", "adamw"))
        choice("schedule", self.schedule, ("cosine", "step"))
        choice("augment", self.augment, ("none", "crop-flip"))
        if self.learning_rate is not None:
            positive("learning_rate", self.learning_rate)
        if self.weight_decay is not None:
            non_negative("weight_decay", self.weight_decay)
        if self.clip is not None:
            positive("clip", self.clip)
        if self.orthogonal is not None:
            from criterium.training.orthogonal import parse

            parse(self.orthogonal)
        if self.compress_activations is not None:
            from criterium.techniques.activations import parse_level

            parse_level(self.compress_activations)
            if self.fused:
                raise ValueError(
                    "fused: got True, expected False with compress_activations, which would compress what"
                    " the loss keeps of all classes"
                )
        for name, value in (("warmup", self.warmup), ("cutmix", self.cutmix)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: got {value!r}, expected a share from 0 to 1")

    def factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied with after a share `progress` of the steps."""
        if progress < self.warmup:
            return progress / self.warmup
        if self.schedule == "step":
            return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / max(1e-12, 1 - self.warmup)))
