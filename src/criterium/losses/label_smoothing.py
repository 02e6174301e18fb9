"""Label smoothing: cross-entropy with a share of the target spread evenly (Szegedy et al., 2016)."""

from __future__ import annotations

from torch import Tensor

from criterium._checks import non_negative
from criterium.losses._contract import Criterion, cross_entropy, cross_entropy_of, per_example_loss
from criterium.losses._one_pass import in_one_pass


def label_smoothing_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    smoothing: float = 0.1,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy with a target of which a share is spread evenly over all classes.

    loss(s, y) = −(1 − α) log p_y − (α/C) Σ_j log p_j, p = softmax(s), which is the cross-entropy plus
    α (s_y − mean_j s_j). α = 0 is cross-entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        smoothing: α, from 0 to 1.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> label_smoothing_cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        tensor(0.3633)

    Reference:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
        arXiv:1512.00567, section 7.

    Deviations:
        `weight` multiplies the loss of a row by the weight of its class, as everywhere here;
        `torch.nn.CrossEntropyLoss` weights the classes to which the target is spread. Without it they agree.

    """
    share = check_smoothing(smoothing)

    reference = cross_entropy_of(lambda table, _: table, label_smoothing=share)
    rows = in_one_pass(reference, "label_smoothing", share)

    def dense(table: Tensor, distribution: Tensor) -> Tensor:
        spread = distribution.sum(dim=1, keepdim=True) * (share / table.shape[1])
        return cross_entropy(table, (1 - share) * distribution + spread)

    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, dense=dense
    )


def check_smoothing(smoothing: float) -> float:
    """Return `smoothing` if it is a share from 0 to 1, else raise a `ValueError`."""
    if not non_negative("smoothing", smoothing) <= 1:
        raise ValueError(f"smoothing: got {smoothing!r}, expected a number from 0 to 1")
    return smoothing


class LabelSmoothingCrossEntropyLoss(Criterion):
    """The module of `label_smoothing_cross_entropy`, with the same options.

    Example:
        >>> import torch
        >>> LabelSmoothingCrossEntropyLoss(smoothing=0.2)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        smoothing: float = 0.1,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            label_smoothing_cross_entropy,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            smoothing=check_smoothing(smoothing),
        )
