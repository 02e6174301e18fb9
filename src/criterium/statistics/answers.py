"""Tests of one mean difference: whether there is one, and whether it lies within a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from criterium.statistics.paired import LEVEL, holm
from criterium.statistics.spread import Spread


def difference_p(of: Spread) -> float:
    """Return the two-sided p of "there is no difference"; NaN where nothing is known of the error.

    Differences that are all the same have no variance, and t would call any of them certain: all zero give
    p = 1, any other value the p of the sign test, 2 * 0.5 ** R.

    >>> difference_p(Spread(mean=-0.25, deviation=0.0, repeats=3, floor=0.0, degrees=2))
    0.25
    """
    from scipy.stats import t

    if math.isnan(of.error):
        return math.nan
    if of.error == 0:
        return 1.0 if abs(of.mean) < 1e-12 else min(1.0, 2 * 0.5**of.repeats)
    return float(2 * t.sf(abs(of.mean) / of.error, of.degrees))


def equivalence_p(of: Spread, margin: float) -> float:
    """Return the p of "the difference is as large as the margin or larger": two one-sided tests.

    It is at most 5 % where the interval of 90 % lies within ±margin.

    Without variance it is 0.5 ** R for a mean within the margin; where n rows were looked at and not one of
    them differs, (1 - margin) ** n, if that is less: the chance of this with one row in 1/margin different.

    Reference: Schuirmann, "A comparison of the two one-sided tests procedure", 1987.

    >>> equivalence_p(Spread(mean=0.0, deviation=0.0, repeats=6, floor=0.0, degrees=5), margin=0.01)
    0.015625
    """
    from scipy.stats import t

    if math.isnan(of.error):
        return math.nan
    if of.error == 0:
        if abs(of.mean) >= margin:
            return 1.0
        none = (1 - min(margin, 1.0)) ** of.rows if of.rows and of.mean == 0 else 1.0
        return float(min(0.5**of.repeats, none))
    return float(t.sf((margin - abs(of.mean)) / of.error, of.degrees))


def interval(of: Spread, level: float = LEVEL) -> tuple[float, float]:
    """Return mean ± t SE, which holds the true mean in all but the fraction `level` of cases."""
    half = quantile(1 - level / 2, of.degrees) * of.error if of.degrees > 0 else math.nan
    return of.mean - half, of.mean + half


def smallest_margins(spreads: Sequence[Spread], weight: float = 1.0) -> list[float]:
    """Return for each difference the least margin with which it would have been called as good.

    All are tested with one margin and corrected together by Holm's method; `weight` is the share of the level
    that this look at the data has.
    """
    tested = [index for index, of in enumerate(spreads) if not math.isnan(of.error)]
    # Holm's level for the j-th of m to pass is LEVEL / (m - j + 1), and the order of p-values is that of the
    # margins at any one level only if all errors are alike: so the least margin is searched for.
    found = [math.nan] * len(spreads)
    for index in tested:
        low = abs(spreads[index].mean)
        at_once = LEVEL * weight / len(tested)
        high = max(margin_at(spreads[other], at_once) for other in tested)
        for _ in range(60):
            middle = (low + high) / 2
            p = [min(1.0, equivalence_p(of, middle) / weight) for of in spreads]
            low, high = (low, middle) if holm(p)[index] <= LEVEL else (middle, high)
        found[index] = high
    return found


def margin_at(of: Spread, level: float) -> float:
    """Return the least margin within which the difference lies at this level, tested alone."""
    return abs(of.mean) + quantile(1 - level, of.degrees) * of.error


def quantile(p: float, degrees: float) -> float:
    """Return Student's quantile."""
    from scipy.stats import t

    return float(t.ppf(p, degrees))
