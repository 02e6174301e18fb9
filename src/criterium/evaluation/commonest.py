"""The classifier that knows nothing but how common each class is: what a failed run counts as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from criterium.evaluation.predictions import Predictions


def commonest(like: Predictions, class_counts: Sequence[int]) -> Predictions:
    """Return the predictions of the classes' frequencies among training rows, whatever the input.

    Its top-1 error is that of always naming the commonest class, and its score tells no input from another.

    Args:
        like: predictions whose rows, targets and splits are taken.
        class_counts: training rows a class.

    Example:
        >>> rows = Predictions(np.zeros((2, 3)), [0, 1], ["validation", "test"], [0, 0])
        >>> commonest(rows, (5, 20, 5)).logits.argmax(axis=1)
        array([1, 1])

    """
    counts = np.maximum(np.asarray(class_counts, np.float64), 0.5)
    logits = np.log(counts / counts.sum())
    # Of classes that are as common the first leads by a hair: a tie would count as an error for both.
    order = np.lexsort((np.arange(len(counts)), -counts))
    logits[order] -= 1e-5 * np.arange(len(counts))
    table = np.broadcast_to(logits.astype(np.float32), (len(like), len(counts)))
    return Predictions(table, like.target, like.split, np.zeros(len(like)))
