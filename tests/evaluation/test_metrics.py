from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from criterium.evaluation.calibration import calibration_error, fit_temperature, nll
from criterium.evaluation.measures import measure
from criterium.evaluation.metrics import METRICS
from criterium.evaluation.predictions import Predictions


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    split = np.repeat(["validation", "test", "ood"], [150, 200, 100])
    target = rng.integers(0, 5, 450)
    logits = rng.normal(size=(450, 5))
    logits[np.arange(450), target] += 2 * (split != "ood")
    return Predictions(3 * logits, np.where(split == "ood", -1, target), split, logits.max(axis=1))


def test_every_metric_has_its_number(predictions: Predictions) -> None:
    found = measure(predictions, k=2)
    assert set(found) == {*METRICS, "temperature"}
    test, validation = predictions.where("test"), predictions.where("validation")
    temperature = fit_temperature(validation.logits, validation.target)
    scaled = test.logits / temperature
    rank = (test.logits >= test.logits[np.arange(200), test.target][:, None]).sum(axis=1)
    scores = [test.score, predictions.where("ood").score]
    expected = {
        "temperature": temperature,
        "top1_error": np.mean(rank > 1),
        "topk_error": np.mean(rank > 2),
        "nll": nll(scaled, test.target),
        "nll_uncalibrated": nll(test.logits, test.target),
        "calibration_error": calibration_error(scaled, test.target),
        "calibration_error_uncalibrated": calibration_error(test.logits, test.target),
        "auroc": roc_auc_score([1] * 200 + [0] * 100, np.concatenate(scores)),
        "fpr95": np.mean(scores[1] >= np.sort(scores[0])[10]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    # The logits were drawn at a third of their scale, and the temperature undoes just that.
    assert found["nll"] < found["nll_uncalibrated"]


def test_the_temperature_never_sees_a_test_row(predictions: Predictions) -> None:
    before = measure(predictions, k=2)
    rng = np.random.default_rng(1)
    unseen = predictions.split != "validation"
    logits, target = predictions.logits.copy(), predictions.target.copy()
    logits[unseen] = rng.normal(size=(unseen.sum(), 5)) * 50
    target[predictions.split == "test"] = rng.integers(0, 5, 200)
    after = measure(dataclasses.replace(predictions, logits=logits, target=target), k=2)
    assert after["temperature"] == before["temperature"]
    assert after["nll"] != before["nll"]


def test_the_errors_never_see_a_validation_row(predictions: Predictions) -> None:
    before = measure(predictions, k=2)
    logits = predictions.logits.copy()
    logits[predictions.split == "validation"] *= 7
    after = measure(dataclasses.replace(predictions, logits=logits), k=2)
    assert after["temperature"] == pytest.approx(7 * before["temperature"], rel=1e-5)
    for name in METRICS:
        same = after[name] == before[name] or math.isnan(before[name])
        assert same == (name not in ("nll", "calibration_error", "brier", "risk_coverage_area")), name


def test_without_inputs_from_elsewhere_their_numbers_are_nan(predictions: Predictions) -> None:
    rows = predictions.split != "ood"
    known = Predictions(
        *(getattr(predictions, field.name)[rows] for field in dataclasses.fields(predictions))
    )
    found = measure(known, k=2)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        *("auroc", "fpr95", "aupr"),
        *("many_shot_error", "medium_shot_error", "few_shot_error"),
    }


def test_a_k_of_all_classes_and_empty_splits_are_refused(predictions: Predictions) -> None:
    with pytest.raises(ValueError, match="k: got 5"):
        measure(predictions, k=5)
    for split in ("validation", "test"):
        with pytest.raises(ValueError, match="predictions: got no"):
            measure(predictions.where(split), k=2)


def test_names_are_cheap_to_list() -> None:
    code = "import sys, criterium.evaluation.metrics; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "jinja2"}
    assert not heavy & set(run.stdout.split())
