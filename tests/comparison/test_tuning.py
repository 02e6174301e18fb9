"""Settings that are tried: drawn for the study, the repeat and the objective, and for nothing else."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from criterium.comparison.tuning import DECAYS, RATES, draw_settings, rank, searched
from criterium.objectives import OBJECTIVES, Choice, build
from criterium.training import Recipe

RECIPE = Recipe()


def settings(name: str = "exact", count: int = 8, source: str = "0/0", **fixed: object) -> list[dict]:
    return draw_settings(build(name), RECIPE, fixed=fixed, count=count, source=f"{source}/{name}")


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_each_objective_has_as_many_and_all_fit(name: str, count: int) -> None:
    drawn = settings(name, count)
    assert len(drawn) == count
    assert drawn[0] == {}
    kind = OBJECTIVES[name]
    if count > 1 and kind.published:
        assert drawn[1] == kind.published
    for setting in drawn[2:]:
        own = {key: value for key, value in setting.items() if not hasattr(RECIPE, key)}
        recipe = dataclasses.replace(RECIPE, **{k: v for k, v in setting.items() if k not in own})
        build(name, own)
        rates = RATES[recipe.optimizer]
        assert rates.low <= setting["learning_rate"] <= rates.high
        assert DECAYS.low <= setting["weight_decay"] <= DECAYS.high
        for option, values in kind.search.items():
            if isinstance(values, Choice):
                assert setting[option] in values.values
            else:
                assert values.low <= setting[option] <= values.high


def test_draws_depend_on_study_repeat_and_objective_alone() -> None:
    assert settings() == settings()
    assert settings()[2:] != settings(source="0/1")[2:]
    assert settings()[2:] != settings(source="1/0")[2:]
    rates = {name: settings(name)[2]["learning_rate"] for name in ("cot", "isomax", "dismax")}
    assert len(set(rates.values())) == 3


def test_what_the_user_gave_is_not_drawn() -> None:
    drawn = settings(learning_rate=0.1, margin=None)
    assert not any({"learning_rate", "margin"} & setting.keys() for setting in drawn)
    assert len(drawn) == 8
    nothing = draw_settings(
        build("maxsup"), RECIPE, fixed=["learning_rate", "weight_decay", "end"], count=8, source="0"
    )
    assert nothing == [{}]
    assert draw_settings(build("exact"), RECIPE, fixed=(), count=0, source="0") == [{}]


def test_sobol_points_cover_the_range() -> None:
    """Of 64 points of a scrambled Sobol sequence each 64th of each dimension holds one."""
    drawn = settings("cot", 66)[2:]
    assert len(drawn) == 64
    for option, values in (("learning_rate", RATES["sgd"]), ("weight_decay", DECAYS)):
        logs = np.log([setting[option] for setting in drawn])
        places = (logs - math.log(values.low)) / math.log(values.high / values.low)
        # Rounding to four digits may move a point over a border.
        counts, _ = np.histogram(places, bins=16, range=(0, 1))
        assert np.abs(counts - 4).max() <= 1


def test_the_range_of_rates_follows_the_optimizer() -> None:
    drawn = settings("exact", 34)[2:]
    for name, rates in RATES.items():
        mine = [setting["learning_rate"] for setting in drawn if setting["optimizer"] == name]
        assert len(mine) == 16
        assert rates.low <= min(mine) < 10 * rates.low
        assert rates.high / 10 < max(mine) <= rates.high
    recipe = dataclasses.replace(RECIPE, weight_decay=0.0)
    found = searched(build("exact", {"start": 4.0}), recipe, fixed=())
    assert found["learning_rate"] == {"value": 0.5, "low": 0.01, "high": 5.0}
    assert found["start"] == {"value": 4.0, "low": 1.0, "high": 10.0}
    assert found["weight_decay"]["value"] < found["weight_decay"]["low"]
    assert "margin" not in found
    assert "start" not in searched(build("exact", {"start": 4.0}), recipe, fixed=["start"])


def test_diverged_settings_come_last() -> None:
    lost = {"diverged": "in epoch 1"}
    worst = {"validation_loss": 1.0, "validation_nll": 1e9}
    assert rank(worst) < rank(lost)
