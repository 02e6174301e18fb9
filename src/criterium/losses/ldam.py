"""LDAM: cross-entropy with wider margins for rarer classes (Cao et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from criterium._checks import non_negative, positive
from criterium.losses._class_counts import check_counts, counts_for
from criterium.losses._contract import Criterion, cross_entropy_of, per_example_loss
from criterium.losses._logits import below_top
from criterium.losses._one_pass import in_one_pass


def ldam_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    class_counts: Tensor | Sequence[float],
    max_margin: float = 0.5,
    scale: float = 30.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of scaled logits after a margin, wider for rarer classes, is taken off the true one.

    loss(s, y) = −log softmax(a (s − m_y e_y))_y with m_c = M (n_c / min_k n_k)^(−1/4), for the logits of a
    `criterium.heads.NormalizedLinear` head. The paper trains so for most of the time, and then goes on with
    ``weight=effective_number_weight(class_counts)``: deferred re-weighting.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK): cosines.
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        class_counts: (C,) training rows n_c of each class, all above 0.
        max_margin: M, the margin of the rarest class, in logits; at least 0.
        scale: a, above 0.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit. Values of `class_counts` on a GPU are not looked at.

    Example:
        >>> import torch
        >>> cosines, counts = torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.tensor([160, 10])
        >>> ldam_loss(cosines, torch.tensor([0, 1]), class_counts=counts, scale=1.0, reduction="none")
        tensor([0.4555, 0.5544])

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        arXiv:1906.07413.

    Deviations:
        None in the numbers; the scale and margins are not tied to a device.

    """
    margin = partial(margins, class_counts, max_margin, scale)

    def shifted(table: Tensor, index: Tensor) -> Tensor:
        own = index.unsqueeze(1)
        return below_top(table).mul_(scale).scatter_add_(1, own, -margin(table)[own])

    rows = in_one_pass(cross_entropy_of(shifted), "cross_entropy", scale=scale, margin=margin)
    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def margins(class_counts: Tensor | Sequence[float], max_margin: float, scale: float, table: Tensor) -> Tensor:
    """Return the margin (C,) of each class, in scaled logits, for (M, C) logits."""
    widest = positive("scale", scale) * non_negative("max_margin", max_margin)
    counts = counts_for(table, class_counts)
    return widest * (counts / counts.amin()).pow(-0.25)


def effective_number_weight(class_counts: Tensor | Sequence[float], *, beta: float = 0.9999) -> Tensor:
    """Return class weights that go with the inverse of the effective number of a class's rows.

    w_c ∝ (1 − β) / (1 − β^n_c), scaled to the sum C: the same for all classes at β = 0, the inverse of the
    counts as β approaches 1.

    Args:
        class_counts: (C,) training rows n_c of each class, all above 0.
        beta: β, from 0 to below 1.

    Returns:
        (C,) weights, float32 (float64 for float64 counts).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> effective_number_weight(torch.tensor([1000, 100, 10]))
        tensor([0.0284, 0.2713, 2.7004])

    Reference:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv:1901.05555;
        deferred to the end of training by Cao et al., see `ldam_loss`.

    """
    if not non_negative("beta", beta) < 1:
        raise ValueError(f"beta: got {beta!r}, expected a number from 0 to below 1")
    counts = check_counts(class_counts)
    counts = counts.to(torch.promote_types(counts.dtype, torch.float32))
    # 1 − β^n without cancellation for β close to 1.
    inverse = -1 / torch.expm1(counts * (math.log(beta) if beta > 0 else -math.inf))
    return inverse * (len(counts) / inverse.sum())


class LDAMLoss(Criterion):
    """The module of `ldam_loss`, with the same options.

    Example:
        >>> import torch
        >>> criterion = LDAMLoss(class_counts=torch.tensor([160, 10]), max_margin=0.0, scale=1.0)
        >>> criterion(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    """

    class_counts: Tensor

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        class_counts: Tensor | Sequence[float],
        max_margin: float = 0.5,
        scale: float = 30.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            ldam_loss,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            class_counts=check_counts(class_counts),
            max_margin=non_negative("max_margin", max_margin),
            scale=positive("scale", scale),
        )
