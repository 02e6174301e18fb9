"""Telling inputs of the known classes from out-of-distribution (OOD) inputs, by one score a row."""

from __future__ import annotations

import math

import numpy as np

from criterium._checks import choice
from criterium.evaluation.calibration import log_softmax
from criterium.evaluation.rows import by_rows

SCORES = {
    "mps": "largest probability, max p",
    "es": "negative entropy, sum p log p",
    "mds": "largest logit (for a distance head: the nearest prototype), max z",
    "mmls": "largest plus mean logit, max z + mean z",
    "mmles": "largest plus mean logit plus negative entropy, max z + mean z + sum p log p",
    "mmleps": "mmles plus largest probability, max z + mean z + sum p log p + max p",
}
"""The scores of a row that `detection_score` knows, each higher for inputs of the known classes."""


def detection_score(logits: np.ndarray, kind: str, temperature: float = 1.0) -> np.ndarray:
    """Return one number a row, higher where the input looks like one of the known classes.

    Args:
        logits: (N, C).
        kind: one of `SCORES`.
        temperature: what the logits are divided by.

    Returns:
        (N,) float64.

    Example:
        >>> detection_score(np.array([[2.0, 0.0], [0.0, 0.0]]), "mmls")
        array([3., 0.])

    Reference:
        Macêdo, Zanchettin and Ludermir, "Distinction Maximization Loss", 2022, section 3.

    Deviations:
        A stable log-softmax gives log p; the authors take the logarithm of the softmax, which gives NaN in
        es, mmles and mmleps once a probability underflows.

    """
    choice("kind", kind, SCORES)
    return by_rows(lambda rows: _score(np.asarray(rows, dtype=np.float64) / temperature, kind), logits)


def _score(z: np.ndarray, kind: str) -> np.ndarray:
    log_p = log_softmax(z)
    p = np.exp(log_p)
    largest, mean = z.max(axis=1), z.mean(axis=1)
    confidence, negative_entropy = p.max(axis=1), (p * log_p).sum(axis=1)
    scores: dict[str, np.ndarray] = {
        "mps": confidence,
        "es": negative_entropy,
        "mds": largest,
        "mmls": largest + mean,
        "mmles": largest + mean + negative_entropy,
        "mmleps": largest + mean + negative_entropy + confidence,
    }
    return scores[kind]


def auroc(score_in: np.ndarray, score_out: np.ndarray) -> float:
    """Return the chance that a known input scores above an OOD input; a tie counts one half.

    Example:
        >>> auroc(np.array([3.0, 2.0]), np.array([2.0, 1.0]))
        0.875

    """
    from sklearn.metrics import roc_auc_score

    _check_scores(score_in, score_out)
    known = np.repeat([1, 0], [len(score_in), len(score_out)])
    return float(roc_auc_score(known, np.concatenate([score_in, score_out])))


def score_threshold(score_in: np.ndarray, tpr: float = 0.95) -> float:
    """Return the highest threshold that at least a fraction `tpr` of the scores reach.

    Example:
        >>> score_threshold(np.array([4.0, 3.0, 2.0, 1.0]), tpr=0.5)
        3.0

    """
    _check_scores(score_in)
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr: got {tpr!r}, expected a number above 0 and at most 1")
    # The subtraction keeps 0.07 * 100 = 7.000000000000001 from asking for an eighth row.
    keep = max(1, math.ceil(tpr * len(score_in) - 1e-9))
    return float(np.sort(score_in)[-keep])


def fpr_at_tpr(score_in: np.ndarray, score_out: np.ndarray, tpr: float = 0.95) -> float:
    """Return the fraction of OOD inputs that pass where a fraction `tpr` of known ones does.

    Example:
        >>> fpr_at_tpr(np.array([4.0, 3.0, 2.0, 1.0]), np.array([3.5, 0.0]), tpr=0.5)
        0.5

    """
    _check_scores(score_in, score_out)
    return float(np.mean(np.asarray(score_out) >= score_threshold(score_in, tpr)))


def _check_scores(*scores: np.ndarray) -> None:
    for values in scores:
        if len(values) == 0 or not np.isfinite(values).all():
            raise ValueError(f"score: got {len(values)} rows, expected at least one, and finite numbers")
