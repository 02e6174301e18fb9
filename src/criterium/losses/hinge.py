"""Multi-class hinge: each wrong class is to stay a margin below the true one (Weston and Watkins, 1999)."""

from __future__ import annotations

from torch import Tensor

from criterium._checks import non_negative
from criterium.losses._contract import Criterion, forming_gradient, per_example_loss
from criterium.losses._logits import flaw, put


def multiclass_hinge(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    margin: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Mean over the wrong classes of how far each comes into the margin below the true one.

    loss(s, y) = 1/(C − 1) Σ_{j≠y} max(0, m − (s_y − s_j)); 0 for C = 1.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        margin: m, in logits, at least 0.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> multiclass_hinge(torch.tensor([[3.0, 2.5, 0.0]]), torch.tensor([0]))  # (0.5 + 0) / 2
        tensor(0.2500)

    Reference:
        Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", ESANN 1999; as a
        mean over classes, the hinge that Karpukhin et al., arXiv:2205.09615, compare EXACT with.

    """
    non_negative("margin", margin)

    def rows(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        own, others = index.unsqueeze(1), max(table.shape[1] - 1, 1)
        void = flaw(table)
        inside = put((table - (table.gather(1, own) + void)).add_(margin), own, 0.0).relu_()
        slope = inside.sign().mul_(1 / others + void)
        return inside.sum(dim=1) / others, put(slope, own, -slope.sum(dim=1, keepdim=True))

    return per_example_loss(
        forming_gradient(rows), logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


class MulticlassHingeLoss(Criterion):
    """The module of `multiclass_hinge`, with the same options.

    Example:
        >>> import torch
        >>> MulticlassHingeLoss(margin=2.0)(torch.zeros(1, 3), torch.tensor([0]))
        tensor(2.)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        margin: float = 1.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            multiclass_hinge,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            margin=non_negative("margin", margin),
        )
