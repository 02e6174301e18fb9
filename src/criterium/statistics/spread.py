"""How far a mean over repeats may be from the truth: its standard error, by what the repeats share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from criterium._checks import non_negative


@dataclass(frozen=True)
class Spread:
    """A mean over repeats, its standard error and the degrees of freedom of that.

    `error` ** 2 = `deviation` ** 2 / `repeats` + `floor`: no number of repeats takes the floor away, since it
    comes from what the repeats share. `rows` is the number of test rows where these were looked at one by
    one, else 0.
    """

    mean: float
    deviation: float
    repeats: int
    floor: float
    degrees: float
    rows: int = 0

    @property
    def error(self) -> float:
        """The standard error; NaN where nothing is known of it."""
        if self.repeats == 1:  # the rows alone
            return math.sqrt(self.floor) if self.rows else math.nan
        return math.sqrt(self.deviation**2 / self.repeats + self.floor)


def resampled(values: Sequence[float], ratio: float) -> Spread:
    """Return the spread over repeats that each drew an own split from the same rows.

    SE² = s² (1/R + r), with R - 1 degrees of freedom. Training and test rows of different splits overlap, so
    the values are not independent; without r intervals over 5 x 5 folds are 2.7 times too narrow.

    Args:
        values: one a repeat.
        ratio: r, test rows over all other rows; groups over groups where rows of one stay together.

    Reference: Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003,
    section 3; Bouckaert and Frank, PAKDD 2004.

    >>> round(resampled([0.1, 0.2, 0.3], ratio=0.25).error, 6) == round((0.01 * (1 / 3 + 0.25)) ** 0.5, 6)
    True
    """
    s = _deviation(values)
    return Spread(_mean(values), s, len(values), s**2 * non_negative("ratio", ratio), len(values) - 1.0)


def shared(values: Sequence[float], row_variance: float, rows: int) -> Spread:
    """Return the spread over repeats that are all measured on the same test rows.

    SE² = s²/R + s²_rows/n, with Satterthwaite's degrees of freedom: other repeats and other test rows are two
    sources of chance. Nothing is said of other training rows.

    Args:
        values: one a repeat; for one repeat the rows alone are the source of chance.
        row_variance: s²_rows/n, the variance of the mean over repeats as test rows are drawn anew.
        rows: n, test rows, or groups of them.

    Reference: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946.

    >>> shared([0.1, 0.3], row_variance=0.0, rows=100).degrees
    1.0
    """
    repeats, s = len(values), _deviation(values)
    if repeats == 1:
        return Spread(_mean(values), math.nan, 1, row_variance, rows - 1.0, rows)
    ours = s**2 / repeats
    total = ours + row_variance
    parts = ours**2 / (repeats - 1) + row_variance**2 / max(rows - 1, 1)
    return Spread(_mean(values), s, repeats, row_variance, total**2 / parts if parts else repeats - 1.0, rows)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if len(values) else math.nan


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    # Error rates are fractions: the same step of 1/360 differs by rounding from one repeat to the next.
    if max(values) - min(values) <= max(1e-12, 1e-9 * max(map(abs, values))):
        return 0.0
    return float(np.std(values, ddof=1))
