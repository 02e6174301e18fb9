"""How often the true class is not among those ranked first."""

from __future__ import annotations

import numpy as np

from criterium.evaluation.rows import by_rows


def top1_error(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the fraction of rows whose largest logit is not the true class's alone.

    Example:
        >>> top1_error(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 0, 0])) == 1 / 3
        True

    """
    return topk_error(logits, target, 1)


def topk_error(logits: np.ndarray, target: np.ndarray, k: int) -> float:
    """Return the fraction of rows whose true class is not among the k largest logits.

    A tie counts against the true class, so a model that gives every class the same logit is always wrong.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        k: from 1 to C - 1.

    Raises:
        ValueError: if k is not in that range (with k = C nothing could ever be wrong), or N is 0.

    Example:
        >>> topk_error(np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), np.array([1, 2]), k=2)
        0.5

    """
    return float(np.mean(wrong(logits, target, k)))


def wrong(logits: np.ndarray, target: np.ndarray, k: int = 1) -> np.ndarray:
    """Return (N,) whether the true class is not among the k largest logits; see `topk_error`.

    Example:
        >>> wrong(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([0, 0]))
        array([False,  True])

    """
    rows, classes = logits.shape
    if not 1 <= k < classes:
        raise ValueError(f"k: got {k}, expected 1 to {classes - 1}, as there are {classes} classes")
    if rows == 0:
        raise ValueError("logits: got no rows, expected at least one")
    found: np.ndarray = by_rows(_rank, logits, target) > k
    return found


def _rank(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    true = logits[np.arange(len(target)), target][:, None]
    # The true class is itself among those that reach its logit.
    rank: np.ndarray = np.count_nonzero(logits >= true, axis=1)
    return rank
