"""Settings that are drawn: even, the same again, and no objective's like another's."""

from __future__ import annotations

import math

import pytest

from criterium.comparison.draws import draw
from criterium.objectives import Choice, Range

SPACE = {
    "learning_rate": Range(0.01, 10.0),
    "weight_decay": Range(1e-6, 1e-2),
    "margin": Choice((None, 0.5, 1.0, 5.0)),
}


def of(
    objective: str = "exact", repeat: int = 0, count: int = 8, study_seed: int = 0
) -> list[dict[str, float]]:
    return draw(SPACE, count, study_seed=study_seed, repeat=repeat, objective=objective)


def test_every_eighth_of_a_range_is_tried_once() -> None:
    for seed in range(5):
        places = [math.log(one["learning_rate"] / 0.01) / math.log(1000) for one in of(study_seed=seed)]
        assert sorted(int(8 * place) for place in places) == list(range(8))
        margins = [one["margin"] for one in of(study_seed=seed)]
        assert {margins.count(value) for value in SPACE["margin"].values} == {2}  # type: ignore[union-attr]


def test_draws_are_the_same_again_and_others_elsewhere() -> None:
    assert of() == of()
    assert of(count=5) == of()[:5]
    others = [of("cot"), of(repeat=1), of(study_seed=1)]
    assert all(other != of() for other in others)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_draws_and_spaces_without_anything(count: int) -> None:
    assert len(of(count=count)) == count
    assert draw({}, count, study_seed=0, repeat=0, objective="cot") == [{}] * count
