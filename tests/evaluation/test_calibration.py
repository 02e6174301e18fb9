from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from criterium.evaluation.calibration import (
    TEMPERATURES,
    calibration_error,
    fit_temperature,
    log_softmax,
    nll,
    reliability,
)
from goldens import Case, cases


@pytest.mark.parametrize("case", cases("calibration"))
def test_numbers_of_the_reference(case: Case) -> None:
    arrays, target = case.arrays, case.arrays["labels"].astype(np.int64)
    for index, temperature in enumerate(arrays["temperatures"]):
        scaled = arrays["logits"].astype(np.float64) / temperature
        bins = reliability(scaled, target)
        largest = np.nanmax(np.abs(bins.accuracy - bins.confidence))
        for got, name in (
            (calibration_error(scaled, target), "ece15"),
            (largest, "mce15"),
            (nll(scaled, target), "nll"),
        ):
            np.testing.assert_allclose(got, arrays[name][index], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", cases("calibration"))
def test_the_fitted_temperature_beats_the_reference(case: Case) -> None:
    logits, target = case.arrays["logits"].astype(np.float64), case.arrays["labels"].astype(np.int64)
    temperature = fit_temperature(logits, target)
    assert temperature == pytest.approx(float(case.arrays["nll_best_temperature"]), rel=4e-3)
    # The reference looked on a grid, and for the calibration error stopped at a local optimum.
    assert nll(logits / temperature, target) <= nll(logits / case.arrays["nll_best_temperature"], target)
    assert calibration_error(logits / temperature, target) <= case.arrays["reference_lbfgs_ece"] + 1e-6


@given(st.integers(0, 1000), st.floats(0.05, 20))
def test_the_fitted_temperature_is_where_the_likelihood_is_flat(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(60, 4))
    target = np.array([rng.choice(4, p=row) for row in special.softmax(logits, axis=1)])
    fitted = fit_temperature(logits, target)
    if not TEMPERATURES[0] < fitted < TEMPERATURES[1]:
        return
    best = nll(logits / fitted, target)
    assert all(nll(logits / (fitted * factor), target) >= best for factor in (0.99, 0.999, 1.001, 1.01))
    if TEMPERATURES[0] < fitted * scale < TEMPERATURES[1]:
        assert fit_temperature(scale * logits, target) == pytest.approx(scale * fitted, rel=1e-9)


def test_where_every_row_is_right_the_temperature_stays_sensible() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 5, 100)
    logits = rng.normal(size=(100, 5))
    logits[np.arange(100), target] = logits.max(axis=1) + rng.uniform(0.5, 3, 100)
    fitted = fit_temperature(logits, target)

    def smoothed(temperature: float) -> float:
        log_p = log_softmax(logits / temperature)
        true = log_p[np.arange(100), target].mean()
        return -(100 * true + log_p.mean()) / 101

    assert all(smoothed(fitted * factor) > smoothed(fitted) for factor in (0.99, 1.01))
    # Without the one row of unknown class, the lowest temperature is the likeliest, and one new row that
    # is wrong by 1 costs 1000 nats.
    assert nll(logits / TEMPERATURES[0], target) < nll(logits / fitted, target)
    assert fitted > 0.05


def test_the_temperature_stays_within_its_range() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, np.array([1, 0])) == TEMPERATURES[1]
    assert fit_temperature(1e-6 * logits, np.array([0, 1])) == TEMPERATURES[0]
    assert fit_temperature(np.zeros((2, 3)), np.array([0, 1])) in TEMPERATURES
    huge = np.finfo(np.float32).max * np.array([[1, -1], [-1, 1], [1, -1]], np.float32)
    assert math.isfinite(fit_temperature(huge, np.array([0, 1, 1])))


def test_log_softmax_and_nll_are_finite_for_extreme_logits() -> None:
    logits = np.array([[3e38, -3e38, 0.0], [1.0, 2.0, 3.0]], np.float32)
    assert np.isfinite(log_softmax(logits)).all()
    np.testing.assert_allclose(log_softmax(logits[1:]), special.log_softmax(np.float64(logits[1:]), axis=1))
    assert nll(logits, np.array([1, 0])) == pytest.approx(3e38, rel=1e-6)


def test_bins_hold_their_upper_edge_and_the_outer_ones_hold_0_and_1() -> None:
    sure = np.array([[1000.0, 0.0]])
    assert reliability(sure, np.array([0])).count.tolist() == [0] * 14 + [1]
    # Two classes at one half each: in (0, 1/2] of two bins, in (2/5, 3/5] of five.
    even = np.zeros((1, 2))
    assert reliability(even, np.array([0]), bins=2).count.tolist() == [1, 0]
    assert reliability(even, np.array([0]), bins=5).count.tolist() == [0, 0, 1, 0, 0]
    assert calibration_error(sure, np.array([1])) == 1


@given(st.integers(0, 1000), st.integers(1, 30))
def test_the_error_is_the_weighted_gap_of_the_diagram(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(50, 3)) * 3, rng.integers(0, 3, 50)
    p = special.softmax(logits, axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == target
    expected = 0.0
    for low, high in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins, strict=True):
        inside = (confidence > low) & (confidence <= high)
        expected += abs(right[inside].sum() - confidence[inside].sum()) / 50
    assert calibration_error(logits, target, bins) == pytest.approx(expected, abs=1e-12)
    assert reliability(logits, target, bins).count.sum() == 50


def test_no_rows_are_refused() -> None:
    for function in (nll, calibration_error, fit_temperature):
        with pytest.raises(ValueError, match="logits: got no rows"):
            function(np.zeros((0, 3)), np.zeros(0, int))
