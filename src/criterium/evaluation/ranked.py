"""Scores of known inputs and of OOD inputs in one order, made once for many weighings of rows."""

from __future__ import annotations

import numpy as np


class Ranked:
    """The order of all scores, made once; each number is then a few sums over it.

    Every method takes `weights` (N + M,), how often each row counts, the known ones first.

    Args:
        score_in: (N,) of known inputs.
        score_out: (M,) of OOD inputs.

    Example:
        >>> Ranked(np.array([3.0, 2.0]), np.array([2.0, 1.0])).auroc(np.ones(4))
        0.875

    """

    def __init__(self, score_in: np.ndarray, score_out: np.ndarray) -> None:
        """Sort the scores."""
        self.known = len(score_in)
        values, place = np.unique(np.concatenate([score_in, score_out]), return_inverse=True)
        self.levels, self.place = len(values), place

    def auroc(self, weights: np.ndarray) -> float:
        """Return the chance that a known input scores above an OOD input; a tie counts one half."""
        known, other = self._at_levels(weights)
        below = np.cumsum(other) - other
        return float((known * (below + other / 2)).sum() / (known.sum() * other.sum()))

    def fpr95(self, weights: np.ndarray) -> float:
        """Return the share of OOD inputs that score as high as 95 % of the known ones do."""
        known, other = self._at_levels(weights)
        reached = np.cumsum(known[::-1])
        first = int(np.argmax(reached >= 0.95 * reached[-1] - 1e-9))
        return float(np.cumsum(other[::-1])[first] / other.sum())

    def aupr(self, weights: np.ndarray) -> float:
        """Return the average precision of finding OOD inputs by their low scores."""
        known, other = self._at_levels(weights)
        found, taken = np.cumsum(other), np.cumsum(known + other)
        precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        return float((other * precision).sum() / other.sum())

    def _at_levels(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight of known inputs and of others at each score, from the lowest up."""
        one, two = np.split(self.place, [self.known])
        mine, theirs = np.split(weights, [self.known])
        return np.bincount(one, mine, self.levels), np.bincount(two, theirs, self.levels)
