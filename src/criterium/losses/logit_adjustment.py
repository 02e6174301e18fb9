"""Logit adjustment: cross-entropy that knows how frequent each class is in training (Menon et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from criterium._checks import non_negative
from criterium.losses._class_counts import check_counts, counts_for
from criterium.losses._contract import Criterion, cross_entropy_of, per_example_loss
from criterium.losses._logits import below_top
from criterium.losses._one_pass import in_one_pass


def logit_adjusted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    class_counts: Tensor | Sequence[float],
    tau: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the logits plus the logarithm of the class frequencies.

    loss(s, y) = −log softmax(s + τ log π)_y, π_c = n_c / Σ_k n_k. The adjustment is for training only: at
    τ = 1 the logits as they are then give the class probabilities for classes that are equally frequent,
    and their largest the least balanced error. τ = 0 is cross-entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        class_counts: (C,) training rows n_c of each class, all above 0.
        tau: τ, at least 0.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit. Values of `class_counts` on a GPU are not looked at.

    Example:
        >>> import torch
        >>> counts = torch.tensor([30, 10])
        >>> logit_adjusted_cross_entropy(torch.zeros(1, 2), torch.tensor([1]), class_counts=counts)  # log 4
        tensor(1.3863)

    Reference:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, arXiv:2007.07314: the logit
        adjusted softmax cross-entropy.

    """
    shift = partial(adjustment, class_counts, tau)
    dense = cross_entropy_of(lambda table, _: below_top(table).add_(shift(table)))
    rows = in_one_pass(dense, "cross_entropy", shift=shift)
    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, dense=dense
    )


def adjustment(class_counts: Tensor | Sequence[float], tau: float, table: Tensor) -> Tensor:
    """Return what is added to the logits of each class (C,), for (M, C) logits."""
    counts = counts_for(table, class_counts)
    return non_negative("tau", tau) * (counts / counts.sum()).log()


class LogitAdjustedCrossEntropyLoss(Criterion):
    """The module of `logit_adjusted_cross_entropy`, with the same options.

    Example:
        >>> import torch
        >>> criterion = LogitAdjustedCrossEntropyLoss(class_counts=torch.tensor([30, 10]), tau=0.0)
        >>> criterion(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)

    """

    class_counts: Tensor

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        class_counts: Tensor | Sequence[float],
        tau: float = 1.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            logit_adjusted_cross_entropy,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            class_counts=check_counts(class_counts),
            tau=non_negative("tau", tau),
        )
