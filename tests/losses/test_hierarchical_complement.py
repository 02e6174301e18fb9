from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from criterium.losses.complement import complement_entropy
from criterium.losses.hierarchical_complement import hierarchical_complement_entropy
from goldens import Case, assert_stored, cases, value_and_gradient

GOLDENS = cases("hcot")
LEVELS = ("both", "inner", "outer")


def negative_entropy(logits: Tensor) -> Tensor:
    """Return Σ P log P of the softmax of one row; 0 of no logits."""
    log_p = logits.log_softmax(dim=0)
    return (log_p.exp() * log_p).sum()


def paper(logits: Tensor, target: int, groups: Tensor, level: str) -> Tensor:
    """Return the loss of one row as the formula says, class by class."""
    own = groups == groups[target]
    others = own.clone()
    others[target] = False
    inner = negative_entropy(logits[others]) / own.sum()
    outer = negative_entropy(logits[~own]) / len(logits)
    return (level != "outer") * inner + (level != "inner") * outer


def _with_gradient(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    arrays = {name: torch.from_numpy(values) for name, values in case.arrays.items() if values.ndim}
    labels, groups = arrays["labels"].long(), arrays["fine_to_coarse"]
    level = {"sum": "both"}.get(case.params["kind"], case.params["kind"])
    return value_and_gradient(
        lambda x: hierarchical_complement_entropy(x, labels, groups=groups, level=level),
        arrays["logits"].to(dtype),
    )


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


@pytest.mark.parametrize("level", LEVELS)
def test_groups_of_any_size(level: str) -> None:
    """Group 7 has one class, group 1 two, group 4 three; their numbers say nothing."""
    groups = torch.tensor([4, 1, 7, 4, 1, 4])
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double() * 3
    found = hierarchical_complement_entropy(
        logits, torch.arange(6), groups=groups, level=level, reduction="none"
    )
    expected = torch.stack([paper(logits[y], y, groups, level) for y in range(6)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    if level == "inner":
        assert found[[1, 2, 4]].tolist() == [0.0, 0.0, 0.0]
        assert (found[[0, 3, 5]] < 0).all()


def test_a_group_of_all_classes_is_the_complement_entropy() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target, one, each = torch.tensor([0, 1, 2, 4]), torch.full((5,), 9), torch.arange(5)
    for groups, whole, nothing in ((one, "inner", "outer"), (each, "outer", "inner")):
        options = {"groups": groups, "reduction": "none"}
        found = hierarchical_complement_entropy(logits, target, level=whole, **options)
        torch.testing.assert_close(found, complement_entropy(logits, target, reduction="none"))
        empty = hierarchical_complement_entropy(logits, target, level=nothing, **options)
        assert empty.tolist() == [0.0] * 4
        (gradient,) = torch.autograd.grad(empty.sum(), logits)
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("own", "others"), [(0.0, 1e4), (1e4, 0.0), (-1e8, 0.0), (0.0, 0.0)])
def test_far_groups_do_not_hide_each_other(own: float, others: float, dtype: torch.dtype) -> None:
    inside, outside = own + torch.tensor([0.0, 0.0]), others + torch.tensor([0.0, 8.0, 8.0])
    logits = torch.cat([torch.tensor([3e4]), inside, outside]).to(dtype).unsqueeze(0).requires_grad_()
    groups = torch.tensor([1, 1, 1, 0, 0, 0])
    loss = hierarchical_complement_entropy(logits, torch.tensor([0]), groups=groups)
    loss.backward()
    # Outside: weights 1, e^8, e^8; inside: two alike.
    w = math.exp(-8)
    p = torch.tensor([w, 1, 1], dtype=torch.float64) / (2 + w)
    outer = (p * p.log()).sum()
    torch.testing.assert_close(
        loss.detach().double(), -math.log(2) / 3 + outer / 6, rtol=1e-6, atol=0, check_dtype=False
    )
    slope = torch.cat([torch.zeros(3).double(), p * (p.log() - outer) / 6])
    torch.testing.assert_close(logits.grad[0].double(), slope, rtol=2e-6, atol=1e-9)


def test_a_deeper_tree_is_the_sum_of_its_levels() -> None:
    tree = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 3]])
    logits, target = torch.randn(3, 6, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 3, 5])
    for level in LEVELS:
        parts = [hierarchical_complement_entropy(logits, target, groups=row, level=level) for row in tree]
        found = hierarchical_complement_entropy(logits, target, groups=tree, level=level)
        torch.testing.assert_close(found, sum(parts))


def test_second_derivatives() -> None:
    tree = torch.tensor([[0, 0, 0, 0, 1], [0, 1, 1, 1, 2]])
    logits = torch.tensor([[0.3, -1.0, 0.7, 0.1, 2.0]], dtype=torch.float64, requires_grad=True)
    call = lambda x: hierarchical_complement_entropy(x, torch.tensor([1]), groups=tree)  # noqa: E731
    assert torch.autograd.gradgradcheck(call, logits)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[float], list[int], int]:
    classes = draw(st.integers(2, 7))
    row = draw(st.lists(st.floats(-40, 40, width=32), min_size=classes, max_size=classes))
    groups = draw(st.lists(st.integers(-3, 3), min_size=classes, max_size=classes))
    return row, groups, draw(st.integers(0, classes - 1))


@given(trees())
def test_bounds_and_gradients_that_sum_to_zero(case: tuple[list[float], list[int], int]) -> None:
    row, groups, target = case
    own = torch.tensor(groups) == groups[target]
    inside, outside, size = int(own.sum()) - 1, int((~own).sum()), int(own.sum())
    for level, least in (
        ("inner", math.log(max(inside, 1)) / size),
        ("outer", math.log(max(outside, 1)) / len(row)),
    ):
        logits = torch.tensor([row], dtype=torch.float64, requires_grad=True)
        loss = hierarchical_complement_entropy(
            logits, torch.tensor([target]), groups=torch.tensor(groups), level=level
        )
        loss.backward()
        assert -least * (1 + 1e-12) <= loss.item() <= 0
        # The classes of a part only share out their probability; the others, the true one too, feel nothing.
        assert abs(logits.grad.sum().item()) <= 1e-13
        assert logits.grad[0, target] == 0
        assert not logits.grad[0, own if level == "outer" else ~own].any()


@pytest.mark.parametrize(
    ("groups", "level", "words"),
    [
        (torch.zeros(4).long(), "both", r"groups: got shape \(4,\), expected \(3,\) or \(levels, 3\)"),
        (torch.zeros(2, 2, 3).long(), "both", r"groups: got shape \(2, 2, 3\), expected \(C,\) or"),
        (torch.zeros(0, 3).long(), "both", r"groups: got shape \(0, 3\), expected"),
        (torch.zeros(3), "both", "groups: got dtype torch.float32, expected whole numbers"),
        (torch.zeros(3).bool(), "both", "groups: got dtype torch.bool, expected whole numbers"),
        (torch.zeros(3).long(), "iner", "level: got 'iner', expected one of .*did you mean 'inner'"),
    ],
)
def test_bad_groups(groups: Tensor, level: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hierarchical_complement_entropy(torch.zeros(1, 3), torch.tensor([0]), groups=groups, level=level)
