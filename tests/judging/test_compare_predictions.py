"""Predictions made elsewhere, judged as a race judges its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import criterium
from criterium.judging import compare_predictions

ROWS, CLASSES = 600, 4


def target(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CLASSES, ROWS)


def logits(strength: float, seed: int = 0, of: np.ndarray | None = None) -> np.ndarray:
    known = target() if of is None else of
    return strength * np.eye(CLASSES)[known] + np.random.default_rng(seed + 1).normal(size=(ROWS, CLASSES))


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    found: np.ndarray = p / p.sum(axis=1, keepdims=True)
    return found


def test_two_finished_models_get_a_verdict_on_the_models() -> None:
    found = criterium.compare_predictions({"a": logits(4), "b": logits(2.5)}, target(), kind="logits")
    (verdict,) = found.verdicts
    assert (verdict.objective, verdict.metric, verdict.verdict) == ("b", "top1_error", "worse")
    assert verdict.low < verdict.difference < verdict.high
    assert verdict.repeats_needed is None
    assert "this is about these models, not the methods" in found.sentences[0]
    wrong = [z.argmax(1) != target() for z in (logits(4), logits(2.5))]
    assert verdict.difference == pytest.approx(wrong[1].mean() - wrong[0].mean())
    paired = wrong[1].astype(float) - wrong[0]
    half = 1.964 * paired.std(ddof=1) / np.sqrt(ROWS)
    assert verdict.high - verdict.difference == pytest.approx(half, rel=1e-3)


def test_repeats_on_the_same_rows_speak_of_these_training_rows() -> None:
    a = [logits(4, seed) for seed in range(0, 10, 2)]
    b = [logits(4, seed) for seed in range(1, 11, 2)]
    found = compare_predictions({"a": a, "b": np.stack(b)}, target(), margin=5)
    assert found.verdicts[0].verdict == "as good"
    assert "for these training rows" in found.sentences[0]
    assert found.table.seeds == (0, 1, 2, 3, 4)
    again = compare_predictions({"a": a, "b": b}, [target()] * 5, margin=5)
    assert again.verdicts == found.verdicts


def test_repeats_with_test_rows_of_their_own_are_corrected_for_the_rows_they_share() -> None:
    targets = [target(seed) for seed in range(5)]
    runs = {
        name: [logits(strength, 10 * seed + offset, of) for seed, of in enumerate(targets)]
        for offset, (name, strength) in enumerate((("a", 3.0), ("b", 3.1)))
    }
    with pytest.raises(ValueError, match="train_rows: got none"):
        compare_predictions(runs, targets)
    narrow, wide = (compare_predictions(runs, targets, train_rows=rows).verdicts[0] for rows in (10**9, ROWS))
    # With as many test rows as others the variance is 1/5 + 1 in place of 1/5.
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(6), rel=1e-3)


def test_kinds_are_what_they_are_called() -> None:
    z = {"a": logits(4), "b": logits(2.5)}
    of_logits = compare_predictions(z, target())
    of_p = compare_predictions({n: softmax(v) for n, v in z.items()}, target(), kind="probabilities")
    of_c = compare_predictions({n: v.argmax(1) for n, v in z.items()}, target(), kind="classes")
    for other in (of_p, of_c):
        assert other.verdicts[0].difference == pytest.approx(of_logits.verdicts[0].difference)
    assert of_p.table.cells["a"]["nll"].mean == pytest.approx(
        of_logits.table.cells["a"]["nll"].mean, rel=1e-5
    )
    assert of_c.table.metrics == ("top1_error", "class_mean_error")
    as_scores = compare_predictions({n: softmax(v) for n, v in z.items()}, target(), kind="logits")
    assert as_scores.table.cells["a"]["nll"].mean > 2 * of_p.table.cells["a"]["nll"].mean


def test_tensors_lists_and_an_unfinished_gradient_are_taken() -> None:
    tensor = torch.tensor(logits(3), requires_grad=True)
    plain = compare_predictions({"a": logits(4).tolist(), "b": logits(3)}, target().tolist())
    assert (
        compare_predictions({"a": logits(4), "b": tensor}, torch.tensor(target())).verdicts == plain.verdicts
    )
    classes = {"a": [[0, 1, 1], [0, 1, 0]], "b": [[0, 1, 1], [1, 1, 0]]}
    assert compare_predictions(classes, [0, 1, 1], kind="classes").table.seeds == (0, 1)


def test_the_metric_that_decides() -> None:
    rare = np.random.default_rng(0).choice(3, ROWS, p=[0.9, 0.08, 0.02])
    centres = 1.6 * np.eye(3)
    x = centres[rare] + np.random.default_rng(1).normal(size=(ROWS, 3))
    balanced = x @ centres.T
    prior = {"cross-entropy": balanced + np.log([0.9, 0.08, 0.02]), "logit-adjusted": balanced}
    found = compare_predictions(prior, rare)
    assert (found.verdicts[0].metric, found.verdicts[0].verdict) == ("class_mean_error", "better")
    assert "Judged by class-mean error: the commonest class has" in str(found)
    assert compare_predictions(prior, rare, metric="top1-error").verdicts[0].verdict == "worse"
    five = compare_predictions({"a": logits(4), "b": logits(3)}, target(), metric="top2-error", margin=2)
    assert (five.verdicts[0].metric, five.table.k) == ("topk_error", 2)
    swapped = compare_predictions({"a": logits(4), "b": logits(3)}, target(), control="b")
    assert swapped.verdicts[0].objective == "a"


def test_the_same_thing_twice_is_called_so() -> None:
    found = compare_predictions({"a": logits(4), "b": logits(4)}, target())
    assert found.verdicts[0].flags == ("identical to the control",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predictions": {"a": logits(4)}}, "predictions: got 1 names, expected at least two"),
        ({"predictions": {"a": [logits(4)] * 2, "b": logits(4)}}, "got 1 repeats of b and 2 of a"),
        (
            {"predictions": {"a": logits(4), "b": logits(4)[:-1]}},
            "predictions of b: got 599 rows, expected 600",
        ),
        ({"predictions": {"a": logits(4), "b": logits(4)[:, :-1]}}, "targets: got class 3, expected 0 to 2"),
        (
            {"predictions": {"a": logits(4), "b": np.pad(logits(4), ((0, 0), (0, 1)))}},
            "got 5 classes, expected 4",
        ),
        (
            {"predictions": {"a": logits(4), "b": logits(4) * np.nan}},
            "predictions of b: logits: got 600 of 600",
        ),
        ({"predictions": {"a": logits(4), "b": target()}}, r"got shape \(600,\), expected scores"),
        ({"kind": "probabilities"}, "expected probabilities that add up to 1; is kind logits?"),
        ({"kind": "logit"}, "kind: got 'logit', expected one of .*did you mean 'logits'"),
        ({"kind": "classes"}, "kind is classes"),
        ({"targets": target() + 0.5}, "targets: got float64, expected whole numbers"),
        ({"targets": np.eye(CLASSES)[target()].astype(int)}, "targets: got 600 arrays"),
        ({"targets": []}, "targets: got an empty list"),
        ({"metric": "top4-error"}, "k: got 4, expected 1 to 3"),
        ({"metric": "auroc"}, "metric: .*auroc"),
        ({"metric": "few-shot-error"}, "metric: got few-shot-error, expected one of top1_error"),
        ({"margin": 0}, "margin: got 0"),
        ({"control": "c"}, "control: got 'c', expected one of a, b"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    given = {"predictions": {"a": logits(4), "b": logits(3)}, "targets": target(), **change}
    with pytest.raises(ValueError, match=words) as error:
        compare_predictions(given.pop("predictions"), given.pop("targets"), **given)
    assert "\n" not in str(error.value)


def test_a_page(tmp_path: Path) -> None:
    names = {"a<b>": logits(4), "b": logits(3)}
    page = compare_predictions(names, target()).report(tmp_path / "page.html").read_text()
    assert "a&lt;b&gt;: " not in page.split("<svg")[0] or "<b>" not in page
    assert "Reliability" in page
    assert "Training" not in page
    classes = compare_predictions({n: z.argmax(1) for n, z in names.items()}, target(), kind="classes")
    assert "Reliability" not in classes.report(tmp_path / "page.html").read_text()


def test_no_torch_is_needed() -> None:
    code = (
        "import sys, numpy as np, criterium; z = np.eye(3)[[0, 1, 2] * 9];"
        " criterium.compare_predictions({'a': z, 'b': -z}, [0, 1, 2] * 9); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
