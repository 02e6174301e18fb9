"""Looking more than once: repeats are added until the verdicts are in, and the level still holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from criterium._checks import at_least

SHARES = (0.25, 0.25, 0.5)
"""Of the level, what each look gets; looks after each repeat from 3 to 20 give 17 to 23 % false verdicts."""


@dataclass(frozen=True)
class Look:
    """The number of repeats at which the data are looked at, and the share of the level spent there."""

    repeats: int
    share: float


def looks(most: int) -> tuple[Look, ...]:
    """Return the looks of a race of at most so many repeats: at a quarter, at a half and at all of them.

    >>> [look.repeats for look in looks(20)]
    [5, 10, 20]
    """
    at_least("repeats", most, 8)
    counts = (math.ceil(most / 4), math.ceil(most / 2), most)
    return tuple(Look(count, share) for count, share in zip(counts, SHARES, strict=True))


def sequential_p(p: Sequence[float], shares: Sequence[float] = SHARES) -> float:
    """Return one p from those of the looks so far: the least of them, each divided by its share.

    It holds the level under any dependence of the looks, by Bonferroni's inequality.

    >>> sequential_p([0.02, 0.004])
    0.016
    """
    if any(map(math.isnan, p)):
        return math.nan
    return min(1.0, *(value / share for value, share in zip(p, shares, strict=False)))
