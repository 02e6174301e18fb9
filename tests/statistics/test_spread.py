"""Standard errors hold what they promise on data drawn anew: size and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from criterium.statistics.answers import difference_p, equivalence_p, interval, smallest_margins
from criterium.statistics.looks import SHARES, looks, sequential_p
from criterium.statistics.paired import holm
from criterium.statistics.power import repeats_needed, resolution
from criterium.statistics.spread import Spread, resampled, shared
from criterium.statistics.tuned import expected_best

RACES = 2000


def sharing(rng: np.random.Generator, repeats: int, correlation: float) -> np.ndarray:
    """Return (RACES, repeats) differences around 0 whose repeats share the data."""
    own = rng.normal(size=(RACES, repeats))
    common = rng.normal(size=(RACES, 1))
    found: np.ndarray = math.sqrt(1 - correlation) * own + math.sqrt(correlation) * common
    return found


@pytest.mark.parametrize(("repeats", "plain"), [(5, 0.14), (10, 0.26)])
def test_repeats_of_one_table_are_not_taken_for_independent(repeats: int, plain: float) -> None:
    # r = 1/4 stands for a correlation of r / (1 + r) = 1/5.
    races = sharing(np.random.default_rng(repeats), repeats, 0.2)
    corrected = np.mean([difference_p(resampled(race, 0.25)) <= 0.05 for race in races])
    uncorrected = np.mean([difference_p(resampled(race, 0.0)) <= 0.05 for race in races])
    assert corrected == pytest.approx(0.05, abs=2.6 * math.sqrt(0.05 * 0.95 / RACES))
    assert uncorrected == pytest.approx(plain, abs=0.03)


def test_without_shared_rows_it_is_the_t_test() -> None:
    values = list(np.random.default_rng(0).normal(0.3, 1, 7))
    spread = resampled(values, 0.0)
    expected = stats.ttest_1samp(values, 0)
    assert difference_p(spread) == pytest.approx(expected.pvalue, rel=1e-9)
    assert interval(spread) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


def shared_rows(rng: np.random.Generator, repeats: int, rows: int) -> Spread:
    """Return the spread of differences with effects of row, repeat and both; the true mean is 0."""
    table = (
        0.3 * rng.normal(size=rows)
        + 0.02 * rng.normal(size=(repeats, 1))
        + 0.2 * rng.normal(size=(repeats, rows))
    )
    averaged = table.mean(axis=0)
    return shared(list(table.mean(axis=1)), averaged.var(ddof=1) / rows, rows)


@pytest.mark.parametrize(("repeats", "rows"), [(5, 100), (10, 400)])
def test_an_official_test_part_holds_the_truth_over_rows_and_repeats(repeats: int, rows: int) -> None:
    rng = np.random.default_rng(rows)
    held = [low <= 0 <= high for low, high in (interval(shared_rows(rng, repeats, rows)) for _ in range(800))]
    assert 0.93 <= np.mean(held) <= 0.985  # what repeats and rows do together is counted twice
    only_repeats = [
        (lambda pair: pair[0] <= 0 <= pair[1])(interval(resampled(race, 0.0)))
        for race in (
            (0.3 * rng.normal(size=rows)).mean() + 0.02 * rng.normal(size=repeats) for _ in range(400)
        )
    ]
    assert np.mean(only_repeats) < 0.8


def test_satterthwaite_lies_between_its_parts() -> None:
    values = [0.1, 0.2, 0.4, 0.3]
    assert shared(values, 0.0, 500).degrees == pytest.approx(3)
    assert shared(values, 10.0, 500).degrees == pytest.approx(499, rel=1e-2)
    a, b = np.var(values, ddof=1) / 4, 0.003
    assert shared(values, b, 500).degrees == pytest.approx((a + b) ** 2 / (a**2 / 3 + b**2 / 499))


def test_one_repeat_tests_the_rows_alone() -> None:
    each = np.random.default_rng(1).normal(0.1, 1, 300)
    spread = shared([float(each.mean())], each.var(ddof=1) / 300, 300)
    assert difference_p(spread) == pytest.approx(stats.ttest_1samp(each, 0).pvalue, rel=1e-9)
    assert math.isnan(difference_p(resampled([0.2], 0.25)))
    assert repeats_needed(spread, 0.01) is None


def test_equivalence_is_an_interval_of_90_percent_within_the_margin() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        spread = resampled(list(rng.normal(0.2, 0.5, 8)), 0.1)
        low, high = interval(spread, 0.10)
        assert (equivalence_p(spread, 0.5) <= 0.05) == (low >= -0.5 and high <= 0.5)
        values = [*spread_values(spread)]
        assert equivalence_p(resampled(values, 0.0), 0.5) == pytest.approx(
            max(
                stats.ttest_1samp(values, -0.5, alternative="greater").pvalue,
                stats.ttest_1samp(values, 0.5, alternative="less").pvalue,
            ),
            rel=1e-6,
        )


def spread_values(spread: Spread) -> np.ndarray:
    """Return values with this mean and deviation."""
    shape = np.linspace(-1, 1, spread.repeats)
    return spread.mean + shape / shape.std(ddof=1) * spread.deviation


def test_a_difference_of_the_margin_is_called_equivalent_in_one_race_of_twenty_at_most() -> None:
    rng = np.random.default_rng(3)
    races = rng.normal(1.0, 0.6, size=(RACES, 10))
    rate = np.mean([equivalence_p(resampled(list(race), 0.0), 1.0) <= 0.05 for race in races])
    assert rate == pytest.approx(0.05, abs=2.6 * math.sqrt(0.05 * 0.95 / RACES))


def test_differences_without_variance_are_not_called_certain() -> None:
    same = resampled([0.5] * 5, 0.25)
    assert difference_p(same) == 2 / 32
    assert equivalence_p(same, 1.0) == 1 / 32
    assert equivalence_p(same, 0.5) == 1.0
    assert difference_p(resampled([0.0] * 5, 0.25)) == 1.0
    # 1 percent of 200 rows would have shown itself in all but 13 % of cases.
    assert equivalence_p(shared([0.0], 0.0, 200), 0.01) == pytest.approx(0.99**200)


def test_the_smallest_margin_is_where_the_answer_turns() -> None:
    rng = np.random.default_rng(4)
    spreads = [resampled(list(rng.normal(mean, 0.3, 10)), 0.25) for mean in (0.0, 0.2, -0.1)]
    for index, least in enumerate(smallest_margins(spreads)):
        for margin, holds in ((least * 1.001, True), (least * 0.999, False)):
            assert (holm([equivalence_p(of, margin) for of in spreads])[index] <= 0.05) == holds


@pytest.mark.parametrize(
    ("margin", "tests", "expected"),
    [(1.0, 1, None), (1.5, 1, 113), (2.0, 1, 9), (2.0, 5, 32), (1.5, 5, None)],
)
def test_repeats_needed(margin: float, tests: int, expected: int | None) -> None:
    assert repeats_needed(Spread(0, 1.0, 5, 0.25, 4), margin, 0.05 / tests) == expected


def test_the_plateau_of_shared_rows() -> None:
    of = Spread(0, 1.0, 5, 0.25, 4)
    z = stats.norm.ppf
    assert resolution(of) == pytest.approx((z(0.95) + z(0.9)) / 2)
    assert resolution(of, 0.01) == pytest.approx((z(0.99) + z(0.9)) / 2)
    assert resolution(Spread(0, 1.0, 5, 0.0, 4)) == 0


def test_so_many_repeats_do_tell_in_four_of_five_races() -> None:
    rng = np.random.default_rng(5)
    n = repeats_needed(Spread(0, 1.0, 5, 0.0, 4), 1.0)
    assert n is not None
    far = rng.normal(1.0, 1.0, size=(RACES, n))
    none = rng.normal(0.0, 1.0, size=(RACES, n))
    assert np.mean([difference_p(resampled(list(race), 0)) <= 0.05 for race in far]) > 0.78
    assert np.mean([equivalence_p(resampled(list(race), 0), 1.0) <= 0.05 for race in none]) > 0.78


def test_looking_three_times_keeps_the_level() -> None:
    races = np.random.default_rng(6).normal(size=(RACES, 20))
    counts = [look.repeats for look in looks(20)]
    p = np.array([[difference_p(resampled(list(race[:n]), 0.0)) for n in counts] for race in races])
    assert np.mean([sequential_p(list(row)) <= 0.05 for row in p]) <= 0.05
    assert np.mean(p.min(axis=1) <= 0.05) > 0.08  # what careless looking gives
    assert sum(SHARES) == 1


def test_the_expected_best_is_the_mean_over_all_choices() -> None:
    from itertools import combinations

    values = [0.4, 0.1, 0.3, 0.1, 0.9]
    for better, pick in (("lower", min), ("higher", max)):
        expected = [np.mean([pick(c) for c in combinations(values, n)]) for n in range(1, 6)]
        assert expected_best(values, better) == pytest.approx(expected)  # type: ignore[arg-type]
