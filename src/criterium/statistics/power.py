"""How many repeats a verdict takes, and which differences no number of repeats can tell."""

from __future__ import annotations

import math
from collections.abc import Callable

from criterium.statistics.answers import quantile
from criterium.statistics.paired import LEVEL
from criterium.statistics.spread import Spread

MOST = 200
"""Repeats above which none is named."""

POWER = 0.8
"""The chance to tell a difference of the margin, and to tell that there is none."""


def repeats_needed(of: Spread, margin: float, level: float = LEVEL) -> int | None:
    """Return the least number of repeats that would tell; None where it is above 200 or there is none.

    The least n with (t_{1-level/2, n-1} + t_{.8, n-1}) sqrt(s²/n + floor) <= margin, which finds a difference
    of the margin with 80 % power, and the same with t_{1-level} + t_{.9}, which finds that there is none.

    Args:
        of: what was seen so far; `of.deviation` is s, `of.floor` what repeats do not take away.
        margin: the least difference that matters.
        level: of the first of several tests, what Holm's method leaves it: LEVEL / tests.

    >>> repeats_needed(Spread(0.0, deviation=1.0, repeats=5, floor=0.25, degrees=4), margin=2.0)
    9
    """
    if math.isnan(of.deviation):
        return None
    if resolution(of, level) > margin:
        return None
    return next((n for n in range(2, MOST + 1) if _least(of, level, n) <= margin), None)


def resolution(of: Spread, level: float = LEVEL) -> float:
    """Return the least margin that endless repeats could tell about: they leave the floor.

    With r = test rows / other rows = 0.25 it is 1.40 s for a difference and 1.46 s for the lack of one.

    >>> round(resolution(Spread(0.0, deviation=1.0, repeats=5, floor=0.25, degrees=4)), 2)
    1.46
    """
    return _both(lambda p: quantile(p, math.inf), level) * math.sqrt(of.floor)


def _least(of: Spread, level: float, repeats: int) -> float:
    """Return the least margin that so many repeats tell about."""
    error = math.sqrt(of.deviation**2 / repeats + of.floor)
    return _both(lambda p: quantile(p, repeats - 1), level) * error


def _both(t: Callable[[float], float], level: float) -> float:
    """Return the larger of the two numbers of standard errors: of a difference, and of equivalence at 0."""
    return max(t(1 - level / 2) + t(POWER), t(1 - level) + t(0.5 + POWER / 2))
