"""What PyTorch's cross-entropy takes as target, weight and ignored index: every loss, plain and fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conformance import (
    CLASSES,
    ROWS,
    Loss,
    close,
    every_fused_loss,
    every_loss,
    every_type,
    some_distribution,
    some_logits,
    some_target,
    some_weight,
    with_gradient,
)
from torch import Tensor

from criterium import LDAMLoss, LogitAdjustedCrossEntropyLoss, TopKCrossEntropyLoss, functional

Call = Callable[..., Tensor]


def forms(loss: Loss) -> list[Call]:
    return [loss, loss.fused] if loss.is_fused else [loss]


# Class probabilities


@every_type
@every_loss
def test_probabilities_below_zero_count_linearly(loss: Loss, dtype: torch.dtype) -> None:
    """As negative label smoothing and the backward correction of noisy labels have them."""
    target = 1.4 * torch.nn.functional.one_hot(some_target(), CLASSES) - 0.4 / CLASSES
    logits = some_logits(dtype=dtype)
    for call in forms(loss) if dtype == torch.float32 and not loss.noisy else [loss]:
        found = call(logits, target.to(dtype), reduction="none")
        each = [call(logits, torch.full((ROWS,), k), reduction="none") for k in range(CLASSES)]
        expected = (target.to(dtype).to(found.dtype) * torch.stack(each, dim=1)).sum(1)
        close(found, expected, 2e-5 if dtype != torch.float64 else 1e-9)


@every_loss
def test_a_probability_that_is_nan_makes_its_row_nan(loss: Loss) -> None:
    target = some_distribution()
    target[1, 2] = math.nan
    for call in forms(loss):
        if call == loss.fused and loss.noisy:
            continue
        found = call(some_logits(), target, reduction="none")
        assert found[1].isnan()
        assert found[torch.arange(ROWS) != 1].isfinite().all()


# Class indices


@every_loss
def test_no_index_may_be_ignored(loss: Loss) -> None:
    for call in forms(loss):
        close(call(some_logits(), some_target(), ignore_index=None), call(some_logits(), some_target()))
        with pytest.raises(ValueError, match=r"target: got class index -100, expected 0 to 4$"):
            call(some_logits(), torch.full((ROWS,), -100), ignore_index=None)


def unread(call: Call, target: Tensor) -> Tensor:
    """The loss where indices cannot be looked at before: one row at a time, by vmap."""
    return torch.func.vmap(lambda x, y: call(x, y, ignore_index=255))(some_logits(), target)


@pytest.mark.filterwarnings("ignore:.*batching rule:UserWarning")
@pytest.mark.parametrize("wrong", [-100, -1, CLASSES])
@every_loss
def test_an_index_that_is_no_class_is_an_error_or_nan(loss: Loss, wrong: int) -> None:
    target = some_target().index_fill(0, torch.tensor([1]), wrong)
    for call in forms(loss):
        with pytest.raises(ValueError, match=rf"target: got class index {wrong}, expected 0 to 4"):
            call(some_logits(), target, ignore_index=255)
    try:
        found = unread(loss, target)
    except (RuntimeError, IndexError):
        return
    assert found[1].isnan()


# Weights


@every_loss
def test_weight_is_the_first_argument_after_those_of_the_loss(loss: Loss) -> None:
    expected = loss(some_logits(), some_target(), weight=some_weight())
    close(loss.function(some_logits(), some_target(), some_weight(), **loss.settings), expected)
    close(loss.module(some_weight(), **loss.settings)(some_logits(), some_target()), expected)


@every_loss
def test_weights_may_be_a_list(loss: Loss) -> None:
    weight = some_weight().float()
    expected = loss(some_logits(), some_target(), weight=weight)
    close(loss(some_logits(), some_target(), weight=weight.tolist()), expected)
    assert torch.equal(loss.criterion(weight=weight.tolist()).weight, weight)


@every_fused_loss
def test_fused_weights_of_zero_are_as_no_row(loss: Loss) -> None:
    call = lambda x: loss.fused(x, some_target(), weight=torch.zeros(CLASSES).double())  # noqa: E731
    found, gradient = with_gradient(call, some_logits())
    assert found == 0
    assert not gradient.any()


# Counts of classes

COUNTED: list[tuple[Any, Call]] = [
    (LDAMLoss, functional.ldam_loss),
    (LogitAdjustedCrossEntropyLoss, functional.logit_adjusted_cross_entropy),
]


@pytest.mark.parametrize(("module", "function"), COUNTED)
def test_counts_are_exact_whatever_they_come_as(module: Any, function: Call) -> None:
    counts = [100_000, 70_001, 300, 20, 7]
    expected = function(some_logits(), some_target(), class_counts=torch.tensor(counts))
    for given in (counts, tuple(counts), torch.tensor(counts).double(), torch.tensor(counts).float()):
        close(function(some_logits(), some_target(), class_counts=given), expected)
        criterion = module(class_counts=given)
        close(criterion(some_logits(), some_target()), expected)
        # Half precision ends at 65,504.
        close(criterion.half()(some_logits(), some_target()), expected)
        assert criterion.bfloat16().class_counts.double().tolist() == counts


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("relaxation", ["odd_even", "splitter", "softsort"])
def test_the_default_of_topk_is_for_any_number_of_classes(classes: int, relaxation: str) -> None:
    target = torch.arange(4) % classes
    found, gradient = with_gradient(
        lambda x: TopKCrossEntropyLoss(relaxation=relaxation)(x, target), some_logits(4, classes)
    )
    assert found.isfinite()
    assert gradient.isfinite().all()
