from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from criterium.statistics.paired import estimate, holm


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_intervals_are_those_of_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.normal(size=n)
    found = estimate(list(first))
    expected = stats.ttest_1samp(first, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.mean == pytest.approx(first.mean())
    assert found.half_width == pytest.approx((expected.high - expected.low) / 2)


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = estimate([0.25])
    assert found.mean == 0.25
    assert math.isnan(found.low)
    assert math.isnan(found.half_width)


def test_holm_against_a_worked_example() -> None:
    # Smallest first: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_was_not_tested_is_not_counted() -> None:
    corrected = holm([math.nan, 0.01, math.nan, 0.02])
    assert corrected[1::2] == pytest.approx([0.02, 0.02])
    assert math.isnan(corrected[0])
    assert math.isnan(corrected[2])
