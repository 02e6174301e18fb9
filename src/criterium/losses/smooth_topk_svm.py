"""Smooth top-k SVM, and the hard loss that it smooths (Berrada, Zisserman, Kumar, ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import at_least, non_negative, positive
from criterium.losses._contract import Criterion, cross_entropy, forming_gradient, per_example_loss
from criterium.losses._logits import below_top, bounded, flaw, put
from criterium.order_statistics.symmetric_polynomials import symmetric_log_ratio


def smooth_topk_svm(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    k: int = 5,
    temperature: float = 1.0,
    margin: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Return the top-k SVM with every maximum over k-subsets of classes smoothed to a log-sum-exp.

    .. math:: \ell = \tau \log\left(1 + e^{(m - s_y / k) / \tau} \frac{e_k(w)}{e_{k-1}(w)}\right), \quad
        w_j = e^{s_j / (k \tau)}, \; j \ne y,

    where e_k is the sum over all sets of k wrong classes of the product of their w. For k = 1 it is a
    cross-entropy with a margin, and at margin 0 cross-entropy itself. As τ goes to 0 it goes to `topk_svm`;
    it lies between that loss less τ log k and that loss plus τ log(C + 1 - k).

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices of shape (N,), () or (N, d1, ..., dK), or class probabilities shaped as logits.
        weight: (C,) class weights.
        k: the k of top-k, 1 to C - 1.
        temperature: τ > 0, in logits; the smaller, the closer to the hard loss and the sparser its gradient.
        margin: m >= 0, in logits; k m is what the true logit has to lead the k-th largest other one by.
        ignore_index: rows with this target do not count; None: all count.
        reduction: "mean" (weighted), "sum" or "none".

    Returns:
        A scalar, or the losses in the target's shape for "none".

    Raises:
        ValueError: for arguments of other shapes or ranges.

    Example:
        >>> logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
        >>> smooth_topk_svm(logits, torch.tensor([2]), k=2)
        tensor(1.5886)

    Reference:
        Berrada, Zisserman and Kumar 2018, "Smooth Loss Functions for Deep Top-k Classification",
        ICLR 2018, arXiv:1802.07595.

    Deviations:
        The smooth loss for every row: the authors switch to the hard one where the k-th logit leads the
        next by k τ log 1000, at which their loss jumps. Value and gradient are exact to rounding, where the
        authors replace parts of the gradient by a series, and float32 is enough at any temperature. Any
        k < C will do, where theirs needs some classes more.

    """
    _check(k, margin)
    positive("temperature", temperature)

    def formed(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        own = index.unsqueeze(1)
        wrong = put(bounded(table), own, -torch.inf)
        # In float64: at a low temperature it is a small difference of large numbers.
        true = (table.gather(1, own) + flaw(table)).squeeze(1).double()
        ratio, slope = symmetric_log_ratio(wrong, k, k * temperature, true)
        excess = margin / temperature + ratio
        loss = temperature * torch.logaddexp(excess, torch.zeros_like(excess))
        pull = (excess.sigmoid() / k).to(table.dtype).unsqueeze(1)
        return loss.to(table.dtype), (slope * pull).scatter(1, own, -pull)

    def one(table: Tensor, index: Tensor) -> Tensor:
        # Measured from the largest logit, whose neighbours decide, differences keep their digits.
        lead = below_top(table)
        own = index.unsqueeze(1)
        lead = lead.scatter(1, own, lead.gather(1, own) - margin)
        return temperature * cross_entropy(lead / temperature, index)

    smooth = one if k == 1 else forming_gradient(formed)

    def rows(table: Tensor, index: Tensor) -> Tensor:
        _check_classes(k, table)
        return smooth(table, index)

    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def topk_svm(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    k: int = 5,
    margin: float = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Return the top-k SVM: a hinge between the true logit and the k-th largest of the others.

    .. math:: \ell = \max\left(0, \; m + \frac{s_{[k]} - s_y}{k}\right)

    with s_[k] the k-th largest logit of the wrong classes. The gradient reaches two logits a row; of
    equal ones, that which `torch.topk` puts k-th.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices of shape (N,), () or (N, d1, ..., dK), or class probabilities shaped as logits.
        weight: (C,) class weights.
        k: the k of top-k, 1 to C - 1.
        margin: m >= 0, in logits; k m is what the true logit has to lead the k-th largest other one by.
        ignore_index: rows with this target do not count; None: all count.
        reduction: "mean" (weighted), "sum" or "none".

    Returns:
        A scalar, or the losses in the target's shape for "none".

    Raises:
        ValueError: for arguments of other shapes or ranges.

    Example:
        >>> logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
        >>> topk_svm(logits, torch.tensor([2]), k=2)
        tensor(1.5000)

    Reference:
        Lapin, Hein and Schiele 2015, "Top-k Multiclass SVM", NeurIPS 2015, in the form of Berrada,
        Zisserman and Kumar 2018, arXiv:1802.07595.

    Deviations:
        The authors' sums over the k and k - 1 largest logits are reduced to their difference.

    """
    _check(k, margin)

    def rows(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        _check_classes(k, table)
        own = index.unsqueeze(1)
        rival, place = (each[:, -1:] for each in table.scatter(1, own, -torch.inf).topk(k, dim=1))
        void = flaw(table)
        loss = (margin + (rival - (table.gather(1, own) + void)) / k).relu()
        slope = loss.sign() * (1 / k + void)
        gradient = torch.zeros_like(table).scatter(1, place, slope).scatter(1, own, -slope)
        return loss.squeeze(1), gradient

    return per_example_loss(
        forming_gradient(rows), logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def _check(k: int, margin: float) -> None:
    at_least("k", k, 1)
    non_negative("margin", margin)


def _check_classes(k: int, table: Tensor) -> None:
    if k >= table.shape[1]:
        raise ValueError(
            f"k: got {k}, expected at most the number of wrong classes, C - 1 = {table.shape[1] - 1}"
        )


class SmoothTopKSVMLoss(Criterion):
    """Module form of `criterium.functional.smooth_topk_svm`; see there for formula and arguments.

    Example:
        >>> criterion = SmoothTopKSVMLoss(k=2, temperature=0.5)  # in place of nn.CrossEntropyLoss()
        >>> criterion(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(0.4291)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        k: int = 5,
        temperature: float = 1.0,
        margin: float = 1.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options of `smooth_topk_svm`."""
        _check(k, margin)
        positive("temperature", temperature)
        super().__init__(
            smooth_topk_svm,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            k=k,
            temperature=temperature,
            margin=margin,
        )


class TopKSVMLoss(Criterion):
    """Module form of `criterium.functional.topk_svm`; see there for formula and arguments.

    Example:
        >>> criterion = TopKSVMLoss(k=2)  # in place of nn.CrossEntropyLoss()
        >>> criterion(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(0.5000)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        k: int = 5,
        margin: float = 1.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options of `topk_svm`."""
        _check(k, margin)
        super().__init__(
            topk_svm, weight=weight, ignore_index=ignore_index, reduction=reduction, k=k, margin=margin
        )
