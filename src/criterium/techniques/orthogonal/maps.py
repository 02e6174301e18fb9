"""From a free square matrix to an orthogonal one, by the methods of the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def polish(nearly: Tensor) -> Tensor:
    """Return Q (3I − QᵀQ) / 2: an error e of QᵀQ becomes 3/4 e², down to rounding (Newton and Schulz)."""
    return torch.addmm(nearly, nearly, _gap(nearly), alpha=-0.5)


def _gap(matrix: Tensor) -> Tensor:
    gap = matrix.T @ matrix
    gap.diagonal().sub_(1)
    return gap


def cayley(free: Tensor) -> Tensor:
    """Return (I + S)(I − S)⁻¹ with S = triu(R) − triu(R)ᵀ: a rotation, its determinant is 1.

    Example:
        >>> cayley(torch.tensor([[7.0, 1.0], [9.0, 7.0]]))
        tensor([[ 0.,  1.],
                [-1.,  0.]])

    """
    upper = free.triu()
    identity = torch.eye(len(free), dtype=free.dtype, device=free.device)
    # (I + S)(I − S)⁻¹ = 2 (I − S)⁻¹ − I; the inverse exists, as the eigenvalues of S are imaginary.
    rotation: Tensor = 2 * torch.linalg.inv(identity - upper + upper.T) - identity
    # Where S is large the inverse is off by more than rounding. The polish moves no further than that,
    # so the gradient is that of the transform.
    return rotation + (polish(rotation.detach()) - rotation.detach())


def gram_schmidt(free: Tensor) -> Tensor:
    """Return the rows of R, each without its parts along those before it, at length 1.

    Example:
        >>> gram_schmidt(torch.tensor([[3.0, 4.0], [5.0, 0.0]]))
        tensor([[ 0.6000,  0.8000],
                [ 0.8000, -0.6000]])

    """
    columns, triangle = torch.linalg.qr(free.T)
    rows: Tensor = (columns * _signs(triangle)).T
    return rows


def householder(free: Tensor) -> Tensor:
    """Return the Q of R = QT by n − 1 reflections, all but the last of T's diagonal positive.

    Example:
        >>> householder(torch.tensor([[3.0, 5.0], [4.0, 0.0]]))
        tensor([[ 0.6000,  0.8000],
                [ 0.8000, -0.6000]])

    """
    columns: Tensor
    columns, triangle = torch.linalg.qr(free)
    signs = _signs(triangle)
    signs[-1] = 1
    # n − 1 reflections have the determinant (−1)^(n−1), which settles the sign of the last column.
    turned = torch.linalg.slogdet(columns.detach()).sign * signs.prod()
    signs[-1] = turned if len(free) % 2 else -turned
    return columns * signs


def lowdin(free: Tensor) -> Tensor:
    """Return UVᵀ of R = UΣVᵀ: the orthogonal matrix nearest to R.

    Example:
        >>> lowdin(torch.tensor([[0.0, 5.0], [2.0, 0.0]]))
        tensor([[0., 1.],
                [1., 0.]])

    """
    nearest: Tensor = _Polar.apply(free)  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
    return nearest


def unchanged(free: Tensor) -> Tensor:
    """Return R itself, which something else keeps orthogonal, or near it."""
    return free


METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "cayley": cayley,
    "gram_schmidt": gram_schmidt,
    "householder": householder,
    "lowdin": lowdin,
    "gradient_descent": unchanged,
    "regularised": unchanged,
}
"""What ``method=`` takes, with the map from the trained matrix to the one that turns the neurons."""


def _signs(triangle: Tensor) -> Tensor:
    diagonal = triangle.detach().diagonal()
    return torch.copysign(torch.ones_like(diagonal), diagonal)


class _Polar(torch.autograd.Function):
    """UVᵀ, with the gradient of the polar factor.

    The gradient of U and of V divides by σi² − σj²; that of their product only by σi + σj, so repeated
    singular values do no harm.
    """

    @staticmethod
    def forward(ctx: Any, free: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(free)
        ctx.save_for_backward(left, values, right)
        nearest: Tensor = left @ right
        return nearest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        left, values, right = ctx.saved_tensors
        inner = left.T @ slope @ right.T
        # From rank n − 2 down the factor is not unique and its slope infinite. Rounding of the largest value
        # bounds it, and eps² where all of them are zero: a gradient can be scaled, NaN cannot.
        eps = torch.finfo(values.dtype).eps
        sums = (values[:, None] + values).clamp_min(eps * values[0].clamp_min(eps))
        return left @ ((inner - inner.T) / sums) @ right  # type: ignore[no-any-return]
