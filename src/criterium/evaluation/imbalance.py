"""Errors that weigh classes alike, so that rare ones count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MANY, FEW = 100, 20
"""Classes with more training rows than the first are many-shot, with fewer than the second few-shot."""


def class_mean_error(
    wrong: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> float:
    """Return the mean over classes of the error on their rows, (1/C) sum_c (wrong rows of c / rows of c).

    It is 1 less the balanced accuracy. Classes without rows are left out; NaN where all are.

    Args:
        wrong: (N,) whether a row's prediction is wrong.
        target: (N,) class indices.
        weights: (N,) how often each row counts; once if None.
        classes: which classes; all if None.

    Example:
        >>> class_mean_error(np.array([False, False, False, True]), np.array([0, 0, 0, 1]))
        0.5

    Reference:
        Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010.

    """
    often = np.ones(len(target)) if weights is None else weights
    rows = np.bincount(target, weights=often)
    errors = np.bincount(target, weights=often * wrong)
    if classes is not None:
        kept = classes[classes < len(rows)]
        rows, errors = rows[kept], errors[kept]
    found = rows > 0
    return float(np.mean(errors[found] / rows[found])) if found.any() else float("nan")


def shot_groups(class_counts: Sequence[int]) -> dict[str, np.ndarray]:
    """Return which classes are many-, medium- and few-shot: over 100, 20 to 100, under 20 training rows.

    Example:
        >>> shot_groups([500, 100, 20, 19])["medium_shot_error"]
        array([1, 2])

    Reference:
        Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019, section 4.

    """
    counts = np.asarray(class_counts)
    return {
        "many_shot_error": np.flatnonzero(counts > MANY),
        "medium_shot_error": np.flatnonzero((counts >= FEW) & (counts <= MANY)),
        "few_shot_error": np.flatnonzero(counts < FEW),
    }
