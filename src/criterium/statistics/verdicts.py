"""The four answers: better, as good within a margin, worse, cannot tell yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from criterium._checks import positive
from criterium.statistics.answers import (
    difference_p,
    equivalence_p,
    interval,
    smallest_margins,
)
from criterium.statistics.looks import sequential_p
from criterium.statistics.paired import LEVEL, holm
from criterium.statistics.power import repeats_needed, resolution
from criterium.statistics.spread import Spread

Answer = Literal["better", "as good", "worse", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """What others may rely on: how an objective differs from the control on the primary metric.

    `difference` is the objective's mean less the control's, `low` to `high` its 95 % interval, alone, and `p`
    that of the difference, corrected over objectives; fractions, not percent. `repeats_needed` is how many
    repeats such a study takes to tell a difference of the margin or the lack of one: None above 200, where no
    number does, and where only one repeat was seen. NaN, of no test, is None in JSON.
    """

    objective: str
    metric: str
    verdict: Answer
    difference: float
    low: float
    high: float
    p: float
    repeats_needed: int | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assessment:
    """A difference with all that was concluded from it.

    `p` and `p_equivalence` are corrected, each in a family of its own. `significant` says that there is a
    difference, also where it was found to lie within the margin. `smallest_margin` is the least that would
    have given "as good", and `beyond` the least that endless repeats could tell about.
    """

    spread: Spread
    answer: Answer
    low: float
    high: float
    p: float
    p_equivalence: float
    significant: bool
    smallest_margin: float
    repeats_needed: int | None
    beyond: float


def assess(
    spreads: Mapping[str, Spread],
    *,
    better: Literal["lower", "higher"],
    margin: float,
    earlier: Sequence[Mapping[str, Spread]] = (),
    shares: Sequence[float] = (1.0,),
) -> dict[str, Assessment]:
    """Return what can be said of each difference from the control, all of them together.

    That there is a difference, and that it lies within ±margin, are tested in two families, each corrected by
    Holm's method at 5 %. Equivalence wins where both hold.

    Args:
        spreads: by objective, the difference from the control.
        better: which values of the metric are.
        margin: the least difference that matters, in the units of the metric.
        earlier: the same at earlier looks, where repeats were added as needed.
        shares: of the level, what each look has, this one's last; see `criterium.statistics.looks`.

    >>> spread = Spread(mean=-0.02, deviation=0.005, repeats=10, floor=0.0, degrees=9)
    >>> assess({"exact": spread}, better="lower", margin=0.01)["exact"].answer
    'better'
    """
    positive("margin", margin)
    seen = [*earlier, spreads]
    if len(seen) != len(shares):
        raise ValueError(f"shares: got {len(shares)}, expected {len(seen)}, one a look")
    names = list(spreads)
    p = holm([sequential_p([difference_p(look[name]) for look in seen], shares) for name in names])
    within = holm(
        [sequential_p([equivalence_p(look[name], margin) for look in seen], shares) for name in names]
    )
    least = smallest_margins(list(spreads.values()), shares[-1])
    level = LEVEL * shares[-1] / max(1, sum(not math.isnan(of.error) for of in spreads.values()))
    found = {}
    for index, (name, of) in enumerate(spreads.items()):
        low, high = interval(of)
        significant = p[index] <= LEVEL
        answer: Answer = "cannot tell"
        if within[index] <= LEVEL:
            answer = "as good"
        elif significant:
            answer = "better" if improves(of.mean, better) else "worse"
        found[name] = Assessment(
            spread=of,
            answer=answer,
            low=low,
            high=high,
            p=p[index],
            p_equivalence=within[index],
            significant=significant,
            smallest_margin=least[index],
            repeats_needed=repeats_needed(of, margin, level),
            beyond=resolution(of, level),
        )
    return found


def improves(difference: float, better: Literal["lower", "higher"]) -> bool:
    """Return whether a difference of this sign is for the better."""
    return difference < 0 if better == "lower" else difference > 0
