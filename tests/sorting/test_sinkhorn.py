from __future__ import annotations

import numpy as np
import pytest
import torch

from criterium.sorting import sort_matrix, topk_matrix


def plain(scores: np.ndarray, regularisation: float, iterations: int) -> np.ndarray:
    """n times the plan between uniform masses: rows and columns of exp(-cost / regularisation) scaled."""
    n = len(scores)
    anchors = (n + 1) / 2 - np.arange(1, n + 1)
    kernel = np.exp(-((scores[:, None] - anchors) ** 2) / regularisation)
    columns = np.ones(n)
    for _ in range(iterations):
        rows = 1 / (n * kernel @ columns)
        columns = 1 / (n * kernel.T @ rows)
    return n * rows[:, None] * kernel * columns


@pytest.mark.parametrize("steepness", [0.3, 1.0])
def test_it_is_the_plan_of_plain_iterations(steepness: float) -> None:
    scores = np.array([0.3, -0.4, 1.1, 0.0, 0.7, -1.0])
    expected = plain(scores, 1 / steepness, iterations=5000)
    ours = sort_matrix(torch.from_numpy(scores), relaxation="sinkhorn", steepness=steepness).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)
    first = topk_matrix(torch.from_numpy(scores), 2, relaxation="sinkhorn", steepness=steepness).numpy()
    np.testing.assert_array_equal(first, ours[:, :2])


def test_two_elements_are_a_logistic_comparator() -> None:
    gap = torch.linspace(-30, 30, 13, dtype=torch.float64)
    matrix = sort_matrix(torch.stack([gap, torch.zeros_like(gap)], -1), relaxation="sinkhorn", steepness=0.7)
    torch.testing.assert_close(matrix[:, 0, 0], torch.sigmoid(0.7 * gap), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [3, 16, 60])
def test_rows_are_within_what_is_stated(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    errors = []
    for scale in (0.1, 0.5, 1.0, 3.0, 10.0, 1e3):
        scores = scale * torch.randn(50, n, generator=generator, dtype=torch.float64)
        matrix = sort_matrix(scores, relaxation="sinkhorn")
        torch.testing.assert_close(matrix.sum(-2), torch.ones_like(scores), rtol=0, atol=1e-12)
        errors.append((matrix.sum(-1) - 1).abs().max().item())
    assert max(errors) < 0.005
    assert errors[0] < 1e-6
