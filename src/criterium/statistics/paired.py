"""Means with intervals, paired differences, and the correction of p-values for how many there are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.05
"""Intervals hold the mean in all but this fraction of cases; corrected p-values are compared with it."""

Verdict = Literal["better", "as good", "worse", "cannot tell", "secondary"]


@dataclass(frozen=True)
class Estimate:
    """A mean over repeats and its 95 % interval, which is NaN where nothing is known of the error."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval; NaN where there is none."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference(Estimate):
    """An objective less the baseline, repeat by repeat; p is NaN for what is `secondary`, and not tested."""

    p: float
    p_corrected: float
    verdict: Verdict


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and the 95 % interval mean ± t s / sqrt(n), with n - 1 degrees of freedom.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    """
    n = len(values)
    mean = math.fsum(values) / n if n else math.nan
    half = _quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(tuple(values), mean, mean - half, mean + half)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method, in the order they came in.

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_j, at most 1. NaN is no test: it stays
    NaN and does not count.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [math.nan] * len(p)
    order = sorted((index for index, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[index]))
        corrected[index] = largest
    return corrected


@functools.cache
def _quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, degrees))
