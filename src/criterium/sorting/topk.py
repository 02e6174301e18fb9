"""Which element is the r-th largest, relaxed so that it has a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import at_least, choice
from criterium.sorting.comparators import Comparator, comparator
from criterium.sorting.lapsum import lapsum
from criterium.sorting.networks import NETWORKS
from criterium.sorting.sinkhorn import sinkhorn
from criterium.sorting.soft import SOFT_SORTS
from criterium.sorting.sweep import carry_row, top_columns

RELAXATIONS = (*NETWORKS, *SOFT_SORTS, "lapsum", "sinkhorn")


def topk_matrix(
    scores: Tensor,
    k: int,
    *,
    relaxation: str = "odd_even",
    distribution: str = "logistic",
    steepness: float = 1.0,
    art_lambda: float = 0.25,
) -> Tensor:
    """Relaxed top-k indicators: entry (j, r) is the degree to which element j is the r-th largest.

    P = L_1 L_2 ... L_m [last k columns of the identity, reversed]

    where layer L_t of the network mixes each comparator's two wires by the shares f(β gap) and f(-β gap).
    Only the k columns are carried, as ``(..., n, k)``. As β grows P becomes the hard indicator.

    Args:
        scores: ``(..., n)`` real numbers.
        k: how many ranks, 1 to n.
        relaxation: a network of relaxed comparators, ``"odd_even"`` (n layers), ``"bitonic"`` (about
            log2(n)^2 / 2) or ``"splitter"`` (selection of k, fewer comparators); ``"neuralsort"`` or
            ``"softsort"``, a softmax for each rank; ``"lapsum"``, sums of Laplace distributions that make
            the chances to be among the r largest sum to r; or ``"sinkhorn"``, entropic optimal transport
            to n anchors, 50 iterations.
        distribution: the comparators' f, with v = β gap: ``"logistic"`` σ(v); ``"logistic_phi"``
            σ(v / |gap|^art_lambda); ``"gaussian"`` Φ(v); ``"reciprocal"`` (v / (2 + |v|) + 1) / 2;
            ``"cauchy"`` atan(v) / π + 1/2; ``"optimal"`` 1/2 + v up to |v| = 1/4 and 1 / (16 |v|) short
            of 0 or 1 beyond. The last three make outputs rise with every score. Networks only.
        steepness: β > 0, per unit of score: 1 / temperature of ``"neuralsort"`` and ``"softsort"``, 1 /
            width of ``"lapsum"``, 1 / regularisation of ``"sinkhorn"``, whose anchors are 1 apart.
        art_lambda: exponent in [0, 1) of ``"logistic_phi"``.

    Returns:
        ``(..., n, k)``, non-negative; column 0 is the largest. Columns sum to one. Rows sum to at most one
        for networks and ``"lapsum"``, within 0.005 for ``"sinkhorn"``, and to what may be more for
        ``"neuralsort"`` and ``"softsort"``. float32, or float64 where `scores` are.

    Raises:
        ValueError: for a k outside 1 to n, or an option outside its range.

    Example:
        >>> import torch
        >>> topk_matrix(torch.tensor([0.0, 3.0, 1.0]), k=2, steepness=50.0).round(decimals=3)
        tensor([[0., 0.],
                [1., 0.],
                [0., 1.]])

    Reference:
        Petersen et al., "Differentiable Top-k Classification Learning", ICML 2022; its networks are those of
        "Differentiable Sorting Networks for Scalable Sorting and Ranking Supervision", ICML 2021, the last
        three distributions those of "Monotonic Differentiable Sorting Networks", ICLR 2022. The other
        relaxations: Grover et al., ICLR 2019 (NeuralSort); Prillo & Eisenschlos, ICML 2020 (SoftSort);
        Struski et al., ICML 2025 (LapSum); Cuturi et al., NeurIPS 2019 (Sinkhorn).

    Deviations:
        Column 0 is the largest, theirs is the k-th; f(-v) is not formed as 1 - f(v), which in float32 is
        wrong by up to 18 % in a gradient (and, for chances near 1e-8, by some percent in float64 too);
        ``"logistic_phi"``, whose slope has no bound at a tie, compares gaps below 1e-7 as ``"logistic"``
        does; layers are gathers, not dense n x n matrices. Cuturi et al. squash scores into [0, 1]; here they
        are taken as they are, so that β is per unit of score.

    """
    scores, rule = _checked(scores, k, relaxation, distribution, steepness, art_lambda)
    if relaxation in SOFT_SORTS:
        return torch.softmax(SOFT_SORTS[relaxation](scores, k) * steepness, dim=-1).transpose(-1, -2)
    if relaxation == "lapsum":
        return lapsum(scores * steepness, k)
    if relaxation == "sinkhorn":
        return sinkhorn(scores * steepness, k)

    columns = top_columns(scores.reshape(-1, scores.shape[-1]), k, relaxation, rule)
    return columns.reshape(*scores.shape, k)


def sort_matrix(
    scores: Tensor,
    *,
    relaxation: str = "odd_even",
    distribution: str = "logistic",
    steepness: float = 1.0,
    art_lambda: float = 0.25,
) -> Tensor:
    """Relaxed permutation matrix: entry (j, r) is the degree to which element j is the r-th largest.

    `topk_matrix` for all ranks, k = n, with the same options: its transpose times the scores are the scores
    in relaxed descending order, and its rows times 1..n relaxed ranks.

    Args:
        scores: ``(..., n)`` real numbers.
        relaxation: as for `topk_matrix`; ``"splitter"`` is for few ranks, and here has the most layers.
        distribution: of a network's comparators.
        steepness: β > 0, per unit of score.
        art_lambda: exponent in [0, 1) of ``"logistic_phi"``.

    Returns:
        ``(..., n, n)``, non-negative; column 0 is the largest. Columns sum to one; rows too, but for
        ``"neuralsort"`` and ``"softsort"``, and within 0.005 for ``"sinkhorn"``.

    Raises:
        ValueError: for an option outside its range.

    Example:
        >>> import torch
        >>> scores = torch.tensor([0.0, 3.0, 1.0])
        >>> matrix = sort_matrix(scores, relaxation="lapsum", steepness=5.0)
        >>> matrix.mT @ scores
        tensor([2.9932, 0.9657, 0.0410])

    Reference:
        See `topk_matrix`, also for deviations.

    """
    if scores.dim() == 0:
        raise ValueError("scores: got a single number, expected real numbers (..., n)")
    return topk_matrix(
        scores,
        scores.shape[-1],
        relaxation=relaxation,
        distribution=distribution,
        steepness=steepness,
        art_lambda=art_lambda,
    )


def rank_probabilities(
    scores: Tensor,
    index: Tensor,
    k: int,
    *,
    relaxation: str,
    distribution: str,
    steepness: float,
    art_lambda: float,
) -> Tensor:
    """One row of `topk_matrix`, ``(..., k)``: the degree to which element `index` ``(...)`` has each rank.

    A row of the product of layers needs no matrix: it passes through the comparators as the scores do,
    in the same sweep.
    """
    scores, rule = _checked(scores, k, relaxation, distribution, steepness, art_lambda)
    if relaxation in SOFT_SORTS:
        shares = torch.softmax(SOFT_SORTS[relaxation](scores, k) * steepness, dim=-1)
        return shares.gather(-1, index[..., None, None].expand(*index.shape, k, 1)).squeeze(-1)
    if relaxation == "lapsum":
        return lapsum(scores * steepness, k, index.unsqueeze(-1)).squeeze(-2)
    if relaxation == "sinkhorn":
        matrix = sinkhorn(scores * steepness, k)
        return matrix.gather(-2, index[..., None, None].expand(*index.shape, 1, k)).squeeze(-2)

    n = scores.shape[-1]
    ranks = carry_row(scores.reshape(-1, n), index.reshape(-1), k, relaxation, rule)
    return ranks.reshape(*index.shape, k)


def check_options(relaxation: str, distribution: str, steepness: float, art_lambda: float) -> Comparator:
    """Return the comparator that the options describe, or raise a `ValueError` that names the wrong one."""
    choice("relaxation", relaxation, RELAXATIONS)
    return comparator(distribution, steepness, art_lambda)


def _checked(
    scores: Tensor, k: int, relaxation: str, distribution: str, steepness: float, art_lambda: float
) -> tuple[Tensor, Comparator]:
    rule = check_options(relaxation, distribution, steepness, art_lambda)
    if not scores.is_floating_point() or scores.dim() == 0:
        raise ValueError(
            f"scores: got {scores.dtype} of shape {tuple(scores.shape)}, expected real numbers (..., n)"
        )
    if at_least("k", k, 1) > scores.shape[-1]:
        raise ValueError(f"k: got {k!r}, expected at most n = {scores.shape[-1]}")
    return scores.to(torch.promote_types(scores.dtype, torch.float32)), rule
