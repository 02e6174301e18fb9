"""Gradient descent on the orthogonal matrices themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from criterium._checks import non_negative, positive
from criterium.techniques.orthogonal.maps import polish


class RotationDescent(torch.optim.Optimizer):
    """The optimiser of the matrices of ``method="gradient_descent"``; another one trains all else.

    Each update follows the Cayley curve that the momentum points along, by two fixed-point iterations as
    the authors do, and then makes the matrix orthogonal again.

    Args:
        params: square orthogonal matrices: `rotations(model)`.
        lr: learning rate, 0.02 in the authors' training, times 0.2 where the other one drops by 0.1.
        momentum: the share of the last direction that is kept.

    Raises:
        ValueError: a parameter is not a square matrix, or a number is out of range.

    Example:
        >>> import torch
        >>> from criterium.techniques import orthogonal
        >>> model = orthogonal.apply(torch.nn.Linear(4, 2), "gradient_descent")
        >>> optimizer = RotationDescent(orthogonal.rotations(model))
        >>> others = torch.optim.SGD([model.bias], lr=0.1)
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step(), others.step()
        (None, None)
        >>> orthogonal.orthogonality_error(model) < 1e-6
        True

    Reference:
        Li, Li and Todorovic, "Efficient Riemannian Optimization on the Stiefel Manifold via the Cayley
        Transform", ICLR 2020, arXiv:2002.01113, in the form of "Orthogonal Over-Parameterized Training".

    Deviations:
        The matrix is made orthogonal after each update; the authors' drifts away.

    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.9) -> None:
        """Check every value."""
        positive("lr", lr)
        if non_negative("momentum", momentum) >= 1:
            raise ValueError(f"momentum: got {momentum!r}, expected a share below 1")
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2 or parameter.shape[0] != parameter.shape[1]:
                    raise ValueError(
                        f"params: got a parameter of shape {tuple(parameter.shape)}, expected square"
                        " matrices, the rotations of a model"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one update of each matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                dtype = torch.promote_types(parameter.dtype, torch.float32)
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                rotation, direction = cayley_step(
                    parameter.to(dtype),
                    state["momentum"].to(dtype),
                    parameter.grad.to(dtype),
                    group["lr"],
                    group["momentum"],
                )
                # a ‖w‖ ≤ 1 bounds what two iterations leave to 0.055; two polishes bring that below 1e-5.
                parameter.copy_(polish(polish(rotation)))
                state["momentum"].copy_(direction)
        return loss


def cayley_step(
    rotation: Tensor, momentum: Tensor, gradient: Tensor, lr: float, share: float
) -> tuple[Tensor, Tensor]:
    """Return the next R and momentum as published, R only nearly orthogonal.

    m ← share m − g; w = mRᵀ − ½ R(Rᵀm)Rᵀ, less its transpose; m ← wR; a = min(lr, 1/‖w‖); then
    y = R + am, and twice y ← R + (a/2) w (R + y).
    """
    momentum = share * momentum - gradient
    across = momentum @ rotation.T
    across = across - 0.5 * rotation @ (rotation.T @ momentum) @ rotation.T
    skew = across - across.T
    direction = skew @ rotation
    size = (1 / (torch.linalg.matrix_norm(skew) + 1e-8)).clamp_max(lr)
    following = rotation + size * direction
    for _ in range(2):
        following = rotation + size / 2 * (skew @ (rotation + following))
    return following, direction
