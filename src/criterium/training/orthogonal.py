"""Orthogonal training in the loop: what each of its methods asks for besides a parametrised backbone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from criterium._checks import choice
from criterium.techniques import orthogonal
from criterium.training.hooks import Weights
from criterium.training.seeds import derive, generator

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


class OrthogonalTraining(Weights):
    """A backbone whose layers are orthogonal, and their own part of training."""

    def __init__(self, text: str, model: nn.Module, criteria: int, seed: int) -> None:
        """Make the layers of `model`'s backbone orthogonal; a model without one is taken whole.

        Raises:
            ValueError: `text` is no method, or there is no layer that can be orthogonal.

        """
        self.method, self.share = parse(text)
        self.seed = seed
        self.backbone = getattr(model, "backbone", model)
        draws = generator(derive(seed, "orthogonal"))
        orthogonal.apply(self.backbone, self.method, stochastic=self.share, generator=draws)
        self.own = orthogonal.rotations(self.backbone) if self.method == "gradient_descent" else []
        # One for each criterion, as the recipe's optimisers are.
        self.optimizers = [orthogonal.RotationDescent(self.own) for _ in range(criteria) if self.own]

    def begin_step(self, step: int, steps: int, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Draw new axes where an episode of stochastic training ends."""
        if self.episode_ends(step, steps):
            self.next_episode(optimizers, generator(derive(self.seed, "axes", step)))

    def loss(self, loss: Tensor) -> Tensor:
        """Add what the method adds."""
        return loss + orthogonal.penalty(self.backbone) if self.method == "regularised" else loss

    def end_update(self, update: int, factor: float) -> None:
        """Update the matrices that are trained by themselves."""
        if self.optimizers:
            descent = self.optimizers[update]
            for group in descent.param_groups:
                group["lr"] = descent.defaults["lr"] * factor
            descent.step()
            descent.zero_grad()

    def trained(self, model: nn.Module) -> nn.Module:
        """Return a copy of `model` with plain weights."""
        return orthogonal.fold(model)

    def episode_ends(self, step: int, steps: int) -> bool:
        """Return whether stochastic training is to draw new axes before `step` of `steps`."""
        return self.share is not None and step > 0 and step % max(_SHORTEST, steps // EPISODES) == 0

    def next_episode(self, optimizers: Iterable[torch.optim.Optimizer], draws: torch.Generator) -> None:
        """Draw new axes; what optimisers remember of the old ones is forgotten."""
        matrices = orthogonal.next_episode(self.backbone, draws)
        for optimizer in (*optimizers, *self.optimizers):
            for matrix in matrices:
                # Fused optimisers refuse a state that only some parameters have, so it is not removed.
                for value in optimizer.state.get(matrix, {}).values():
                    if isinstance(value, Tensor):
                        value.zero_()
