from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from criterium.losses.complement import complement_entropy
from criterium.losses.guided_complement import guided_complement_entropy
from goldens import Case, assert_stored, cases, value_and_gradient

GOLDENS = cases("guided_complement_entropy")


def paper(logits: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Return the formula as it stands in the paper, for each row, without epsilons."""
    p = logits.softmax(dim=1)
    true = p.gather(1, target.unsqueeze(1))
    wrong = (p / (1 - true)).scatter(1, target.unsqueeze(1), 1.0)  # 1 log 1 = 0
    return true.squeeze(1) ** alpha * (wrong * wrong.log()).sum(dim=1) / math.log(logits.shape[1])


def _with_gradient(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    labels = torch.from_numpy(case.arrays["labels"]).long()
    logits = torch.from_numpy(case.arrays["logits"]).to(dtype)
    return value_and_gradient(
        lambda x: guided_complement_entropy(x, labels, alpha=case.params["alpha"]), logits
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", GOLDENS)
def test_authors_numbers_without_their_epsilons(case: Case, dtype: torch.dtype) -> None:
    loss, gradient = _with_gradient(case, dtype)
    # An entropy below float32's 6e-8 is not resolved.
    assert_stored(case, "loss_noeps", loss, floor=1e-9)
    assert_stored(case, "grad_noeps", gradient, floor=1e-9)


@pytest.mark.parametrize("case", [case for case in GOLDENS if case.params["scale"] == 1.0])
def test_epsilons_do_not_matter_far_from_certainty(case: Case) -> None:
    loss, gradient = _with_gradient(case, torch.float64)
    stored = case.arrays["grad_logits"]
    np.testing.assert_allclose(loss, case.arrays["loss"], rtol=1e-5)
    np.testing.assert_allclose(gradient, stored, rtol=0, atol=1e-4 * np.abs(stored).max())


@pytest.mark.parametrize("alpha", [0.0, 1 / 3, 2.0])
def test_first_and_second_derivatives_are_those_of_the_paper(alpha: float) -> None:
    logits = torch.tensor([[0.3, -1.0, 0.7, 0.1], [2.0, 1.0, 1.0, -3.0]]).double()
    target = torch.tensor([1, 0])
    found, wanted = (
        torch.autograd.functional.hessian(call, logits)
        for call in (
            lambda x: guided_complement_entropy(x, target, alpha=alpha, reduction="sum"),
            lambda x: paper(x, target, alpha).sum(),
        )
    )
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        guided_complement_entropy(logits, target, alpha=alpha, reduction="none"), paper(logits, target, alpha)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [20.0, 1e4, 1e8])
def test_a_certain_true_class_does_not_hide_the_others(gap: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[gap, 0.0, math.log(3)]], dtype=dtype, requires_grad=True)
    loss = guided_complement_entropy(logits, torch.tensor([0]))
    loss.backward()
    # P = (1/4, 3/4), p_y = 1: the gradient is that of the entropy alone.
    negative = 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    slope = 0.25 * (math.log(0.25) - negative) / math.log(3)
    torch.testing.assert_close(loss.item(), negative / math.log(3), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        logits.grad, torch.tensor([[0.0, slope, -slope]], dtype=dtype), rtol=1e-6, atol=1e-8
    )


def test_a_hopeless_true_class_gives_nothing() -> None:
    logits = torch.tensor([[-1e4, 0.0, 1.0]], requires_grad=True)
    loss = guided_complement_entropy(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("classes", [1, 2])
def test_fewer_than_two_wrong_classes_have_no_entropy(classes: int) -> None:
    logits = torch.tensor([[3.0, -2.0], [0.0, 1e4]])[:, :classes].requires_grad_()
    loss = guided_complement_entropy(logits, torch.tensor([0, 0]), reduction="none")
    loss.backward(torch.full_like(loss, 2.0**40))
    assert loss.tolist() == [0.0, 0.0]
    assert not logits.grad.any()


ROWS = st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=6)


@given(ROWS, st.integers(0, 2), st.floats(0, 3))
def test_bounds_and_the_gradient_that_sums_to_zero(row: list[float], target: int, alpha: float) -> None:
    logits = torch.tensor([row], dtype=torch.float64, requires_grad=True)
    found = guided_complement_entropy(logits, torch.tensor([target]), alpha=alpha)
    found.backward()
    assert -math.log(len(row) - 1) / math.log(len(row)) * (1 + 1e-12) <= found.item() <= 0
    assert abs(logits.grad.sum().item()) <= 1e-12
    # A larger true logit never raises the loss.
    assert logits.grad[0, target].item() <= 0


@given(ROWS, st.integers(0, 2))
def test_without_guidance_it_is_the_complement_entropy(row: list[float], target: int) -> None:
    logits, label = torch.tensor([row], dtype=torch.float64), torch.tensor([target])
    expected = complement_entropy(logits, label) * len(row) / math.log(len(row))
    torch.testing.assert_close(
        guided_complement_entropy(logits, label, alpha=0.0), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_a_power_that_does_not_guide(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha: got .*, expected a finite number of at least 0"):
        guided_complement_entropy(torch.zeros(1, 3), torch.tensor([0]), alpha=alpha)
