"""Orthogonal training in the loop: what each of its methods asks for beside a parametrised backbone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from criterium._checks import choice
from criterium.techniques import orthogonal

EPISODES = 400
"""Draws of axes in a training, as published."""

_SHORTEST = 20  # steps of an episode: each begins without momentum, which takes some ten to gather


def parse(text: str) -> tuple[str, float | None]:
    """Return method and share of ``"method"`` or ``"method:stochastic=share"``.

    >>> parse("gram_schmidt:stochastic=0.25")
    ('gram_schmidt', 0.25)
    """
    method, _, rest = str(text).partition(":")
    choice("orthogonal", method, orthogonal.METHODS)
    if method == text:
        return method, None
    option, _, value = rest.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if option != "stochastic" or not 0 < share <= 1:
        raise ValueError(
            f"orthogonal: got {text!r}, expected {method}, or {method}:stochastic=SHARE with a share above 0,"
            " at most 1"
        )
    return method, share


class OrthogonalTraining:
    """A backbone whose layers are orthogonal, and their own part of training."""

    def __init__(self, text: str, model: nn.Module, criteria: int, generator: torch.Generator) -> None:
        """Make the layers of `model`'s backbone orthogonal; a model without one is taken whole.

        Raises:
            ValueError: `text` is no method, or there is no layer that can be orthogonal.

        """
        self.method, self.share = parse(text)
        self.backbone = getattr(model, "backbone", model)
        orthogonal.apply(self.backbone, self.method, stochastic=self.share, generator=generator)
        self.own = orthogonal.rotations(self.backbone) if self.method == "gradient_descent" else []
        """The matrices that `descents`, one a criterion, train, and no other optimiser does."""
        self.descents = [orthogonal.RotationDescent(self.own) for _ in range(criteria) if self.own]

    def added(self) -> Tensor | float:
        """Return what the method adds to the loss."""
        return orthogonal.penalty(self.backbone) if self.method == "regularised" else 0.0

    def descend(self, criterion: int, factor: float) -> None:
        """Update the matrices that are trained by themselves, at `factor` times their learning rate."""
        if self.descents:
            descent = self.descents[criterion]
            for group in descent.param_groups:
                group["lr"] = descent.defaults["lr"] * factor
            descent.step()
            descent.zero_grad()

    def episode_ends(self, step: int, steps: int) -> bool:
        """Return whether stochastic training is to draw new axes before `step` of `steps`."""
        return self.share is not None and step > 0 and step % max(_SHORTEST, steps // EPISODES) == 0

    def next_episode(self, optimizers: Iterable[torch.optim.Optimizer], generator: torch.Generator) -> None:
        """Draw new axes; what optimisers remember of the old ones is forgotten."""
        matrices = orthogonal.next_episode(self.backbone, generator)
        for optimizer in (*optimizers, *self.descents):
            for matrix in matrices:
                # Fused optimisers refuse a state that only some parameters have, so it is not removed.
                for value in optimizer.state.get(matrix, {}).values():
                    if isinstance(value, Tensor):
                        value.zero_()
