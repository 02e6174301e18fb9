"""Metrics against independent computation, and what they owe to the rows they were measured on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss

from criterium.evaluation.imbalance import class_mean_error, shot_groups
from criterium.evaluation.measures import mean_sample, measure, row_sample
from criterium.evaluation.metrics import METRICS, NEAR_AND_FAR, asked_metric, default_metric, metric
from criterium.evaluation.predictions import Predictions
from criterium.evaluation.ranked import Ranked
from criterium.evaluation.selective import risk_coverage_area

COUNTS = (500, 90, 40, 15, 3)


def predictions(rows: int = 300, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    split = np.repeat(["validation", "test", "near", "far"], [100, rows, 80, 60])
    target = rng.choice(5, len(split), p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(len(split), 5))
    known = np.isin(split, ["validation", "test"])
    logits[np.arange(len(split)), target] += 2 * known
    score = np.round(logits.max(axis=1) - (split == "far"), 1)  # with ties
    return Predictions(logits, np.where(known, target, -1), split, score)


def test_numbers_are_those_of_scikit_learn() -> None:
    rows = predictions()
    found = measure(rows, k=2, class_counts=COUNTS)
    test = rows.where("test")
    assert found["class_mean_error"] == pytest.approx(
        1 - balanced_accuracy_score(test.target, test.logits.argmax(axis=1))
    )
    p = np.exp(test.logits / found["temperature"])
    p /= p.sum(axis=1, keepdims=True)
    by_class = sum(brier_score_loss(test.target == c, p[:, c]) for c in range(5))
    assert found["brier"] == pytest.approx(by_class, rel=1e-5)
    for prefix, other in (
        ("", rows.ood_scores()),
        ("near_", rows.ood_scores("near")),
        ("far_", rows.ood_scores("far")),
    ):
        is_other = np.repeat([0, 1], [len(test), len(other)])
        scores = np.concatenate([test.score, other])
        assert found[f"{prefix}aupr"] == pytest.approx(average_precision_score(is_other, -scores))
    assert found["far_auroc"] > found["auroc"] > found["near_auroc"]
    assert set(found) == {*METRICS, *NEAR_AND_FAR, "temperature"}


def test_errors_of_shot_groups() -> None:
    rows = predictions()
    test, found = rows.where("test"), measure(rows, k=2, class_counts=COUNTS)
    wrong = test.logits.argmax(axis=1) != test.target
    per_class = np.array([wrong[test.target == c].mean() for c in range(5)])
    assert found["many_shot_error"] == pytest.approx(per_class[0])
    assert found["medium_shot_error"] == pytest.approx(per_class[1:3].mean())
    assert found["few_shot_error"] == pytest.approx(per_class[3:].mean())
    assert [len(of) for of in shot_groups((101, 100, 20, 19)).values()] == [1, 2, 1]
    assert np.isnan(measure(rows, k=2)["few_shot_error"])
    assert np.isnan(class_mean_error(wrong, test.target, classes=np.array([], int)))


def test_risk_coverage_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.permutation(200) / 200
    right = rng.random(200) < confidence
    order = np.argsort(-confidence)
    expected = np.mean([np.mean(~right[order[:m]]) for m in range(1, 201)])
    assert risk_coverage_area(confidence, right) == pytest.approx(expected)
    # Rows of one confidence are in no order.
    tied = np.round(confidence, 1)
    shuffled = rng.permutation(200)
    assert risk_coverage_area(tied, right) == pytest.approx(
        risk_coverage_area(tied[shuffled], right[shuffled])
    )
    assert risk_coverage_area(np.zeros(4), np.array([True, False, True, True])) == 0.25


@pytest.mark.parametrize("name", [*METRICS, *NEAR_AND_FAR])
def test_rows_drawn_anew_scatter_as_other_rows_do(name: str) -> None:
    options = {"k": 2, "class_counts": COUNTS, "temperature": 1.2}
    sample = row_sample(predictions(), name, **options)  # type: ignore[arg-type]
    assert sample.drawn != metric(name).of_rows
    fresh = []
    for seed in range(1, 41):
        other = row_sample(predictions(seed=seed), name, **options)  # type: ignore[arg-type]
        fresh.append(other.values.mean() if not other.drawn else other.values[0])
    if not sample.drawn:
        assert np.std(fresh) == pytest.approx(np.sqrt(sample.variance), rel=0.4)
    else:
        # One draw from one of many tables: twice the variance, from the table and from the draw.
        assert np.std(fresh) == pytest.approx(np.sqrt(2 * sample.variance), rel=0.4)


def test_how_often_rows_count_is_as_if_they_stood_there() -> None:
    rng = np.random.default_rng(2)
    known, other = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 40).round(1)
    often = rng.integers(0, 3, 100)
    ranked = Ranked(known, other)
    again = Ranked(np.repeat(known, often[:60]), np.repeat(other, often[60:]))
    for name in ("auroc", "fpr95", "aupr"):
        ones = np.ones(int(often.sum()))
        assert getattr(ranked, name)(often) == pytest.approx(getattr(again, name)(ones))


def test_samples_are_paired_and_averaged() -> None:
    one, other = predictions(seed=3), predictions(seed=3)
    for name in ("top1_error", "class_mean_error"):
        a, b = (row_sample(rows, name, k=2) for rows in (one, other))
        assert a.less(b).variance == 0
        assert mean_sample([a, b]).variance == pytest.approx(a.variance)


def test_rows_of_one_group_are_one_row() -> None:
    rows = predictions(rows=100)
    test = rows.where("test")
    tenfold = Predictions(
        *(np.repeat(getattr(test, f), 10, axis=0) for f in ("logits", "target", "split", "score"))
    )
    groups = np.repeat(np.arange(100), 10)
    for name in ("top1_error", "class_mean_error"):
        plain = row_sample(test, name, k=2).variance
        assert row_sample(tenfold, name, k=2, groups=groups).variance == pytest.approx(plain, rel=0.02)
        assert row_sample(tenfold, name, k=2).variance < plain / 5


def test_names_as_people_type_them() -> None:
    assert asked_metric("top5-error") == ("topk_error", 5)
    assert asked_metric("top1-error") == asked_metric("error") == ("top1_error", None)
    assert asked_metric("Class-Mean-Error") == ("class_mean_error", None)
    assert asked_metric("level2-error") == ("level2_error", None)
    with pytest.raises(ValueError, match=r"metric: got 'auroq'.*did you mean 'auroc'"):
        asked_metric("auroq")


def test_the_metric_that_is_judged_by_where_nobody_says() -> None:
    assert default_metric((100, 10))[0] == "top1_error"
    name, why = default_metric((1001, 100))
    assert name == "class_mean_error"
    assert "1,001 training rows" in why
    assert default_metric((5, 0))[0] == "top1_error"  # a class without rows is none
