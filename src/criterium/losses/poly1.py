"""Poly-1: cross-entropy with a larger first coefficient in its Taylor series (Leng et al., 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from criterium.losses._contract import Criterion, cross_entropy, per_example_loss
from criterium.losses._logits import surprisal
from criterium.losses._one_pass import in_one_pass


def poly1_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy plus a multiple of the probability that misses the true class.

    loss(s, y) = −log p_y + ε (1 − p_y), p = softmax(s): cross-entropy is Σ_{i≥1} (1 − p_y)^i / i, of which
    ε changes the first coefficient. ε = 0 is cross-entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        epsilon: ε, at least −1; below, the loss would not be least at p_y = 1.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> poly1_cross_entropy(torch.zeros(1, 2), torch.tensor([0]))  # log(2) + 1/2
        tensor(1.1931)

    Reference:
        Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", ICLR
        2022, arXiv:2204.12511: the Poly-1 loss of cross-entropy.

    Deviations:
        1 − p_y is formed as −expm1(log p_y), so that it keeps its digits where p_y is close to 1.

    """
    epsilon = _check(epsilon)

    def tilt(nll: Tensor) -> Tensor:
        return nll - epsilon * torch.expm1(-nll)

    def rows(table: Tensor, index: Tensor) -> Tensor:
        return tilt(cross_entropy(table, index))

    def dense(table: Tensor, distribution: Tensor) -> Tensor:
        return (distribution * tilt(surprisal(table))).sum(dim=1)

    return per_example_loss(
        in_one_pass(rows, "poly1", epsilon),
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        dense=dense,
    )


def _check(epsilon: float) -> float:
    if not (isinstance(epsilon, int | float) and -1 <= epsilon < math.inf):
        raise ValueError(f"epsilon: got {epsilon!r}, expected a finite number of at least -1")
    return epsilon


class Poly1CrossEntropyLoss(Criterion):
    """The module of `poly1_cross_entropy`, with the same options.

    Example:
        >>> import torch
        >>> Poly1CrossEntropyLoss(epsilon=0.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        epsilon: float = 1.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            poly1_cross_entropy,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            epsilon=_check(epsilon),
        )
