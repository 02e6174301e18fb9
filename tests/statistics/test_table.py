from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from criterium.statistics import Design, Table, holm, judge

METRICS = ["top1_error", "nll", "auroc"]
PLAIN = Design(own_test=True, test=100)  # no rows are shared, so all is as in SciPy


def runs(values: np.ndarray, metrics: Sequence[str] = METRICS) -> list[dict[str, Any]]:
    """Return results from an array of objectives x seeds x metrics; the objectives are called a, b, c..."""
    return [
        {"objective": "abcdefgh"[objective], "seed": seed, **dict(zip(metrics, row.tolist(), strict=True))}
        for objective, by_seed in enumerate(values)
        for seed, row in enumerate(by_seed)
    ]


def table_of(values: np.ndarray, metrics: Sequence[str] = METRICS, **options: Any) -> Table:
    return judge(runs(values, metrics), **{**GOOD, "metric": metrics[0], "metrics": metrics, **options})


GOOD: dict[str, Any] = {
    "metric": "top1_error",
    "metrics": METRICS,
    "baseline": "a",
    "k": 3,
    "margin": 0.01,
    "design": PLAIN,
}


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal([0.1, 0.5, 0.9], 0.02, size=(3, 5, 3))


def test_means_and_differences_against_scipy(values: np.ndarray) -> None:
    table = table_of(values)
    for i, name in enumerate("abc"):
        for j, metric in enumerate(METRICS):
            cell = table.cells[name][metric]
            expected = stats.ttest_1samp(values[i, :, j], 0).confidence_interval()
            assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high))
            assert cell.values == pytest.approx(tuple(values[i, :, j]))
            if i:
                of, test = table.differences[name][metric], stats.ttest_rel(values[i, :, j], values[0, :, j])
                expected = test.confidence_interval()
                assert (of.low, of.high) == pytest.approx((expected.low, expected.high))
                if metric == "top1_error":
                    assert of.p == pytest.approx(test.pvalue)
                else:
                    assert math.isnan(of.p)
    p = [row["top1_error"].p for row in table.differences.values()]
    assert [row["top1_error"].p_corrected for row in table.differences.values()] == holm(p)


def test_a_verdict_knows_which_direction_is_better() -> None:
    means = np.array([[0.2, 0.5, 0.8], [0.1, 0.6, 0.7], [0.2, 0.4, 0.9]])
    noise = np.random.default_rng(0).normal(0, 1e-3, size=(3, 5, 3))
    expected = {"top1_error": ("better", "as good"), "nll": ("worse", "better"), "auroc": ("worse", "better")}
    for metric, verdicts in expected.items():
        found = table_of(means[:, None] + noise, metric=metric).differences
        assert (found["b"][metric].verdict, found["c"][metric].verdict) == verdicts


def test_a_background_metric_is_shown_and_not_compared(values: np.ndarray) -> None:
    metrics = ["top1_error", "calibration_error_uncalibrated", "auroc"]
    table = table_of(values, metrics)
    assert list(table.cells["b"]) == metrics
    assert list(table.differences["b"]) == ["top1_error", "auroc"]
    with pytest.raises(ValueError, match="metrics: got nll_uncalibrated, expected one to compare"):
        table_of(values[:, :, :1], ["nll_uncalibrated"])


def test_the_baseline_comes_first_and_the_others_as_they_ran(values: np.ndarray) -> None:
    table = table_of(values, baseline="b", cost={"c": 2.0, "b": 1.0})
    assert table.objectives == ("b", "a", "c")
    assert list(table.differences) == ["a", "c"]
    assert table.cost == {"b": 1.0, "c": 2.0}


def test_a_metric_that_no_run_has_gets_no_column(values: np.ndarray) -> None:
    values[:, :, 2] = math.nan
    assert table_of(values).metrics == ("top1_error", "nll")
    values[0, 0, 2] = 0.5
    with pytest.raises(ValueError, match="results: auroc is not finite in 14 of 15 runs"):
        table_of(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": []}, "results: got none"),
        ({"baseline": "crossentropy"}, "baseline: got 'crossentropy', expected one of a, b, c"),
        ({"metrics": ["top1_eror"]}, "metrics: got 'top1_eror'.*did you mean 'top1_error"),
        ({"margin": 0}, "margin: got 0"),
        ({"k": 0}, "k: got 0"),
    ],
)
def test_bad_arguments_are_refused(values: np.ndarray, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(**{"results": runs(values), **GOOD, **change})


def test_a_run_given_twice_is_refused(values: np.ndarray) -> None:
    results = runs(values)
    with pytest.raises(ValueError, match="results: got b in repeat 0 twice"):
        judge([*results, results[5]], **GOOD)


def in_words(table: Table) -> dict[str, str]:
    """Return the differences so that they can be compared: NaN is not NaN."""
    return {name: repr(row) for name, row in table.differences.items()}


@given(st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(random: Any) -> None:
    results = runs(np.random.default_rng(0).normal(size=(3, 4, 3)))
    before = judge(results, **GOOD)
    random.shuffle(results)
    after = judge(results, **GOOD)
    assert after.cells == before.cells
    assert in_words(after) == in_words(before)


@given(st.integers(-64, 64), st.integers(0, 100))
def test_a_constant_for_all_changes_no_difference(constant: int, seed: int) -> None:
    # Multiples of 1/64: sums are exact, so differences must be the same to the bit.
    values = np.random.default_rng(seed).integers(0, 64, size=(3, 4, 3)) / 64
    before, after = table_of(values), table_of(values + constant / 64)
    assert in_words(after) == in_words(before)
    shift = after.cells["a"]["nll"].mean - before.cells["a"]["nll"].mean
    assert shift == pytest.approx(constant / 64)


def test_where_nothing_differs_a_table_rarely_says_so() -> None:
    """The chance that a table with no real difference shows one is at most 5 %."""
    rng = np.random.default_rng(0)
    tables, wrong = 500, 0
    for _ in range(tables):
        # A seed is good or bad for all objectives alike, as the pairing expects.
        values = rng.normal(size=(3, 5, 3)) + rng.normal(size=(1, 5, 1))
        found = table_of(values).differences
        wrong += any(of.verdict in ("better", "worse") for row in found.values() for of in row.values())
    assert wrong / tables <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / tables)
    assert wrong > 0  # a correction that is far too strict would hide what is there


def test_the_dictionary_is_json_without_nan(values: np.ndarray) -> None:
    table = table_of(values[:, :1], cost={"a": 1.0}, notes=["a note"])
    found = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert found["cells"]["b"]["nll"]["mean"] == pytest.approx(values[1, 0, 1])
    assert found["cells"]["b"]["nll"]["low"] is None
    assert found["differences"]["b"]["nll"]["p"] is None
    assert found["differences"]["b"]["nll"]["verdict"] == "secondary"
    assert found["verdicts"][0]["verdict"] == "cannot tell"
    assert found["sentences"] == list(table.sentences)
    assert (found["baseline"], found["seeds"], found["notes"]) == ("a", [0], ["a note"])


def test_top_one_error_is_shown_once() -> None:
    values = np.random.default_rng(0).random((2, 2, 2))
    for k, metrics in ((1, ("top1_error",)), (2, ("top1_error", "topk_error"))):
        assert table_of(values, ["top1_error", "topk_error"], k=k).metrics == metrics
