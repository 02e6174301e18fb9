"""Logits that are masked, far from 0 or not finite: every loss does as cross-entropy does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conformance import (
    CLASSES,
    LOSSES,
    NOISE,
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
from references import REFERENCES
from torch import Tensor

from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.maxsup import maxsup_loss

INF, NAN = math.inf, math.nan
MEANS = (label_smoothing_cross_entropy, maxsup_loss)
"""They hold the mean of the logits: infinite of a masked class, as PyTorch's label smoothing."""
UNMASKED = torch.tensor([0, 1, 2, 3, 0, 1])
"""Targets that leave out the last class."""
DIGITS = {torch.float32: 2e-5, torch.float64: 1e-9, torch.bfloat16: 2e-5}


def masked(dtype: torch.dtype = torch.float64) -> Tensor:
    logits = some_logits(dtype=dtype)
    logits[:, -1] = -INF
    return logits


def by_formula(loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    """The losses of rows by `references`."""
    rows = logits.double().numpy().copy()
    options = dict(loss.options)
    if options.get("standardize"):
        known = np.isfinite(rows)
        rows[known] = (rows[known] - rows[known].mean()) / rows[known].std(ddof=1)
    if loss.noisy:
        options["noise"] = NOISE.double().numpy()
    if options.get("p_k", 0) == 0 and "p_k" in loss.function.__kwdefaults__:
        options["p_k"] = (0.5, 0.0, 0.0, 0.5)  # of five classes
    reference = REFERENCES[loss.function.__name__]
    found = [reference(row, int(y), **options) for row, y in zip(rows, target, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def tolerance(loss: Loss, dtype: torch.dtype) -> float:
    if loss.options.get("relaxation") == "sinkhorn":
        return 1e-3  # of 50 iterations
    return max(DIGITS[dtype], 1e-6 if loss.options.get("samples", 5) is None else 1e-8)


def finite(value: Tensor) -> bool:
    return bool(value.isfinite().all())


# Values


@every_type
@every_loss
def test_values_are_those_of_the_formula(loss: Loss, dtype: torch.dtype) -> None:
    logits = some_logits(dtype=dtype)
    expected = by_formula(loss, logits, some_target())
    close(loss(logits, some_target(), reduction="none").double(), expected, tolerance(loss, dtype))


# Masked classes


@every_type
@every_loss
def test_a_masked_class_has_no_chance(loss: Loss, dtype: torch.dtype) -> None:
    for reduction in ("none", "mean"):
        found, gradient = with_gradient(lambda x, r=reduction: loss(x, UNMASKED, reduction=r), masked(dtype))
        assert finite(gradient)
        if loss.function in MEANS:
            assert (found == INF).all()
            continue
        assert gradient[:, -1].abs().max() < 1e-9
        expected = by_formula(loss, masked(dtype), UNMASKED)
        expected = expected if reduction == "none" else expected.mean()
        close(found.double(), expected, tolerance(loss, dtype))


@every_fused_loss
def test_a_class_with_a_bias_of_minus_infinity_has_no_chance(loss: Loss) -> None:
    bias = torch.zeros(CLASSES).index_fill(0, torch.tensor([CLASSES - 1]), -INF)
    found, gradient = with_gradient(
        lambda x: loss.fused(x, UNMASKED, bias, reduction="none"), some_logits(dtype=torch.float32)
    )
    assert finite(gradient)
    expected = loss(masked(), UNMASKED, reduction="none")
    if loss.function in MEANS:
        assert (found == INF).all()
    elif loss.function.__name__ != "topk_cross_entropy":  # of fewer candidates
        close(found.double(), expected, 5e-5)


@every_loss
def test_a_masked_class_without_probability_counts_for_nothing(loss: Loss) -> None:
    if loss.function in MEANS:
        return
    target = some_distribution()
    target[:, -1] = 0
    found, gradient = with_gradient(lambda x: loss(x, target), masked())
    assert finite(found)
    assert finite(gradient)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.least_classes <= 3], ids=str)
def test_a_true_class_that_is_masked_has_the_worst_loss(loss: Loss) -> None:
    logits = some_logits()
    logits[:, 1] = -INF
    found = loss(logits, torch.ones(ROWS).long(), reduction="none")
    assert not found.isnan().any()


# NaN and infinity

PLACES = {
    "own": lambda row, y: row.scatter(0, y, 1.0),
    "rival": lambda row, y: row.scatter(0, (y + 1) % CLASSES, 1.0),
    "row": lambda row, y: torch.ones_like(row),
}


def spoilt(value: float, place: str, logits: Tensor, target: Tensor) -> Tensor:
    """Logits whose third row holds a value."""
    where = PLACES[place](torch.zeros(CLASSES), target[2:3]).bool()
    logits = logits.clone()
    logits[2, where] = value
    return logits


every_spoilt_row = pytest.mark.parametrize("place", PLACES)
every_value = pytest.mark.parametrize("value", [NAN, INF])


@every_value
@every_spoilt_row
@every_type
@every_loss
def test_a_row_that_counts_and_has_no_loss_is_nan(
    loss: Loss, dtype: torch.dtype, place: str, value: float
) -> None:
    target = some_target()
    logits = spoilt(value, place, some_logits(dtype=dtype), target)
    found, gradient = with_gradient(lambda x: loss(x, target, reduction="none"), logits)
    assert found[2].isnan()
    assert gradient[2].isnan().any()  # so that a scaler of gradients sees it
    assert loss(logits, target).isnan()
    assert with_gradient(lambda x: loss(x, target), logits)[0].isnan()
    if not loss.couples_rows:
        others = torch.arange(ROWS) != 2
        close(found[others], loss(some_logits(dtype=dtype), target, reduction="none")[others], 1e-6)
        assert finite(gradient[others])


@every_loss
def test_of_a_row_that_is_masked_as_a_whole_there_is_no_loss(loss: Loss) -> None:
    logits = some_logits()
    logits[2] = -INF
    assert loss(logits, some_target(), reduction="none")[2].isnan()


@every_value
@every_spoilt_row
@every_type
@every_loss
def test_a_row_that_does_not_count_cannot_matter(
    loss: Loss, dtype: torch.dtype, place: str, value: float
) -> None:
    ignored = some_target().index_fill(0, torch.tensor([2]), -100)
    # In the other case the third row alone has class 4, whose weight is 0.
    alone, weight = UNMASKED.index_fill(0, torch.tensor([2]), 4), some_weight().roll(1)
    for target, options in ((ignored, {}), (ignored, {"weight": some_weight()}), (alone, {"weight": weight})):
        real = alone if target is alone else some_target()
        logits = spoilt(value, place, some_logits(dtype=dtype), real)

        def call(x: Tensor, t: Tensor = target, o: dict[str, Tensor] = options) -> Tensor:
            return loss(x, t, **o)

        found, gradient = with_gradient(call, logits)
        expected, its_gradient = with_gradient(call, some_logits(dtype=dtype))
        assert torch.equal(found, expected)
        assert torch.equal(gradient, its_gradient)
        assert not gradient[2].any()


@every_value
@every_fused_loss
def test_fused_rows_count_or_do_not(loss: Loss, value: float) -> None:
    features = some_logits(dtype=torch.float32)
    features[2, 0] = value
    found, gradient = with_gradient(lambda x: loss.fused(x, some_target(), reduction="none"), features)
    assert found[2].isnan()
    assert gradient[2].isnan().any()
    alone, weight = UNMASKED.index_fill(0, torch.tensor([2]), 4), some_weight().roll(1).float()
    ignored = some_target().index_fill(0, torch.tensor([2]), -100)
    for target, options in ((ignored, {}), (alone, {"weight": weight})):

        def call(x: Tensor, t: Tensor = target, o: dict[str, Tensor] = options) -> Tensor:
            return loss.fused(x, t, **o)

        found, gradient = with_gradient(call, features)
        expected, its_gradient = with_gradient(call, some_logits(dtype=torch.float32))
        close(found, expected, 1e-5)
        close(gradient, its_gradient, 1e-5)


# Digits


def apart(offset: float, dtype: torch.dtype) -> Tensor:
    """Logits without ties, whose differences a type keeps at an offset."""
    generator = torch.Generator().manual_seed(3)
    table = torch.stack([torch.randperm(61, generator=generator)[:CLASSES] for _ in range(ROWS)])
    step = 1 / 16 if abs(offset) < 1e7 else torch.finfo(dtype).eps * abs(offset)
    return table.to(dtype) * step + offset


@pytest.mark.parametrize("offset", [1e6, -1e6])
@every_loss
def test_logits_far_from_zero_keep_their_digits(loss: Loss, offset: float) -> None:
    for dtype in (torch.float32, torch.float64):
        logits = apart(offset, dtype)
        found, gradient = with_gradient(lambda x: loss(x, some_target(), reduction="none"), logits)
        expected, its_gradient = with_gradient(
            lambda x: loss(x, some_target(), reduction="none"), logits.double() - offset
        )
        close(found.double(), expected, DIGITS[dtype])
        close(gradient.double(), its_gradient, DIGITS[dtype])


@every_loss
def test_bfloat16_logits_far_from_zero_keep_the_digits_that_they_have(loss: Loss) -> None:
    logits = (some_logits() + 1e3).bfloat16()
    found = loss(logits, some_target(), reduction="none")
    close(found.double(), loss(logits.double() - 1e3, some_target(), reduction="none"), 2e-5)


@every_fused_loss
def test_fused_logits_far_from_zero_keep_their_digits(loss: Loss) -> None:
    logits = apart(0.0, torch.float32)
    bias = torch.full((CLASSES,), 1e6)
    found, gradient = with_gradient(lambda x: loss.fused(x, some_target(), bias, reduction="none"), logits)
    expected, its_gradient = with_gradient(lambda x: loss.fused(x, some_target(), reduction="none"), logits)
    close(found, expected, 2e-5)
    close(gradient, its_gradient, 2e-5)


@pytest.mark.parametrize("size", [3e38, -3e38])
@every_loss
def test_the_largest_numbers_do_not_overflow(loss: Loss, size: float) -> None:
    logits = torch.full((ROWS, CLASSES), size)
    found, gradient = with_gradient(lambda x: loss(x, some_target(), reduction="none"), logits)
    close(found, loss(torch.zeros(ROWS, CLASSES), some_target(), reduction="none"), 1e-5)
    assert finite(gradient)


@every_type
@pytest.mark.parametrize(
    "call", [lambda x, t, o: o(x, t), lambda x, t, o: o.fused(x, t)], ids=["plain", "fused"]
)
def test_standardized_constant_logits_have_a_gradient_of_the_order_of_one(
    dtype: torch.dtype, call: Callable[[Tensor, Tensor, Loss], Tensor]
) -> None:
    loss = next(loss for loss in LOSSES if loss.options.get("standardize"))
    for value in (0.1, -4.595, 0.3, 0.0, 1e6):
        logits = torch.full((ROWS, CLASSES), value, dtype=dtype)
        found, gradient = with_gradient(lambda x: call(x, some_target(), loss), logits)
        assert found.item() == pytest.approx(0.8, abs=1e-4)
        assert gradient.abs().max() < 10
    spread = 1e-14 * some_logits(dtype=torch.float32)
    assert not with_gradient(lambda x: loss(x, some_target()), spread)[1].isnan().any()
