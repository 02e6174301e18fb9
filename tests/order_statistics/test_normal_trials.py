"""Variables that are counted at points are as many variables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from criterium.order_statistics.normal_trials import NormalTrials
from criterium.order_statistics.top_probability import log_chance, log_top_probability


def gaps(shift: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(6, 12, generator=generator, dtype=torch.double) + shift).sort(dim=1).values


@pytest.mark.parametrize("k", [1, 2, 4, 7])
@pytest.mark.parametrize("shift", [3.0, 0.0, -40.0])
def test_one_variable_at_each_point(k: int, shift: float) -> None:
    gap = gaps(shift)
    rivals = NormalTrials(gap[:, :k], gap[:, k:], torch.ones_like(gap[:, k:]))
    value, by_few, by_points = log_chance(rivals, 12, double=False)
    chance, slope = log_top_probability(gap, k)
    torch.testing.assert_close(value, chance, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(torch.cat([by_few, by_points], dim=1), slope, rtol=0, atol=1e-6)


def test_a_number_is_as_many_variables() -> None:
    gap = gaps(0.0)
    numbers = torch.arange(10.0, dtype=torch.double).expand(6, -1)
    repeated = torch.cat([gap[:, :2], gap[:, 2:].repeat_interleave(torch.arange(10), dim=1)], dim=1)
    value, _, by_points = log_chance(NormalTrials(gap[:, :2], gap[:, 2:], numbers), 47, double=False)
    chance, slope = log_top_probability(repeated, 2)
    torch.testing.assert_close(value, chance, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(by_points[:, -1], slope[:, -1], rtol=0, atol=1e-6)


def test_a_strongest_far_ahead_of_the_kth() -> None:
    # The integrand lies where the k-th strongest is left behind, a hundred deviations from the first.
    gap = torch.tensor([[-160.0, -120.0, -60.0, 1.0, 2.0]], dtype=torch.double)
    value, slope = log_top_probability(gap, 3)
    step = 1e-5
    for j in range(5):
        moved = gap.repeat(2, 1)
        moved[:, j] += torch.tensor([step, -step], dtype=torch.double)
        higher, lower = log_top_probability(moved, 3)[0]
        assert abs(float((higher - lower) / (2 * step) - slope[0, j])) < 1e-5 * float(slope.abs().max())
    # With two certain to win, it is to beat the third of them: log of a chance of -60 / sqrt(2) deviations.
    of_one, _ = log_top_probability(gap[:, 2:], 1)
    torch.testing.assert_close(value, of_one, rtol=1e-10, atol=0)
