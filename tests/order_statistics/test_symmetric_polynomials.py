from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from criterium.order_statistics.symmetric_polynomials import symmetric_log_ratio


def literal(values: Tensor, k: int, temperature: float) -> Tensor:
    """Return log e_k - log e_(k-1) (N,) by the sums over all subsets, in float64."""
    z = values.double() / temperature

    def log_e(size: int) -> Tensor:
        subsets = list(itertools.combinations(range(values.shape[1]), size))
        members = torch.tensor(subsets, dtype=torch.long).reshape(len(subsets), size)
        return z[:, members].sum(2).logsumexp(1)

    return log_e(k) - log_e(k - 1)


def with_literal(values: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the literal log-ratio and its derivative by values / temperature."""
    leaf = values.double().requires_grad_()
    ratio = literal(leaf, k, temperature)
    (slope,) = torch.autograd.grad(ratio.sum(), leaf)
    return ratio.detach(), slope * temperature


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("classes", [1, 2, 5, 11])
def test_is_the_sum_over_all_subsets(classes: int, temperature: float) -> None:
    for k in range(1, classes + 1):
        for scale in (1e-3, 1.0, 30.0):
            values = scale * normal(5, classes, seed=k)
            ratio, slope = symmetric_log_ratio(values, k, temperature)
            expected, its_slope = with_literal(values, k, temperature)
            torch.testing.assert_close(ratio, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(slope, its_slope, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "row",
    [
        [0.0] * 13,
        [1.0] * 6 + [0.0] * 6,
        [1e4] * 3 + [0.0] * 3 + [-1e4] * 6,
        [0.0] * 4 + [-0.5] * 8,
        [-0.7 * i for i in range(12)],
        [1e4 + 1, 1e4, 3.0, 2.0, 1.0, 1.0, 0.0, -5.0, -1e4, -1e4 - 1],
    ],
)
def test_ties_and_gaps(row: list[float]) -> None:
    for dtype, digits in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
        values = torch.tensor([row], dtype=dtype)
        for k in range(1, len(row) + 1):
            for temperature in (0.1, 1.0, 5.0):
                ratio, slope = symmetric_log_ratio(values, k, temperature)
                expected, its_slope = with_literal(values, k, temperature)
                torch.testing.assert_close(ratio, expected, rtol=digits, atol=digits)
                torch.testing.assert_close(slope.double(), its_slope, rtol=0, atol=digits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("classes", "k"), [(9, 5), (30, 10), (1000, 5), (10_000, 10), (10_000, 100), (100_000, 5)]
)
def test_equal_elements_have_a_closed_form(classes: int, k: int, dtype: torch.dtype) -> None:
    """e_k / e_(k-1) of C ones is (C - k + 1) / k, though e_100 of 10,000 ones is 6e241 and goes on."""
    ratio, slope = symmetric_log_ratio(torch.full((2, classes), 3.0, dtype=dtype), k, 0.5)
    digits = 1e-5 if dtype == torch.float32 else 1e-9
    expected = math.log((classes - k + 1) / k) + 6
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected), rtol=digits, atol=0)
    torch.testing.assert_close(slope, torch.full_like(slope, 1 / classes), rtol=digits, atol=0)


def test_coefficients_stay_in_range() -> None:
    """e_90 of 100,000 ones is 10^312, past the range of float64."""
    ratio, slope = symmetric_log_ratio(torch.zeros(1, 100_000, dtype=torch.float64), 90, 1.0)
    assert ratio.item() == pytest.approx(math.log(99_911 / 90), rel=1e-6)
    torch.testing.assert_close(slope, torch.full_like(slope, 1e-5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 2, 5, 10, 20])
def test_float32_has_its_digits(k: int, temperature: float) -> None:
    # k times the temperature, as the loss has it. The last rows have ties.
    for scale in (1.0, 10.0, 1000.0):
        values = (scale * normal(4, 10_000, seed=k)).float()
        values[2:] = values[2:].round()
        ratio, slope = symmetric_log_ratio(values, k, k * temperature)
        expected, its_slope = symmetric_log_ratio(values.double(), k, k * temperature)
        assert slope.dtype == torch.float32
        torch.testing.assert_close(ratio * k * temperature, expected * k * temperature, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(slope.double(), its_slope, rtol=0, atol=1e-6)


rows = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=9)


@settings(max_examples=80, deadline=None)
@given(row=rows, data=st.data(), temperature=st.sampled_from([0.05, 0.5, 5.0]))
def test_slope_is_a_difference_of_probabilities(
    row: list[float], data: st.DataObject, temperature: float
) -> None:
    values = torch.tensor([row], dtype=torch.float64)
    k = data.draw(st.integers(1, len(row)))
    order = torch.tensor(data.draw(st.permutations(range(len(row)))))
    ratio, slope = symmetric_log_ratio(values, k, temperature)
    assert slope.min() > -1e-12
    assert slope.sum().item() == pytest.approx(1, abs=1e-12)
    # From 1 / k of the k-th largest's w, where no other counts, to all from the k-th on having its w.
    kth = values.topk(k).values[0, -1].item()
    low, high = kth - temperature * math.log(k), kth + temperature * math.log(len(row) - k + 1)
    assert low - 1e-9 <= temperature * ratio.item() <= high + 1e-9
    moved, its_slope = symmetric_log_ratio(values[:, order], k, temperature)
    torch.testing.assert_close(moved, ratio, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(its_slope, slope[:, order], rtol=0, atol=1e-11)


def test_minus_infinity_leaves_an_element_out() -> None:
    values = normal(4, 12)
    for k in (1, 3, 6, 11):
        ratio, slope = symmetric_log_ratio(values[:, :-1], k, 0.7)
        more = torch.cat((values[:, :-1], torch.full((4, 1), -torch.inf, dtype=values.dtype)), 1)
        same, its_slope = symmetric_log_ratio(more, k, 0.7)
        torch.testing.assert_close(same, ratio, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(its_slope[:, :-1], slope, rtol=0, atol=1e-13)
        assert not its_slope[:, -1].any()


@pytest.mark.parametrize(("classes", "k"), [(5, 3), (9, 2), (9, 1)])
def test_second_derivative(classes: int, k: int) -> None:
    for values in (normal(2, classes), 5 * normal(2, classes)):
        assert torch.autograd.gradcheck(
            lambda x: symmetric_log_ratio(x, k, 0.8), values.clone().requires_grad_()
        )
