"""The four answers, and the flags: each raised by something, and not by something near."""

from __future__ import annotations

import math

import numpy as np
import pytest

from criterium.statistics import flags
from criterium.statistics.margins import default_margin
from criterium.statistics.spread import Spread, resampled
from criterium.statistics.verdicts import assess


def spread(mean: float, error: float, repeats: int = 10) -> Spread:
    return Spread(mean, error * math.sqrt(repeats), repeats, 0.0, repeats - 1)


@pytest.mark.parametrize(
    ("mean", "error", "better", "answer", "significant"),
    [
        (-0.05, 0.005, "lower", "better", True),
        (-0.05, 0.005, "higher", "worse", True),
        (0.05, 0.005, "lower", "worse", True),
        (0.0, 0.003, "lower", "as good", False),
        (-0.004, 0.001, "lower", "as good", True),
        (0.002, 0.02, "lower", "cannot tell", False),
        (-0.012, 0.006, "lower", "cannot tell", False),
    ],
)
def test_the_four_answers(mean: float, error: float, better: str, answer: str, significant: bool) -> None:
    found = assess({"a": spread(mean, error)}, better=better, margin=0.01)["a"]  # type: ignore[arg-type]
    assert (found.answer, found.significant) == (answer, significant)


def test_difference_and_equivalence_are_families_of_their_own() -> None:
    # One clear difference does not use up the level of the equivalences, nor the other way round.
    found = assess(
        {"a": spread(-0.05, 0.001), "b": spread(0.0, 0.004), "c": spread(0.05, 0.001)},
        better="lower",
        margin=0.02,
    )
    assert [of.answer for of in found.values()] == ["better", "as good", "worse"]
    alone = assess({"b": spread(0.0, 0.0052)}, better="lower", margin=0.01)["b"]
    among = assess({n: spread(0.0, 0.0052) for n in "bcdef"}, better="lower", margin=0.01)["b"]
    assert (alone.answer, among.answer) == ("as good", "cannot tell")
    assert among.smallest_margin > alone.smallest_margin


def test_one_repeat_of_a_resampled_race_cannot_tell() -> None:
    found = assess({"a": resampled([0.3], 0.25)}, better="lower", margin=0.01)["a"]
    assert found.answer == "cannot tell"
    assert math.isnan(found.p)
    assert found.repeats_needed is None


def test_what_was_seen_at_an_earlier_look_stays() -> None:
    early, late = {"a": spread(-0.05, 0.004, 5)}, {"a": spread(-0.01, 0.008, 10)}
    found = assess(late, better="lower", margin=0.001, earlier=[early], shares=(0.25, 0.25))
    assert found["a"].p == pytest.approx(4 * assess(early, better="lower", margin=0.001)["a"].p)
    with pytest.raises(ValueError, match="shares: got 1, expected 2"):
        assess(late, better="lower", margin=0.001, earlier=[early])


def test_margins() -> None:
    assert default_margin("top1_error") == 0.01
    assert default_margin("class_mean_error", 0.02) == pytest.approx(0.004)
    assert default_margin("topk_error", 0.5) == 0.01
    assert default_margin("level1_error", 0.0) == 0.01
    assert default_margin("nll", 0.001) == 0.02
    assert default_margin("fpr95") == 0.05


def names(found: flags.Flags) -> list[str]:
    return [flag.name for flag in found]


def test_edge_of_range() -> None:
    ranges = {"learning_rate": (0.01, 1.0), "weight_decay": (1e-5, 1e-1)}
    inside = {"learning_rate": 0.1, "weight_decay": 1e-3}
    high = {**inside, "learning_rate": 0.9}
    low = {**inside, "learning_rate": 0.011}
    assert names(flags.edge_of_range([high] * 4 + [inside], ranges)) == ["edge of range"]
    assert "learning rate lay at the upper end" in flags.edge_of_range([high] * 5, ranges)[0].words
    assert "lower end" in flags.edge_of_range([low] * 3, ranges)[0].words
    assert not flags.edge_of_range([high] * 3 + [low] * 2, ranges)  # not one end
    assert not flags.edge_of_range([high] * 3 + [inside] * 2, ranges)
    assert not flags.edge_of_range([high] * 2, ranges)  # two of two are chance
    assert not flags.edge_of_range([{}] * 5, ranges)


def test_not_converged() -> None:
    falls = [[*np.linspace(0.9, 0.297, 12).tolist(), 0.28, 0.25, 0.208]]
    assert names(flags.not_converged(falls, 0.01)) == ["not converged"]
    assert names(flags.not_converged([[1 - v for v in falls[0]]], 0.01, "higher")) == []  # a ninth of it
    assert not flags.not_converged([[0.5, 0.2, 0.2, 0.2, 0.195]], 0.01)
    assert not flags.not_converged([[0.5, 0.2, 0.2, 0.012, 0.006]], 0.01)  # less than the margin
    assert not flags.not_converged([[0.5]], 0.01)


def test_no_better_than_the_commonest_class() -> None:
    assert names(flags.no_better_than_commonest([0.32, 0.31], [0.301, 0.301], "lower"))
    assert not flags.no_better_than_commonest([0.29, 0.30], [0.301, 0.301], "lower")
    assert names(flags.no_better_than_commonest([0.5], [0.5], "higher"))


def test_failed_repeats() -> None:
    assert names(flags.failed_repeats([True, False], [False, True])) == ["diverged", "collapsed"]
    assert not flags.failed_repeats([False] * 3, [False] * 3)


def test_unstable() -> None:
    steady = [0.1, 0.102, 0.099, 0.101]
    assert names(flags.unstable([0.1, 0.3, 0.1, 0.2], steady, 0.01)) == ["unstable"]
    assert not flags.unstable([0.1, 0.108, 0.1, 0.1], steady, 0.01)  # less than matters
    assert not flags.unstable([0.1, 0.3], [0.1, 0.1], 0.01)  # too few to say


def test_identical_heads_and_constant_losses() -> None:
    runs = [{"nll": 0.5, "auroc": math.nan}, {"nll": 0.6, "auroc": math.nan}]
    assert names(flags.identical(runs, [dict(run) for run in runs])) == ["identical to the control"]
    assert not flags.identical(runs, [runs[0], {"nll": 0.6 + 1e-12, "auroc": math.nan}])
    assert names(flags.unfit_head(True, True))
    assert not flags.unfit_head(True, False)
    assert not flags.unfit_head(False, True)
    assert names(flags.constant_loss([[0.0, 0.0], [0.0, 0.0]]))
    assert not flags.constant_loss([[0.0, 0.0], [0.1, 0.0]])
    assert not flags.constant_loss([])
