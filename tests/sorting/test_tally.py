"""The chance from a tally is the one from all competitors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from criterium.sorting.order_statistics import log_top_probability
from criterium.sorting.tally import Tally, log_chance


def gaps(shift: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(6, 12, generator=generator, dtype=torch.double) + shift).sort(dim=1).values


@pytest.mark.parametrize("k", [1, 2, 4, 7])
@pytest.mark.parametrize("shift", [3.0, 0.0, -40.0])
def test_one_competitor_at_each_point(k: int, shift: float) -> None:
    gap = gaps(shift)
    tally = Tally(gap[:, :k], gap[:, k:], torch.ones_like(gap[:, k:]))
    value, by_few, by_points = log_chance(tally, 12)
    chance, slope = log_top_probability(gap, k)
    torch.testing.assert_close(value, chance, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(torch.cat([by_few, by_points], dim=1), slope, rtol=0, atol=1e-6)


def test_a_number_is_as_many_competitors() -> None:
    gap = gaps(0.0)
    numbers = torch.arange(10.0, dtype=torch.double).expand(6, -1)
    repeated = torch.cat([gap[:, :2], gap[:, 2:].repeat_interleave(torch.arange(10), dim=1)], dim=1)
    value, _, by_points = log_chance(Tally(gap[:, :2], gap[:, 2:], numbers), 47)
    chance, slope = log_top_probability(repeated, 2)
    torch.testing.assert_close(value, chance, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(by_points[:, -1], slope[:, -1], rtol=0, atol=1e-6)
