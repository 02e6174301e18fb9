from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from criterium.losses.complement import complement_entropy
from goldens import Case, assert_stored, cases, value_and_gradient

GOLDENS = cases("complement_entropy")


def _with_gradient(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    labels = torch.from_numpy(case.arrays["labels"]).long()
    logits = torch.from_numpy(case.arrays["logits"]).to(dtype)
    return value_and_gradient(lambda x: complement_entropy(x, labels), logits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", GOLDENS)
def test_authors_numbers_without_their_epsilons(case: Case, dtype: torch.dtype) -> None:
    loss, gradient = _with_gradient(case, dtype)
    assert_stored(case, "loss_noeps", loss)
    assert_stored(case, "grad_noeps", gradient)


@pytest.mark.parametrize("case", [case for case in GOLDENS if case.params["scale"] == 1.0])
def test_epsilons_do_not_matter_far_from_certainty(case: Case) -> None:
    loss, gradient = _with_gradient(case, torch.float64)
    stored = case.arrays["grad_logits"]
    np.testing.assert_allclose(loss, case.arrays["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradient, stored, rtol=0, atol=1e-5 * np.abs(stored).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [20.0, 1e4, 1e8])
def test_a_certain_true_class_does_not_hide_the_others(gap: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[gap, 0.0, math.log(3)]], dtype=dtype, requires_grad=True)
    loss = complement_entropy(logits, torch.tensor([0]))
    loss.backward()
    # P = (1/4, 3/4); ∂/∂s_j = P_j (log P_j − Σ P log P) / 3.
    negative = 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    slope = 0.25 * (math.log(0.25) - negative) / 3
    torch.testing.assert_close(loss.item(), negative / 3, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        logits.grad, torch.tensor([[0.0, slope, -slope]], dtype=dtype), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("classes", [1, 2])
def test_fewer_than_two_wrong_classes_have_no_entropy(classes: int) -> None:
    logits = torch.tensor([[3.0, -2.0], [0.0, 1e4]])[:, :classes].requires_grad_()
    loss = complement_entropy(logits, torch.tensor([0, 0]), reduction="none")
    # A large upstream gradient, as of a loss scaled for float16, meets the same zeros.
    loss.backward(torch.full_like(loss, 2.0**40))
    assert loss.tolist() == [0.0, 0.0]
    assert not logits.grad.any()


def test_the_largest_entropy_is_the_least_loss() -> None:
    logits = torch.tensor([[5.0, 1.0, 1.0, 1.0, 1.0]])
    found = complement_entropy(logits, torch.tensor([0])).item()
    assert found == pytest.approx(-math.log(4) / 5, rel=1e-6)


@given(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=6), st.integers(0, 2))
def test_bounds(row: list[float], target: int) -> None:
    found = complement_entropy(torch.tensor([row], dtype=torch.float64), torch.tensor([target])).item()
    assert -math.log(len(row) - 1) / len(row) * (1 + 1e-12) <= found <= 0


@given(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=6), st.integers(0, 2))
def test_the_gradient_sums_to_zero_over_the_wrong_classes(row: list[float], target: int) -> None:
    logits = torch.tensor([row], dtype=torch.float64, requires_grad=True)
    complement_entropy(logits, torch.tensor([target])).backward()
    assert logits.grad[0, target] == 0
    assert abs(logits.grad.sum().item()) <= 1e-13


def test_second_derivatives() -> None:
    # Ties, at the top too, where the largest logit is two.
    logits = torch.tensor([[0.3, 0.7, 0.7, 0.1], [2.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    call = lambda x: complement_entropy(x, torch.tensor([0, 0]))  # noqa: E731
    assert torch.autograd.gradgradcheck(call, logits.requires_grad_())
