"""Two objectives over several data sets, each of which counts alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from criterium._checks import positive

DRAWS = 20_000
PRIOR = 0.5
"""Weight of the one observation at 0 that the prior stands for, as in the authors' code."""


@dataclass(frozen=True)
class Posterior:
    """Chances that on another data set a method is better, as good within the margin, or worse."""

    better: float
    as_good: float
    worse: float


def signed_rank(
    differences: Sequence[float], margin: float, better: Literal["lower", "higher"], seed: int = 0
) -> Posterior:
    """Return how likely each region is the largest, by the Bayesian signed-rank test.

    With weights w of the data sets drawn from a Dirichlet distribution, a region's share is
    sum_ij w_i w_j [(z_i + z_j) / 2 lies in it]; the chance of a region is how often its share is the largest.

    Args:
        differences: z, the mean difference from the control on each data set.
        margin: the region of practical equivalence is -margin to margin.
        better: which values of the metric are.
        seed: of the draws.

    Reference: Benavoli et al., "Time for a Change", JMLR 18(77), 2017, section 4.2.

    >>> signed_rank([-0.03, -0.02, -0.04, -0.05, -0.02], 0.01, "lower").better > 0.95
    True
    """
    positive("margin", margin)
    z = np.array([0.0, *differences])
    middle = (z[:, None] + z) / 2
    below, above = middle < -margin, middle > margin
    weights = np.random.default_rng(seed).dirichlet([PRIOR] + [1.0] * len(differences), DRAWS)
    shares = np.stack([((weights @ region) * weights).sum(1) for region in (below, ~(below | above), above)])
    largest = shares == shares.max(axis=0)
    low, within, high = (largest / largest.sum(axis=0)).mean(axis=1).tolist()
    return Posterior(low, within, high) if better == "lower" else Posterior(high, within, low)


def probability_of_improvement(
    mine: Sequence[Sequence[float]], control: Sequence[Sequence[float]], better: Literal["lower", "higher"]
) -> float:
    """Return the chance that a repeat of one beats a repeat of the other, mean over data sets; ties are half.

    Args:
        mine: for each data set, the values of its repeats.
        control: the same of the control.
        better: which values are.

    Reference: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
    NeurIPS 2021, section 4.

    >>> probability_of_improvement([[0.1, 0.2]], [[0.2, 0.3]], "lower")
    0.875
    """
    sign = 1 if better == "lower" else -1
    chances = []
    for one, other in zip(mine, control, strict=True):
        gap = sign * (np.asarray(other)[:, None] - np.asarray(one))
        chances.append(np.mean((gap > 0) + (gap == 0) / 2))
    return float(np.mean(chances))


def mean_ranks(means: Sequence[Sequence[float]], better: Literal["lower", "higher"]) -> list[float]:
    """Return the mean rank of each objective over data sets, 1 for the best; ties share theirs.

    Args:
        means: for each data set, the mean of each objective.
        better: which values are.

    Reference: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.

    >>> mean_ranks([[0.1, 0.2], [0.1, 0.1]], "lower")
    [1.25, 1.75]
    """
    from scipy.stats import rankdata

    table = np.asarray(means) * (1 if better == "lower" else -1)
    ranks: list[float] = rankdata(table, axis=1).mean(axis=0).tolist()
    return ranks
