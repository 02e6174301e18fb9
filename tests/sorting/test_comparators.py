from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from criterium.sorting.comparators import DISTRIBUTIONS, Comparator

STEEPNESS, LAMBDA = 3.0, 0.4
GAPS = torch.cat([-torch.logspace(-6, 3, 60), torch.zeros(1), torch.logspace(-6, 3, 60)]).double()


def textbook(name: str, gap: Tensor) -> Tensor:
    v = STEEPNESS * gap
    match name:
        case "logistic":
            return 1 / (1 + torch.exp(-v))
        case "logistic_phi":
            return 1 / (1 + torch.exp(-v / (gap.abs() + 1e-10) ** LAMBDA))
        case "gaussian":
            return (1 + torch.erf(v / math.sqrt(2))) / 2
        case "reciprocal":
            return (v / (2 + v.abs()) + 1) / 2
        case "cauchy":
            return torch.atan(v) / math.pi + 0.5
        case _:
            inner = v.clamp(-0.25, 0.25) + 0.5
            return inner + torch.where(v.abs() > 0.25, v.sign() * (0.25 - 1 / (16 * v.abs())), 0.0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_shares_follow_the_formula_and_add_up(name: str) -> None:
    rule = Comparator(name, STEEPNESS, LAMBDA)
    keep, swap = rule.shares(rule.unit * GAPS)
    torch.testing.assert_close(keep, textbook(name, GAPS), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(keep + swap, torch.ones_like(GAPS), rtol=1e-12, atol=0.0)
    assert keep[GAPS == 0].item() == 0.5  # a wire that meets itself must come out unchanged


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_small_share_keeps_its_digits_in_float32(name: str) -> None:
    rule = Comparator(name, STEEPNESS, LAMBDA)
    gap = (rule.unit * GAPS.clamp(-4, 4)).float()
    exact, _ = rule.shares(gap.double())
    ours, _ = rule.shares(gap)
    # Two digits of float32 are lost where |drive| is near 20, since exp(-20 (1 + 6e-8)) is off by 1e-6.
    torch.testing.assert_close(ours.double(), exact, rtol=2e-5, atol=0.0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_slope_is_the_derivative(name: str) -> None:
    rule = Comparator(name, STEEPNESS, LAMBDA)
    gap = (rule.unit * GAPS).requires_grad_()
    share = rule.share(gap)
    (expected,) = torch.autograd.grad(share.sum(), gap)
    gap, share = gap.detach(), share.detach()
    torch.testing.assert_close(rule.slope(gap, share), expected, rtol=1e-9, atol=1e-13)
    out = torch.empty_like(gap)
    assert torch.equal(rule.share(gap, out=out), share)
    assert torch.equal(out, share)
