from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from criterium.evaluation.accuracy import top1_error
from criterium.evaluation.hierarchy import (
    level_errors,
    mistake_distance,
    predicted_class,
    tree_distance,
    tree_metrics,
)
from criterium.evaluation.measures import measure
from criterium.evaluation.metrics import METRICS, TREE_METRICS, metric
from criterium.evaluation.predictions import Predictions

TREE = (
    ("mammal", "cat", "lion"),
    ("mammal", "cat", "tiger"),
    ("mammal", "dog", "wolf"),
    ("amphibian", "newt"),
)


def test_by_hand() -> None:
    # Six lions: taken for a lion, a lion, a tiger, a tiger, a wolf, a newt.
    logits = np.eye(4)[[0, 0, 1, 1, 2, 3]]
    target = np.zeros(6, dtype=int)
    assert level_errors(logits, target, TREE) == (1 / 6, 2 / 6)
    # lion to tiger 2 edges, to wolf 4, to newt 3 + 2 by way of the root.
    assert mistake_distance(logits, target, TREE) == (2 + 2 + 4 + 5) / 4
    assert mistake_distance(logits[:2], target[:2], TREE) == 0


def test_distances_are_a_metric() -> None:
    table = np.array([[tree_distance(one, other) for other in TREE] for one in TREE])
    assert table.tolist() == [[0, 2, 4, 5], [2, 0, 4, 5], [4, 4, 0, 5], [5, 5, 5, 0]]
    # A class on the way to another one.
    assert tree_distance(("dog",), ("dog", "poodle")) == 1


@given(
    st.lists(st.tuples(st.lists(st.integers(-2, 2), min_size=4, max_size=4), st.integers(0, 3)), min_size=1)
)
def test_errors_fall_towards_the_root(rows: list[tuple[list[int], int]]) -> None:
    logits = np.array([row for row, _ in rows], dtype=np.float32)
    target = np.array([label for _, label in rows])
    coarse, fine = level_errors(logits, target, TREE)
    assert 0 <= coarse <= fine <= top1_error(logits, target)
    # Ties count against the true class, as in the top-1 error.
    assert np.mean(predicted_class(logits, target) != target) == top1_error(logits, target)
    distance = mistake_distance(logits, target, TREE)
    assert distance == 0 if top1_error(logits, target) == 0 else 2 <= distance <= 5


def test_measured_with_the_rest() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, 80)
    split = np.repeat(["validation", "test"], 40)
    logits = rng.normal(size=(80, 4)).astype(np.float32)
    predictions = Predictions(logits, target, split, logits.max(axis=1))
    plain, found = measure(predictions, k=2), measure(predictions, k=2, hierarchy=TREE)
    names = tree_metrics(TREE)
    assert names == ("level1_error", "level2_error", "mistake_distance")
    assert found.keys() - plain.keys() == set(names)
    test = logits[40:], target[40:]
    assert (found["level1_error"], found["level2_error"]) == level_errors(*test, TREE)
    assert found["mistake_distance"] == mistake_distance(*test, TREE)


def test_every_name_has_its_meaning() -> None:
    for name in (*METRICS, *TREE_METRICS, "level2_error", "level12_error"):
        assert metric(name).name == name
    assert metric("level12_error").title == "level-12 error"
    with pytest.raises(ValueError, match=r"metrics: got 'level0_error', .*did you mean 'level1_error'"):
        metric("level0_error")
