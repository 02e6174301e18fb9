from __future__ import annotations

import pytest
import torch

from criterium.sorting.chance import chance_and_slope
from criterium.sorting.comparators import DISTRIBUTIONS, comparator
from criterium.sorting.networks import NETWORKS
from criterium.sorting.topk import rank_probabilities


@pytest.mark.parametrize("relaxation", NETWORKS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_is_what_autograd_makes_of_the_sweep(relaxation: str, distribution: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for n, by_rank in (
        (2, (0.7,)),
        (3, (0.2, 0.5)),
        (7, (0.1, 0.9, 0.3)),
        (16, (0.5,) * 5),
        (33, (1.0, 0.5)),
    ):
        scores = 3 * torch.randn(5, n, generator=generator, dtype=torch.float64)
        index = torch.randint(n, (5,), generator=generator)
        options = {"distribution": distribution, "steepness": 1.7, "art_lambda": 0.4}
        leaf = scores.clone().requires_grad_()
        ranks = rank_probabilities(leaf, index, len(by_rank), relaxation=relaxation, **options)
        expected = ranks @ ranks.new_tensor(by_rank)
        (slope,) = torch.autograd.grad(expected.sum(), leaf)

        rule = comparator(**options)
        found, gradient = chance_and_slope(scores.T.numpy(), index.numpy(), by_rank, relaxation, rule)
        torch.testing.assert_close(torch.from_numpy(found), expected.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(torch.from_numpy(gradient.T), slope, rtol=1e-9, atol=1e-12)

        first, its_gradient = chance_and_slope(scores.T.numpy(), 0, by_rank, relaxation, rule)
        every, same = chance_and_slope(
            scores.T.numpy(), torch.zeros_like(index).numpy(), by_rank, relaxation, rule
        )
        assert (first == every).all()
        assert (its_gradient == same).all()
