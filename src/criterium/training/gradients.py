"""What is done to gradients where the objective brings no rule of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from criterium.objectives import GradientTransform


class Keep(GradientTransform):
    """Leaves gradients as they are."""

    def forward(self, parameters: Sequence[nn.Parameter]) -> None:
        """Do nothing."""


class ClipNorm(GradientTransform):
    """Scales all gradients down where their norm together is above a limit."""

    def __init__(self, limit: float) -> None:
        """Clip at `limit`."""
        super().__init__()
        self.limit = limit

    def forward(self, parameters: Sequence[nn.Parameter]) -> None:
        """Clip in place."""
        nn.utils.clip_grad_norm_(parameters, self.limit)
