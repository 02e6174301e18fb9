"""Top-k cross-entropy: the likelihood that the true class is among the k highest (Petersen et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor

from criterium._checks import at_least, choice
from criterium.losses._contract import Criterion, per_example_loss
from criterium.losses._topk_rows import ALL, Options, rows
from criterium.sorting.comparators import Comparator
from criterium.sorting.topk import check_options

TOP1 = ("softmax", "softmax_ce", "sort")
"""What may stand for the chance of the true class to be first."""

HALF = (0.5, 0.0, 0.0, 0.0, 0.5)
"""The paper's ``[.5, 0, 0, 0, .5]``: top-1 and top-5 in equal parts."""


def topk_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    p_k: Sequence[float] | None = None,
    relaxation: str = "odd_even",
    distribution: str = "logistic",
    steepness: float = 1.0,
    art_lambda: float = 0.25,
    candidates: int | str | None = ALL,
    top1: str = "softmax",
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the chance that the true class is among the k highest, with k drawn from p_k.

    l = -log( p_1 softmax(s)_y + sum_{k >= 2} p_k sum_{r <= k} P_yr )

    where P_yr, from `criterium.sorting.topk_matrix`, is the relaxed degree to which y has the r-th
    largest logit. Only the row of the true class is computed. The logarithm is taken of
    q (1 - 2e-7) + 1e-7: the loss of a row is at most 16.2, and finite with its gradient; with
    ``top1="softmax_ce"`` p_1 CE(s, y) is added, which has no such limit.

    Args:
        logits: ``(N, C)``, ``(C,)`` or ``(N, C, d1, ..., dK)``.
        target: class indices, or class probabilities of the logits' shape.
        weight: ``(C,)`` class weights.
        p_k: how much top-1, top-2, ... accuracy counts; non-negative, summing to one, fewer than C. None:
            top-1 and top-5 in equal parts; of fewer than six classes, or candidates, top-1 and all but one.
        relaxation: ``"odd_even"``, ``"bitonic"``, ``"splitter"``, ``"neuralsort"``, ``"softsort"``,
            ``"lapsum"`` or ``"sinkhorn"``.
        distribution: of the networks' comparators; see `criterium.sorting.topk_matrix`.
        steepness: of the comparators, or of what stands for them, per logit.
        art_lambda: exponent of the distribution ``"logistic_phi"``.
        candidates: m, with len(p_k) < m <= C: look only at the true class and the m - 1 strongest
            others, in this order. The cost is then that of m classes, which many classes need (the paper:
            16 of 1000, 50 of 10,450); for networks, the time grows with the number of layers. ``"all"``:
            m = C. None: all classes in the order of their numbers, as the authors' code has it without m;
            with a network the loss then depends on the number of a class.
        top1: what stands for P_y1 in the term of p_1. ``"softmax"`` (the formula above); ``"sort"`` P_y1
            itself; ``"softmax_ce"`` the sum of two losses, p_1 CE(s, y) - (1 - p_1) log(sum_{k >= 2} ...),
            as in the authors' CIFAR-100 script. There the sum is not divided by 1 - p_1, so a perfect
            prediction keeps the loss -(1 - p_1) log(1 - p_1), 0.347 at p_1 = 1/2; gradients are unaffected.
        ignore_index: class index whose rows do not count; None: all rows count.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Returns:
        The loss; with ``"none"`` of the shape of the class indices.

    Raises:
        ValueError: for arguments outside their range; it names them.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[9.0, 6.0, 3.0, 0.0]])
        >>> losses = [topk_cross_entropy(logits, torch.tensor([y]), p_k=(0.2, 0.8)) for y in range(4)]
        >>> torch.stack(losses)
        tensor([0.0135, 0.2494, 3.4841, 6.3594])

    Reference:
        Petersen et al., "Differentiable Top-k Classification Learning", ICML 2022.

    Deviations:
        Those of `criterium.sorting.topk_matrix`; by default the true class and all others are arranged as
        theirs are for m candidates, so that the numbers of classes do not matter; ``top1="softmax_ce"``
        works with a single p_k; p_k is checked.

    """
    p_k = _check(p_k, relaxation, distribution, steepness, art_lambda, candidates, top1)

    def chosen(table: Tensor, index: Tensor) -> Tensor:
        competing = candidates if isinstance(candidates, int) else table.shape[1]
        weights = half(min(competing, table.shape[1])) if p_k is None else p_k
        # sum_k p_k sum_{r <= k} P_yr counts rank r with the weights of all k >= r.
        by_matrix = weights if top1 == "sort" else (0.0, *weights[1:])
        by_rank = tuple(accumulate(reversed(by_matrix)))[::-1]
        rule = Comparator(distribution, steepness, art_lambda)
        return rows(table, index, Options(weights[0], by_rank, top1, candidates, relaxation, rule))

    return per_example_loss(
        chosen,
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


class TopKCrossEntropyLoss(Criterion):
    """Module of `topk_cross_entropy`, with its options; they are checked when it is made."""

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        p_k: Sequence[float] | None = None,
        relaxation: str = "odd_even",
        distribution: str = "logistic",
        steepness: float = 1.0,
        art_lambda: float = 0.25,
        candidates: int | str | None = ALL,
        top1: str = "softmax",
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            topk_cross_entropy,
            p_k=_check(p_k, relaxation, distribution, steepness, art_lambda, candidates, top1),
            relaxation=relaxation,
            distribution=distribution,
            steepness=steepness,
            art_lambda=art_lambda,
            candidates=candidates,
            top1=top1,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )


def _check(
    p_k: Sequence[float] | None,
    relaxation: str,
    distribution: str,
    steepness: float,
    art_lambda: float,
    candidates: int | str | None,
    top1: str,
) -> tuple[float, ...] | None:
    """Return `p_k` as a tuple, or raise a `ValueError` that names the argument that is wrong."""
    weights = HALF if p_k is None else tuple(float(p) for p in p_k)
    if not all(0 <= p < math.inf for p in weights) or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"p_k: got {weights}, expected non-negative numbers that sum to 1")
    check_options(relaxation, distribution, steepness, art_lambda)
    choice("top1", top1, TOP1)
    if isinstance(candidates, str):
        choice("candidates", candidates, (ALL,))
    elif candidates is not None:
        at_least("candidates", candidates, 2 if p_k is None else len(weights) + 1)
    return None if p_k is None else weights


def half(classes: int) -> tuple[float, ...]:
    """Return `HALF`, or for fewer than six classes its like."""
    return HALF if classes > 5 else (0.5, *[0.0] * (classes - 3), 0.5) if classes > 2 else (1.0,)
