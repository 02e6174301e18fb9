"""Whether probabilities mean what they say, and the one temperature that makes them so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TEMPERATURES = (1e-3, 1e3)
"""The range that `fit_temperature` looks in."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows in equal-width bins of confidence; (bins,) each. Where `count` is 0 the two means are NaN."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log p in float64, finite for every finite logit."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def nll(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the true class, -mean_i log p_i[y_i], in nats.

    >>> nll(np.zeros((3, 2)), np.array([0, 1, 1])) == math.log(2)
    True
    """
    _check_rows(logits)
    return float(-log_softmax(logits)[np.arange(len(target)), target].mean())


def reliability(logits: np.ndarray, target: np.ndarray, bins: int = 15) -> Reliability:
    """Sort rows into `bins` equal-width bins of confidence and return what a reliability diagram shows.

    Confidence is the largest probability, a row is right where that class is the true one, and a bin
    holds the confidences in (lo, hi]; the first one holds 0 too.

    >>> reliability(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2).accuracy
    array([nan, 0.5])
    """
    _check_rows(logits)
    log_p = log_softmax(logits)
    confidence = np.exp(log_p.max(axis=1))
    right = log_p.argmax(axis=1) == target
    # Only the inner edges are looked at, so a confidence of exactly 0 or 1 falls into the outer bins.
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        return Reliability(
            confidence=np.bincount(index, weights=confidence, minlength=bins) / count,
            accuracy=np.bincount(index, weights=right, minlength=bins) / count,
            count=count,
        )


def calibration_error(logits: np.ndarray, target: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error, sum_b (n_b / N) |accuracy_b - confidence_b|.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        bins: the number of equal-width bins (lo, hi] of confidence, as in `reliability`.

    Returns:
        A number from 0 to 1.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    >>> round(calibration_error(np.log([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 0])), 6)
    0.1
    """
    by_bin = reliability(logits, target, bins)
    gap = np.abs(by_bin.accuracy - by_bin.confidence)
    return float(np.nansum(by_bin.count * gap) / by_bin.count.sum())


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the temperature T that minimises the NLL of logits / T, within `TEMPERATURES`.

    The NLL is convex in 1/T, so its derivative, the mean over rows of E_p[z] - z_y, has one sign change
    at most, which is found to machine precision.

    Where every row is right the likelihood grows without end as T falls to 0, and one wrong row of new data
    would then cost thousands of nats. There one row in N + 1 counts as of unknown class (the rule of
    succession, which Platt's targets follow too): its target is uniform over the classes.

    Args:
        logits: (N, C) of held-out rows; neither of training nor of test.
        target: (N,) class indices.

    Guo et al., ICML 2017, section 4.2; Platt, "Probabilistic outputs for support vector machines", 1999,
    section 2.2.

    *Deviations*: DisMax's `calibrate.py` minimises the calibration error, which is piecewise smooth (its
    L-BFGS stops up to 35 % above the best), and does so on the test split.

    >>> logits = np.log([[0.8, 0.2]] * 5)
    >>> round(fit_temperature(3 * logits, np.array([0, 0, 0, 0, 1])), 6)
    3.0
    """
    from scipy.optimize import brentq

    _check_rows(logits)
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    wanted = z[np.arange(len(z)), target]
    if (wanted == 0).all():  # 0 is now the largest logit of each row
        wanted = z.mean(axis=1) / (len(z) + 1)

    def slope(log_temperature: float) -> float:
        scaled = np.exp(z / math.exp(log_temperature))
        return float(((scaled * z).sum(axis=1) / scaled.sum(axis=1) - wanted).mean())

    low, high = map(math.log, TEMPERATURES)
    # The derivative with respect to 1/T rises with 1/T: still negative at the lowest T, or already positive
    # at the highest, the best of the range is that end.
    if slope(low) <= 0:
        return TEMPERATURES[0]
    if slope(high) >= 0:
        return TEMPERATURES[1]
    return math.exp(brentq(slope, low, high, xtol=1e-12))


def _check_rows(logits: np.ndarray) -> None:
    if len(logits) == 0:
        raise ValueError("logits: got no rows, expected at least one")
