"""Focal loss: cross-entropy that counts less the surer the model is of the true class (Lin et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import non_negative
from criterium.losses._contract import Criterion, cross_entropy, per_example_loss
from criterium.losses._logits import surprisal
from criterium.losses._one_pass import in_one_pass


def focal_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy times a power of the probability that misses the true class.

    loss(s, y) = −(1 − p_y)^γ log p_y, p = softmax(s). γ = 0 is cross-entropy; the larger γ, the less the
    rows count that are already classified with certainty.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class: the paper's α.
        gamma: γ, at least 0.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]))  # log(2) / 4
        tensor(0.1733)

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, in its softmax form.

    Deviations:
        Compared with the code of LDAM-DRW, which is what imbalanced classification uses, class weights
        multiply the loss (there p_y becomes p_y^w inside it) and "mean" divides by their sum (there by the
        number of rows); for γ < 1 the gradient at p_y = 1 is 0 (there NaN).

    """
    gamma = non_negative("gamma", gamma)

    def focus(nll: Tensor) -> Tensor:
        # 1 − p without cancellation. A power below 1 has an infinite slope at 0; with the floor that slope
        # is finite, and meets a factor of exactly zero: an nll above 0 is the logarithm of a number above 1,
        # so about eps at least.
        missed = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).eps / 2)
        return missed.pow(gamma) * nll

    def rows(table: Tensor, index: Tensor) -> Tensor:
        return focus(cross_entropy(table, index))

    def dense(table: Tensor, distribution: Tensor) -> Tensor:
        return (distribution * focus(surprisal(table))).sum(dim=1)

    return per_example_loss(
        in_one_pass(rows, "focal", gamma),
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        dense=dense,
    )


class FocalLoss(Criterion):
    """The module of `focal_loss`, with the same options.

    Example:
        >>> import torch
        >>> FocalLoss(gamma=0.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            focal_loss,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            gamma=non_negative("gamma", gamma),
        )
