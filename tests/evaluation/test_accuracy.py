from __future__ import annotations

import numpy as np
import pytest

from criterium.evaluation.accuracy import top1_error, topk_error


def test_errors_agree_with_sorting_where_nothing_ties() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(200, 6)), rng.integers(0, 6, 200)
    order = np.argsort(-logits, axis=1)
    for k in range(1, 6):
        missed = [true not in row[:k] for row, true in zip(order, target, strict=True)]
        assert topk_error(logits, target, k) == np.mean(missed)
    assert top1_error(logits, target) == np.mean(logits.argmax(axis=1) != target)


def test_ties_count_against_the_true_class() -> None:
    logits = np.array([[1.0, 1.0, 0.0, -1.0]] * 2)
    assert top1_error(logits, np.array([0, 1])) == 1
    assert topk_error(logits, np.array([0, 1]), 2) == 0
    assert topk_error(np.zeros((3, 4)), np.array([0, 1, 2]), 3) == 1


@pytest.mark.parametrize("k", [0, 3, 4])
def test_a_k_that_means_nothing_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k: got {k}, expected 1 to 2"):
        topk_error(np.zeros((2, 3)), np.array([0, 1]), k)


def test_no_rows_have_no_error() -> None:
    with pytest.raises(ValueError, match="logits: got no rows"):
        top1_error(np.zeros((0, 3)), np.zeros(0, int))
