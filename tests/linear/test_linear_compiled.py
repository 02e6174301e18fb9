"""The fused losses are single nodes of a compiled graph, with the values and gradients of eager calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import criterium
from criterium import linear
from criterium.linear import candidates, scan, standardize
from criterium.linear.accumulators import ACCUMULATORS

N, D, C = 7, 5, 23
COUNTS = torch.arange(1, C + 1)
# One for each accumulator, and those that call other operators.
CRITERIA = [
    criterium.FocalLoss(),
    criterium.LDAMLoss(class_counts=COUNTS, scale=3.0),
    criterium.MaxSupLoss(),
    criterium.GuidedComplementEntropyLoss(),
    criterium.HierarchicalComplementEntropyLoss(groups=COUNTS % 4),
    criterium.MulticlassHingeLoss(),
    criterium.ZeroOneRelaxationLoss(),
    criterium.ExactLoss(standardize=True, margin=0.5),
    criterium.ExactLoss(k=2, log=True),
    criterium.TopKCrossEntropyLoss(p_k=(0.5, 0.5), candidates=6),
    criterium.NoisedTopKHingeLoss(k=2),
]


@pytest.fixture(autouse=True)
def _blocks_of_four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(scan, "block_size", lambda features: 4)
    yield


def results(
    loss: Callable[[Tensor, Tensor], Tensor], features: Tensor, target: Tensor, head: nn.Module
) -> list[Tensor]:
    torch.manual_seed(4)
    value = loss(features, target)
    return [value, *torch.autograd.grad(value, [features, *head.parameters()])]


# PyTorch hides these warnings of its own, which pytest makes errors, too late.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute", "ignore:.*should not be instantiated:DeprecationWarning"
)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda each: type(each).__name__)
def test_one_graph(criterion: nn.Module) -> None:
    torch.manual_seed(0)
    criterion.ignore_index = 1
    head = nn.Linear(D, C)
    features, target = torch.randn(N, D, requires_grad=True), torch.arange(N)
    fused = linear.LinearCriterion(head, criterion)
    torch._dynamo.reset()
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(
        results(compiled, features, target, head), results(fused, features, target, head), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_temperature_that_changes_is_followed() -> None:
    torch.manual_seed(0)
    features, target, weight = torch.randn(N, D), torch.arange(N), torch.randn(C, D)
    criterion = criterium.ExactLoss()
    head = nn.Linear(D, C, bias=False)
    head.weight = nn.Parameter(weight)
    torch._dynamo.reset()
    compiled = torch.compile(linear.LinearCriterion(head, criterion), fullgraph=True, backend="aot_eager")
    for temperature in (3.0, 2.0, 1.5, 1.0):
        criterion.temperature = temperature
        expected = criterion(head(features), target)
        torch.testing.assert_close(compiled(features, target), expected, rtol=1e-6, atol=0)


def test_a_second_derivative_is_refused() -> None:
    features = torch.randn(N, D, requires_grad=True)
    loss = linear.linear_loss(criterium.FocalLoss(), features, torch.randn(C, D), torch.arange(N))
    (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(gradient.sum(), features)


WHOLE = (False, False, "", 0, C)
BASICS = ("test_schema", "test_autograd_registration", "test_faketensor")


def operands() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(N, D, requires_grad=True), torch.randn(C, D, requires_grad=True), torch.randn(C)


@pytest.mark.parametrize("name", sorted(ACCUMULATORS))
def test_operators_are_what_they_say(name: str) -> None:
    features, weight, bias = operands()
    columns = torch.arange(N).unsqueeze(1) + (torch.arange(3) if name == "Rivals" else 0)
    numbers = {
        "Softmax": [1.0],
        "Spread": [],
        "Groups": [1.0, 1.0],
        "Hinge": [1.0],
        "Win": [float(C), 1.0, -1.0],
        "Rivals": [float(C), 1.0, -1.0, 2.0, 0.0],
    }.get(name, [1.0, 0.5, 0.5])
    labels = (torch.arange(C) % 3).unsqueeze(0) if name == "Groups" else None
    arguments: tuple[Any, ...] = (features, weight, bias, None, columns, labels, name, numbers, *WHOLE)
    torch.library.opcheck(scan._forward, arguments, test_utils=BASICS)


def test_the_other_operators_are_what_they_say() -> None:
    features, weight, bias = operands()
    index, seed = torch.arange(N), torch.tensor(3)
    plain = (features.detach(), weight.detach(), bias, None)
    torch.library.opcheck(candidates._find_candidates, (*plain, index, 4, *WHOLE), test_utils=BASICS)
    for noise in (None, torch.randn(N, C, 3)):
        arguments = (*plain, seed, noise, 2, 0.5, 3, *WHOLE)
        torch.library.opcheck(candidates._noised_kth_class, arguments, test_utils=BASICS)
    torch.library.opcheck(standardize._gram, (weight, bias, "", 4), test_utils=BASICS)
