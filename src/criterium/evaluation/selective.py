"""How good predictions are where a model may abstain from the rows that it is least sure of."""

from __future__ import annotations

import numpy as np


def risk_coverage_area(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the area under the risk-coverage curve: the mean, over m = 1 to N, of the error of the m surest.

    Rows of one confidence share their error, so the order they come in does not matter.

    Args:
        confidence: (N,) of each prediction.
        right: (N,) whether it is right.
        weights: (N,) how often each row counts; once if None.

    Example:
        >>> risk_coverage_area(np.array([0.9, 0.8]), np.array([True, False]))
        0.25

    Reference:
        Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR
        2019, equation 2.

    """
    often = np.ones(len(confidence)) if weights is None else weights
    _, tie = np.unique(-confidence, return_inverse=True)
    group = np.bincount(tie, weights=often)
    errors = np.bincount(tie, weights=often * ~right)
    share = np.divide(errors, group, out=np.zeros_like(errors), where=group > 0)
    order = np.argsort(tie, kind="stable")
    counted = np.cumsum(often[order])
    risk = np.cumsum(often[order] * share[tie[order]])
    kept = counted > 0
    return float(np.average(risk[kept] / counted[kept], weights=often[order][kept]))
