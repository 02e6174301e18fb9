"""Whether probabilities mean what they say, and the one temperature that makes them so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from criterium.evaluation.rows import by_rows

TEMPERATURES = (1e-3, 1e3)
"""The range that `fit_temperature` looks in."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows in equal-width bins of confidence; (bins,) each. Where `count` is 0 the two means are NaN."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return log p of logits / temperature in float64, finite for every finite logit."""
    log_p: np.ndarray = np.array(logits, dtype=np.float64)
    log_p /= temperature
    log_p -= log_p.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    return log_p


def nll(logits: np.ndarray, target: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of the true class, -mean_i log p_i[y_i], in nats.

    p is the softmax of logits / temperature.

    Example:
        >>> nll(np.zeros((3, 2)), np.array([0, 1, 1])) == math.log(2)
        True

    """
    return float(row_nll(logits, target, temperature).mean())


def row_nll(logits: np.ndarray, target: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return (N,) the negative log-likelihood of each row, in nats."""
    _check_rows(logits)
    return -by_rows(lambda z, y: log_softmax(z, temperature)[np.arange(len(y)), y], logits, target)


def row_brier(logits: np.ndarray, target: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return (N,) the Brier score of each row, sum_c (p_c - [c = y])², from 0 to 2.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.

    Example:
        >>> row_brier(np.zeros((1, 2)), np.array([0]))
        array([0.5])

    """
    _check_rows(logits)

    def found(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = log_softmax(z, temperature)
        np.exp(p, out=p)
        p[np.arange(len(y)), y] -= 1
        total: np.ndarray = np.square(p, out=p).sum(axis=1)
        return total

    return by_rows(found, logits, target)


def confidences(
    logits: np.ndarray, target: np.ndarray, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) the largest probability of each row, and whether its class is the true one.

    Example:
        >>> confidences(np.log([[0.75, 0.25], [0.5, 0.25]]), np.array([0, 1]))[1]
        array([ True, False])

    """
    _check_rows(logits)

    def found(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        log_p = log_softmax(logits, temperature)
        return np.stack([np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == target])

    confidence, right = by_rows(found, logits, target)
    return confidence, right.astype(bool)


def reliability(
    logits: np.ndarray, target: np.ndarray, bins: int = 15, temperature: float = 1.0
) -> Reliability:
    """Sort rows into `bins` equal-width bins of confidence and return what a reliability diagram shows.

    Confidence is the largest probability, a row is right where that class is the true one, and a bin
    holds the confidences in (lo, hi]; the first one holds 0 too.

    Example:
        >>> reliability(np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), bins=2).accuracy
        array([nan, 0.5])

    """
    return in_bins(*confidences(logits, target, temperature), bins)


def in_bins(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15, weights: np.ndarray | None = None
) -> Reliability:
    """Return what `reliability` does, of what `confidences` returns; `weights` say how often rows count."""
    often = np.ones(len(confidence)) if weights is None else weights
    # Only the inner edges are looked at, so a confidence of exactly 0 or 1 falls into the outer bins.
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    count = np.bincount(index, weights=weights, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        return Reliability(
            confidence=np.bincount(index, weights=often * confidence, minlength=bins) / count,
            accuracy=np.bincount(index, weights=often * right, minlength=bins) / count,
            count=count,
        )


def calibration_error(
    logits: np.ndarray, target: np.ndarray, bins: int = 15, temperature: float = 1.0
) -> float:
    """Return the expected calibration error, sum_b (n_b / N) |accuracy_b - confidence_b|.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        bins: the number of equal-width bins (lo, hi] of confidence, as in `reliability`.
        temperature: what the logits are divided by.

    Returns:
        A number from 0 to 1.

    Example:
        >>> round(calibration_error(np.log([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 0])), 6)
        0.1

    Reference:
        Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    """
    return bin_gap(reliability(logits, target, bins, temperature))


def bin_gap(by_bin: Reliability) -> float:
    """Return the mean gap between accuracy and confidence over bins, weighted by their rows."""
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

    Example:
        >>> logits = np.log([[0.8, 0.2]] * 5)
        >>> round(fit_temperature(3 * logits, np.array([0, 0, 0, 0, 1])), 6)
        3.0

    Reference:
        Guo et al., ICML 2017, section 4.2; Platt, "Probabilistic outputs for support vector machines", 1999,
        section 2.2.

    Deviations:
        DisMax's `calibrate.py` minimises the calibration error, which is piecewise smooth (its L-BFGS stops
        up to 35 % above the best), and does so on the test split.

    """
    from scipy.optimize import brentq

    _check_rows(logits)
    wanted = by_rows(lambda rows, y: _below_largest(rows)[np.arange(len(y)), y], logits, target)
    if (wanted == 0).all():
        wanted = by_rows(lambda rows: _below_largest(rows).mean(axis=1), logits) / (len(logits) + 1)

    low, high = map(math.log, TEMPERATURES)
    ends = {end: _slope(end, logits, wanted) for end in (low, high)}
    # The derivative with respect to 1/T rises with 1/T: still negative at the lowest T, or already positive
    # at the highest, the best of the range is that end.
    if ends[low] <= 0:
        return TEMPERATURES[0]
    if ends[high] >= 0:
        return TEMPERATURES[1]

    def slope(log_temperature: float, logits: np.ndarray, wanted: np.ndarray) -> float:
        known = ends.get(log_temperature)
        return _slope(log_temperature, logits, wanted) if known is None else known

    # What is given as `args` is let go at the end; SciPy keeps the function, and with it what it holds, until
    # the garbage is next collected.
    return math.exp(brentq(slope, low, high, args=(logits, wanted), xtol=1e-12))


def _slope(log_temperature: float, logits: np.ndarray, wanted: np.ndarray) -> float:
    temperature = math.exp(log_temperature)
    return float((by_rows(lambda rows: _expected(rows, temperature), logits) - wanted).mean())


def _below_largest(logits: np.ndarray) -> np.ndarray:
    """Return each logit less the largest of its row, in float64."""
    z = np.array(logits, dtype=np.float64)
    z -= z.max(axis=1, keepdims=True)
    return z


def _expected(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return (N,) E_p[z] of what `_below_largest` returns, for p at that temperature."""
    z = _below_largest(logits)
    scaled = z / temperature
    np.exp(scaled, out=scaled)
    total = scaled.sum(axis=1)
    scaled *= z
    expected: np.ndarray = scaled.sum(axis=1) / total
    return expected


def _check_rows(logits: np.ndarray) -> None:
    if len(logits) == 0:
        raise ValueError("logits: got no rows, expected at least one")
