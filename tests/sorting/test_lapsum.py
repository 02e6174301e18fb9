from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from criterium.sorting import topk_matrix


def laplace(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.5 * x.clamp_max(0).exp(), 1 - 0.5 * (-x.clamp_min(0)).exp())


def by_bisection(scores: Tensor, k: int) -> Tensor:
    """The published definition, its thresholds found by halving intervals in float64."""
    low = scores.amin(-1, keepdim=True) - 50
    high = scores.amax(-1, keepdim=True) + 50
    chances = [torch.zeros_like(scores)]
    for rank in range(1, k + 1):
        below, above = low.clone(), high.clone()
        for _ in range(60):
            middle = (below + above) / 2
            too_many = laplace(scores - middle).sum(-1, keepdim=True) > rank
            below, above = torch.where(too_many, middle, below), torch.where(too_many, above, middle)
        everything = rank == scores.shape[-1]
        chances.append(torch.ones_like(scores) if everything else laplace(scores - (below + above) / 2))
    return torch.stack(chances, dim=-1).diff(dim=-1)


@settings(max_examples=50)
@given(
    scores=st.lists(st.floats(-30, 30) | st.integers(-2, 2), min_size=1, max_size=12),
    steepness=st.sampled_from([0.2, 1.0, 5.0]),
)
def test_it_is_the_definition(scores: list[float], steepness: float) -> None:
    values = torch.tensor(scores, dtype=torch.float64)
    for k in {1, (len(scores) + 1) // 2, len(scores)}:
        ours = topk_matrix(values, k, relaxation="lapsum", steepness=steepness)
        torch.testing.assert_close(ours, by_bisection(steepness * values, k), rtol=0, atol=1e-12)


def test_many_elements() -> None:
    scores = 4 * torch.randn(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = by_bisection(scores, 4)
    torch.testing.assert_close(topk_matrix(scores, 4, relaxation="lapsum"), expected, rtol=1e-8, atol=1e-13)
    found = topk_matrix(scores.float(), 4, relaxation="lapsum")
    torch.testing.assert_close(
        found.double(), topk_matrix(scores.float().double(), 4, relaxation="lapsum"), rtol=1e-4, atol=1e-9
    )


def test_small_chances_keep_their_digits_in_float32() -> None:
    """An element far from a threshold has differences of numbers near one, or of numbers near zero."""
    scores = torch.tensor([0.0, 9.0, 18.0, 27.0, 36.0])
    ours = topk_matrix(scores, 5, relaxation="lapsum").double()
    exact = topk_matrix(scores.double(), 5, relaxation="lapsum")
    assert 0 < exact.min() < 1e-13
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=0.0)


def test_a_common_shift_costs_no_more_than_the_digits_of_the_scores() -> None:
    scores = torch.tensor([0.0, 0.5, 1.25, 4.0])
    far = topk_matrix(scores + 8192, 4, relaxation="lapsum")
    assert torch.equal(scores + 8192 - 8192, scores)
    torch.testing.assert_close(far, topk_matrix(scores, 4, relaxation="lapsum"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n", [2, 6])
def test_ties_have_the_slope_of_their_neighbours(n: int) -> None:
    """With all scores equal, thresholds may lie on the scores themselves, where |x| has no derivative."""
    slopes = []
    for spread in (0.0, 1e-9):
        scores = spread * torch.arange(n, dtype=torch.float64)
        scores.requires_grad_()
        topk_matrix(scores, n // 2, relaxation="lapsum")[0].sum().backward()
        slopes.append(scores.grad)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-6, atol=1e-9)
    # The slope of F at its middle is 1/2, and the threshold follows by 1/n.
    assert slopes[0][0].item() == pytest.approx(0.5 * (1 - 1 / n))
