"""Networks ranked by what is known of them untrained, and how far that agrees with what training found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]

MEASURES = {
    "naswot": "NASWOT",
    "parameters": "parameters",
    "flops": "FLOPs",
    "log_synflow": "log synflow",
}
"""What networks can be ranked by before training, more being better."""

_RESAMPLES = 2000
_FEWEST = 8
"""Networks below which a bootstrap interval would say nothing."""


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b over `count` networks, with its 95 % bootstrap interval and the p-value of no relation.

    The interval is NaN for fewer than eight networks; tau is NaN where one of both does not vary.
    """

    tau: float
    low: float
    high: float
    p: float
    count: int


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a score, best NASWOT first, those with a singular kernel by its rank."""
    scored = [row for row in rows if "failed" not in row]
    return sorted(scored, key=lambda row: (-row["naswot"], -row["rank"]))


def spread(count: int, top: int, evenly: int) -> list[int]:
    """Return the first `top` of `count` places, and `evenly` ones spread from the first to the last.

    Example:
        >>> spread(100, top=2, evenly=4)
        [0, 1, 33, 66, 99]

    """
    places = np.linspace(0, count - 1, min(evenly, count)).round().astype(int).tolist()
    return sorted({*range(min(top, count)), *places})


def agreement(rows: Sequence[Row], measure: str) -> Correlation:
    """Return how far a measure ranks trained networks as their validation accuracy does."""
    trained = finished(rows)
    return kendall([row[measure] for row in trained], [-row["validation_error"] for row in trained])


def difference(rows: Sequence[Row], one: str, other: str) -> tuple[float, float, float]:
    """Return by how much `one` has a higher tau with validation accuracy than `other`, and its interval."""
    trained = finished(rows)
    accuracy = _signs([-row["validation_error"] for row in trained])
    first, second = (_signs([row[measure] for row in trained]) for measure in (one, other))
    resampled = _resamples(len(trained))
    low, high = _interval(_taus(first, accuracy, resampled) - _taus(second, accuracy, resampled))
    once = np.ones((1, len(trained)))
    return float(_taus(first, accuracy, once)[0] - _taus(second, accuracy, once)[0]), low, high


def finished(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of networks whose training came to an end."""
    return [row for row in rows if row.get("validation_error") is not None]


def kendall(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """Return Kendall's tau-b of two lists of numbers; minus infinity is the least of them.

    Example:
        >>> round(kendall([1, 2, 3, 4], [1, 2, 4, 3]).tau, 3)
        0.667

    """
    if len(first) < 2:
        return Correlation(math.nan, math.nan, math.nan, math.nan, len(first))
    # Ranks: scipy gives NaN for an infinity.
    found = stats.kendalltau(stats.rankdata(first), stats.rankdata(second))
    low = high = math.nan
    if len(first) >= _FEWEST:
        low, high = _interval(_taus(_signs(first), _signs(second), _resamples(len(first))))
    return Correlation(float(found.statistic), low, high, float(found.pvalue), len(first))


def _signs(values: Sequence[float]) -> np.ndarray:
    """Return the sign of each difference between two of the values."""
    ranks = stats.rankdata(values)
    signs: np.ndarray = np.sign(ranks[:, None] - ranks)
    return signs


def _resamples(count: int) -> np.ndarray:
    """Return how often each network is drawn, in a row for each draw of as many with replacement."""
    generator = np.random.default_rng(0)
    return generator.multinomial(count, np.full(count, 1 / count), _RESAMPLES).astype(np.float64)


def _taus(one: np.ndarray, other: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return tau-b in each draw: agreeing less disagreeing pairs, relative to pairs that are not tied."""

    def pairs(signs: np.ndarray) -> np.ndarray:
        total: np.ndarray = ((drawn @ signs) * drawn).sum(1)
        return total

    scale = np.sqrt(pairs(one**2) * pairs(other**2))
    taus: np.ndarray = np.divide(pairs(one * other), scale, out=np.full(len(drawn), np.nan), where=scale > 0)
    return taus


def _interval(taus: np.ndarray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % points."""
    if np.isnan(taus).all():  # one of both does not vary
        return math.nan, math.nan
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    return float(low), float(high)


def signed(tau: float) -> str:
    """Return a coefficient as it is shown."""
    return "–" if math.isnan(tau) else f"{tau:+.2f}".replace("-", "−")
