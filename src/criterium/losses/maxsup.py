"""MaxSup: label smoothing's penalty, on the largest logit in place of the true one (Zhou et al., 2025)."""

from __future__ import annotations

from torch import Tensor

from criterium._checks import non_negative
from criterium.losses._contract import Criterion, cross_entropy, per_example_loss
from criterium.losses._one_pass import in_one_pass


def maxsup_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    alpha: float = 0.1,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy plus a multiple of how far the largest logit stands above the mean.

    loss(s, y) = −log softmax(s)_y + α (max_j s_j − mean_j s_j). Label smoothing has s_y in place of the
    maximum, and so pushes a wrongly classified row further down. α = 0 is cross-entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        alpha: α, at least 0. The authors raise it from 0.1 to 0.2 during training.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> maxsup_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))  # log(1 + 1/e) + 0.1 (1 − 1/2)
        tensor(0.3633)

    Reference:
        Zhou et al., "MaxSup: Overcoming Representation Collapse in Label Smoothing", NeurIPS 2025,
        arXiv:2502.15798.

    Deviations:
        Equal largest logits share the gradient of the maximum; the authors' goes to one of them.

    """
    non_negative("alpha", alpha)

    # The penalty is α Σ_j (e_j − 1/C) log p_j with e the indicator of the largest logit: cross-entropy again,
    # so that both terms are one with the target q + α (1/C − e).
    def rows(table: Tensor, index: Tensor) -> Tensor:
        moved = alpha * _from_largest_to_all(table)
        own = index.unsqueeze(1)
        target = moved.scatter_add(1, own, moved.new_ones(()).expand(own.shape))
        return cross_entropy(table, target)

    def dense(table: Tensor, distribution: Tensor) -> Tensor:
        moved = alpha * distribution.sum(dim=1, keepdim=True) * _from_largest_to_all(table)
        return cross_entropy(table, distribution + moved)

    return per_example_loss(
        in_one_pass(rows, "maxsup", alpha),
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        dense=dense,
    )


def _from_largest_to_all(table: Tensor) -> Tensor:
    """Return 1/C − e, with e shared by equal largest logits; it is constant, so it needs no gradient."""
    table = table.detach()
    # One where a logit is the largest, zero elsewhere: half the time of a comparison that is converted.
    first = (table - table.amax(dim=1, keepdim=True)).sign() + 1
    return first / -first.sum(dim=1, keepdim=True) + 1 / table.shape[1]


class MaxSupLoss(Criterion):
    """The module of `maxsup_loss`, with the same options.

    Example:
        >>> import torch
        >>> MaxSupLoss(alpha=0.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    """

    alpha: float

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        alpha: float = 0.1,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            maxsup_loss,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            alpha=non_negative("alpha", alpha),
        )
