from __future__ import annotations

import numpy as np
import pytest

from criterium.evaluation.detection import SCORES, auroc, detection_score, fpr_at_tpr, score_threshold
from goldens import Case, cases


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("case", cases("dismax"))
def test_scores_of_the_reference(case: Case, kind: str) -> None:
    logits = case.arrays["logits"]
    # Large arrays are stored in float32, so their scores differ from those of the original logits.
    tolerance = 1e-6 if logits.dtype == np.float32 else 1e-12
    expected = case.arrays[f"score_{kind.upper()}"]
    np.testing.assert_allclose(detection_score(logits, kind), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", SCORES)
def test_scores_are_finite_where_probabilities_underflow(kind: str) -> None:
    logits = np.array([[0.0, -2000.0, -3.0], [1e38, -1e38, 0.0]], np.float32)
    assert np.isfinite(detection_score(logits, kind)).all()


def test_an_unknown_score_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"kind: got 'mmle'.*did you mean 'mmles'"):
        detection_score(np.zeros((1, 2)), "mmle")


def test_auroc_is_the_chance_of_the_right_order() -> None:
    rng = np.random.default_rng(0)
    known, elsewhere = np.round(rng.normal(50, 10, 40)), np.round(rng.normal(40, 10, 30))
    pairs = known[:, None] - elsewhere[None, :]
    assert auroc(known, elsewhere) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)), abs=1e-12)
    assert auroc(known, elsewhere) + auroc(elsewhere, known) == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "tpr"), [(20, 0.95), (100, 0.95), (100, 0.07), (360, 0.95), (7, 0.5), (3, 1.0)]
)
def test_the_threshold_is_the_highest_that_keeps_the_fraction(rows: int, tpr: float) -> None:
    scores = np.random.default_rng(rows).permutation(rows).astype(float)
    threshold = score_threshold(scores, tpr)
    assert np.mean(scores >= threshold) >= tpr - 1e-12
    assert np.mean(scores > threshold) < tpr - 1e-12


def test_false_positives_are_counted_at_that_threshold() -> None:
    known = np.arange(100.0)
    assert fpr_at_tpr(known, np.array([4.0, 5.0, 6.0, -1.0]), tpr=0.95) == 0.5
    assert fpr_at_tpr(known, known) == 0.95
    assert fpr_at_tpr(known, known - 1000) == 0


def test_scores_that_say_nothing_are_refused() -> None:
    for bad in (np.zeros(0), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="score: got"):
            auroc(np.ones(2), bad)
        with pytest.raises(ValueError, match="score: got"):
            fpr_at_tpr(np.ones(2), bad)
    for tpr in (0.0, 1.1):
        with pytest.raises(ValueError, match="tpr: got"):
            score_threshold(np.ones(2), tpr)
