"""LDAM with its class weights, and logit adjustment: numbers, limits and bounds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from criterium.losses.ldam import LDAMLoss, effective_number_weight, ldam_loss
from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss, logit_adjusted_cross_entropy
from goldens import Case, assert_stored, cases, value_and_gradient

COUNTS = torch.tensor([1600, 100, 100, 16, 1])
LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
TARGET = torch.tensor([0, 1, 2, 3, 4, 0, 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", cases("ldam"), ids=lambda c: c.id)
def test_authors_numbers(case: Case, dtype: torch.dtype) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    options = {"class_counts": stored["class_counts"], "weight": stored.get("class_weights")}
    options |= {"max_margin": case.params["max_m"], "scale": case.params["s"]}
    loss, gradient = value_and_gradient(
        lambda x: ldam_loss(x, stored["labels"].long(), **options), stored["logits"].to(dtype)
    )
    assert loss.dtype == dtype
    assert_stored(case, "loss", loss)
    # Scaled logits of some hundreds are known to 2^-15 in float32.
    assert_stored(case, "grad_logits", gradient, share=1e-4)


@pytest.mark.parametrize("case", [c for c in cases("ldam") if c.params["class_weights"]], ids=lambda c: c.id)
def test_class_weights_are_the_authors(case: Case) -> None:
    found = effective_number_weight(torch.from_numpy(case.arrays["class_counts"]).double(), beta=0.9999)
    np.testing.assert_allclose(found, case.arrays["class_weights"], rtol=1e-9)


def test_class_weights_in_float32_keep_their_digits() -> None:
    counts = torch.tensor([1, 2, 50, 10**4, 10**7])
    for beta in (0.9, 0.9999, 1 - 1e-9):
        wide = effective_number_weight(counts.double(), beta=beta)
        narrow = effective_number_weight(counts, beta=beta)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-6, atol=0)


def test_class_weights_go_from_equal_to_the_inverse_of_the_counts() -> None:
    assert effective_number_weight(COUNTS, beta=0.0).tolist() == [1.0] * 5
    inverse = 1 / COUNTS.double()
    found = effective_number_weight(COUNTS.double(), beta=1 - 1e-12)
    torch.testing.assert_close(found, 5 * inverse / inverse.sum(), rtol=1e-6, atol=0)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.floats(0, 0.99999))
def test_class_weights_sum_to_the_classes_and_fall_with_the_counts(counts: list[int], beta: float) -> None:
    weights = effective_number_weight(torch.tensor(sorted(counts), dtype=torch.float64), beta=beta)
    assert weights.sum().item() == pytest.approx(len(counts), rel=1e-12)
    assert (weights.diff() <= 1e-12).all()


def test_ldam_margins_go_with_the_fourth_root_of_the_counts() -> None:
    # With two classes the loss is softplus(a (s_j - s_y + m_y)), which gives the margin away.
    for first, margin in ((16, 0.25), (81, 0.5 / 3), (1, 0.5)):
        loss = ldam_loss(
            torch.zeros(1, 2, dtype=torch.float64),
            torch.tensor([0]),
            class_counts=torch.tensor([first, 1]),
            max_margin=0.5,
            scale=3.0,
        )
        assert torch.log(torch.expm1(loss)).item() / 3 == pytest.approx(margin, rel=1e-12)


def test_without_margin_ldam_is_cross_entropy_of_scaled_logits() -> None:
    found = ldam_loss(LOGITS, TARGET, class_counts=COUNTS, max_margin=0.0, scale=7.0)
    torch.testing.assert_close(found, F.cross_entropy(7 * LOGITS, TARGET), rtol=1e-12, atol=0)


def test_equal_counts() -> None:
    equal = torch.full((5,), 9)
    shifted = LOGITS - 0.5 * F.one_hot(TARGET, 5)
    found = ldam_loss(LOGITS, TARGET, class_counts=equal, max_margin=0.5, scale=4.0)
    torch.testing.assert_close(found, F.cross_entropy(4 * shifted, TARGET), rtol=1e-12, atol=0)
    found = logit_adjusted_cross_entropy(LOGITS, TARGET, class_counts=equal, tau=3.0)
    torch.testing.assert_close(found, F.cross_entropy(LOGITS, TARGET), rtol=1e-12, atol=0)


@pytest.mark.parametrize("target", [TARGET, LOGITS.softmax(1)], ids=["index", "soft"])
def test_logit_adjustment_adds_the_log_frequencies(target: Tensor) -> None:
    frequency = COUNTS.double() / COUNTS.sum()
    found = logit_adjusted_cross_entropy(LOGITS, target, class_counts=COUNTS, tau=0.7)
    expected = F.cross_entropy(LOGITS + 0.7 * frequency.log(), target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    found = logit_adjusted_cross_entropy(LOGITS, target, class_counts=COUNTS, tau=0.0)
    torch.testing.assert_close(found, F.cross_entropy(LOGITS, target), rtol=1e-12, atol=0)


def test_constant_logits_fit_the_class_frequencies_under_logit_adjustment() -> None:
    """The maximum-likelihood constant is 0: the adjustment has said all that the counts say."""
    counts = torch.tensor([6, 3, 1])
    target = torch.arange(3).repeat_interleave(counts)
    logits = torch.zeros(10, 3, dtype=torch.float64, requires_grad=True)
    logit_adjusted_cross_entropy(logits, target, class_counts=counts).backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


@given(
    st.lists(st.floats(-1, 1), min_size=5, max_size=5),
    st.floats(0.01, 1),
    st.integers(0, 4),
    st.floats(0, 2),
    st.floats(0.1, 40),
)
def test_ldam_bounds(row: list[float], step: float, true: int, margin: float, scale: float) -> None:
    logits, target = torch.tensor([row, row], dtype=torch.float64), torch.tensor([true, true])
    logits[1, true] += step
    options = {"class_counts": COUNTS, "scale": scale, "reduction": "none"}
    more, less = ldam_loss(logits, target, max_margin=margin, **options).tolist()
    assert less <= more + 1e-12
    without = ldam_loss(logits, target, max_margin=0.0, **options)[0].item()
    # A margin m moves the true logit by a m, and the loss by at most that.
    assert without - 1e-12 <= more <= without + scale * margin + 1e-9


@pytest.mark.parametrize("function", [ldam_loss, logit_adjusted_cross_entropy])
@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (torch.tensor([1, 2, 0, 4, 5]), r"got values from 0 to 5, .*above 0 \(count a class without"),
        (torch.tensor([1.0, 2.0, float("nan"), 4.0, 5.0]), "got values from nan"),
        (torch.tensor([1.0, 2.0, 3.0, 4.0, float("inf")]), "got values from 1 to inf"),
        (torch.ones(1, 5), r"got shape \(1, 5\), expected \(C,\)"),
        (torch.ones(4), r"got shape \(4,\), expected \(5,\)"),
        (torch.ones(0), r"got shape \(0,\), expected \(C,\)"),
    ],
)
def test_bad_counts(function: object, counts: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=f"class_counts: {words}"):
        function(LOGITS, TARGET, class_counts=counts)
    if counts.shape == (4,):
        return  # the classes are not known before there are logits
    for module in (LDAMLoss, LogitAdjustedCrossEntropyLoss):
        with pytest.raises(ValueError, match=f"class_counts: {words}"):
            module(class_counts=counts)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LDAMLoss(class_counts=COUNTS, max_margin=-1.0), "max_margin: got -1.0"),
        (lambda: LDAMLoss(class_counts=COUNTS, scale=0.0), "scale: got 0.0"),
        (lambda: LogitAdjustedCrossEntropyLoss(class_counts=COUNTS, tau=-1.0), "tau: got -1.0"),
        (lambda: effective_number_weight(COUNTS, beta=1.0), "beta: got 1.0, .* from 0 to below 1"),
        (lambda: effective_number_weight(COUNTS * 0), "class_counts: got values from 0 to 0"),
    ],
)
def test_bad_options(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_counts_survive_a_change_of_precision() -> None:
    """Whole numbers are not cast with the module, so no count becomes infinite in half precision."""
    criterion = LDAMLoss(class_counts=torch.tensor([10**6, 100, 100, 100, 1]))
    half = copy.deepcopy(criterion).half()
    assert half.class_counts.tolist() == criterion.class_counts.tolist()
    assert torch.equal(half(LOGITS, TARGET), criterion(LOGITS, TARGET))
