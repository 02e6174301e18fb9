from __future__ import annotations

from typing import Any

import pytest

from criterium.objectives import Task, build
from criterium.sorting.topk import RELAXATIONS


def task(classes: int, k: int = 5) -> Task:
    return Task(num_classes=classes, class_counts=(3,) * classes, k=k, is_image=False)


@pytest.mark.parametrize(
    ("candidates", "classes", "k", "expected"),
    [
        ("auto", 16, 5, "all"),
        ("auto", 17, 5, 16),
        ("auto", 100, 16, "all"),  # 16 of them could not tell who is among the 16 largest
        (None, 100, 5, "all"),
        (20, 100, 5, 20),
    ],
)
def test_candidates(candidates: int | str | None, classes: int, k: int, expected: int | str) -> None:
    (criterion,) = build("topk", {"candidates": candidates}).criteria(task(classes, k))
    assert criterion.candidates == expected


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_every_relaxation_is_handed_on(relaxation: str) -> None:
    (criterion,) = build("topk", {"relaxation": relaxation}).criteria(task(20))
    assert criterion.relaxation == relaxation


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"relaxation": "lapsam"}, "relaxation: got 'lapsam', .*did you mean 'lapsum'"),
        ({"distribution": "normal"}, "distribution: got 'normal'"),
        ({"steepness": 0}, "steepness: got 0, expected a finite number above 0"),
        ({"art_lambda": 1.0}, "art_lambda: got 1.0"),
        ({"top1": "smce"}, "top1: got 'smce', expected one of softmax, softmax_ce, sort"),
        ({"first": 1.5}, "first: got 1.5, expected a number from 0 to 1"),
        ({"first": "half"}, "first: got 'half'"),
        ({"candidates": "all"}, "candidates: got 'all', expected a whole number, 'auto' or none"),
        ({"candidates": 1}, "candidates: got 1, expected a whole number of at least 2"),
    ],
)
def test_options_are_checked_when_it_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("topk", options)
