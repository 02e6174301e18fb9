"""Focal, Poly-1, hinge, relaxed zero-one, MaxSup and label smoothing: numbers, limits and bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from criterium.losses.focal import FocalLoss, focal_loss
from criterium.losses.hinge import MulticlassHingeLoss, multiclass_hinge
from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss, label_smoothing_cross_entropy
from criterium.losses.maxsup import MaxSupLoss, maxsup_loss
from criterium.losses.poly1 import Poly1CrossEntropyLoss, poly1_cross_entropy
from criterium.losses.zero_one import ZeroOneRelaxationLoss, zero_one_relaxation
from goldens import Case, assert_stored, cases, value_and_gradient

LOGITS = 3 * torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
TARGET = torch.tensor([0, 1, 2, 3, 4, 0, 1])
MIXED = torch.rand(7, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64).softmax(1)
KINDS = {"sigmoid": "sigmoid", "poly": "polynomial", "beta-bernoulli": "beta_bernoulli"}

Golden = tuple[Case, Callable[[Tensor, Tensor], Tensor]]


def _zero_one(case: Case) -> Golden:
    options = {
        "kind": KINDS[case.params["type"]],
        "temperature": case.params["temperature"] or 1.0,
        "reduction": case.params["reduction"],
    }
    if options["kind"] == "beta_bernoulli":
        options |= {"a": float(case.arrays["hidden_weight"]), "b": float(case.arrays["hidden_theta"])}
    return case, lambda logits, target: zero_one_relaxation(logits, target, **options)


GOLDENS: list[Golden] = [
    *((c, lambda x, y, c=c: focal_loss(x, y, gamma=c.params["gamma"])) for c in cases("focal")),
    *((c, lambda x, y, c=c: poly1_cross_entropy(x, y, epsilon=c.params["epsilon"])) for c in cases("poly1")),
    *((c, lambda x, y, c=c: multiclass_hinge(x, y, margin=c.params["margin"])) for c in cases("hinge")),
    *map(_zero_one, cases("relaxed01_sigmoid") + cases("relaxed01_poly") + cases("relaxed01_beta_bernoulli")),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "golden", [g for g in GOLDENS if not g[0].params.get("class_weights")], ids=lambda g: g[0].id
)
def test_authors_numbers(golden: Golden, dtype: torch.dtype) -> None:
    case, call = golden
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    loss, gradient = value_and_gradient(
        lambda x: call(x, stored["labels"].long()), stored["logits"].to(dtype), stored.get("grad_output")
    )
    assert loss.dtype == dtype
    assert_stored(case, "loss", loss, floor=1e-6)
    # The slope of a sigmoid close to 1 is known to the rounding of 1, however small it is.
    assert_stored(case, "grad_logits", gradient, floor=1e-7)


@pytest.mark.parametrize("case", [c for c in cases("focal") if c.params["class_weights"]], ids=lambda c: c.id)
def test_focal_weights_multiply_the_loss_where_the_authors_change_the_probability(case: Case) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    logits, target, gamma = stored["logits"].double(), stored["labels"].long(), case.params["gamma"]
    nll = F.cross_entropy(logits, target, reduction="none")
    weight = stored["class_weights"].double()[target]
    # What is stored: the focal loss of p_y^w, and a mean over rows.
    theirs = ((1 - torch.exp(-weight * nll)) ** gamma * weight * nll).mean()
    np.testing.assert_allclose(theirs, stored["loss"], rtol=1e-9, atol=1e-12)
    ours = (weight * (1 - torch.exp(-nll)) ** gamma * nll).sum() / weight.sum()
    found = focal_loss(logits, target, gamma=gamma, weight=stored["class_weights"])
    np.testing.assert_allclose(found, ours, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", cases("relaxed01_beta_bernoulli"), ids=lambda c: c.id)
def test_the_scalars_of_beta_bernoulli_can_be_learned(case: Case) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    a, b = (torch.nn.Parameter(stored[f"hidden_{name}"].clone()) for name in ("weight", "theta"))
    loss = zero_one_relaxation(
        stored["logits"].double(),
        stored["labels"].long(),
        kind="beta_bernoulli",
        temperature=case.params["temperature"] or 1.0,
        a=a,
        b=b,
        reduction=case.params["reduction"],
    )
    loss.backward(stored.get("grad_output", torch.ones_like(loss)).double())
    np.testing.assert_allclose(a.grad, stored["grad_hidden_weight"], rtol=1e-7, atol=1e-11)
    np.testing.assert_allclose(b.grad, stored["grad_hidden_theta"], rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("target", [TARGET, MIXED], ids=["index", "soft"])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: focal_loss(x, y, gamma=0.0),
        lambda x, y: poly1_cross_entropy(x, y, epsilon=0.0),
        lambda x, y: maxsup_loss(x, y, alpha=0.0),
        lambda x, y: label_smoothing_cross_entropy(x, y, smoothing=0.0),
    ],
    ids=["focal", "poly1", "maxsup", "label_smoothing"],
)
def test_at_zero_it_is_cross_entropy(call: Callable[[Tensor, Tensor], Tensor], target: Tensor) -> None:
    for found, expected in zip(
        value_and_gradient(lambda x: call(x, target), LOGITS),
        value_and_gradient(lambda x: F.cross_entropy(x, target), LOGITS),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("target", [TARGET, MIXED], ids=["index", "soft"])
def test_label_smoothing_is_that_of_torch(target: Tensor) -> None:
    found = label_smoothing_cross_entropy(LOGITS, target, smoothing=0.3, reduction="none")
    expected = F.cross_entropy(LOGITS, target, label_smoothing=0.3, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_label_smoothing_is_a_penalty_on_the_true_logit_and_maxsup_on_the_largest() -> None:
    nll = F.cross_entropy(LOGITS, TARGET, reduction="none")
    above = LOGITS.gather(1, TARGET.unsqueeze(1)).squeeze(1) - LOGITS.mean(1)
    smoothed = label_smoothing_cross_entropy(LOGITS, TARGET, smoothing=0.2, reduction="none")
    torch.testing.assert_close(smoothed, nll + 0.2 * above, rtol=1e-12, atol=0)
    above = LOGITS.amax(1) - LOGITS.mean(1)
    penalised = maxsup_loss(LOGITS, TARGET, alpha=0.2, reduction="none")
    torch.testing.assert_close(penalised, nll + 0.2 * above, rtol=1e-12, atol=0)
    right = LOGITS.argmax(1) == TARGET
    assert 0 < right.sum() < len(right)
    torch.testing.assert_close(penalised[right], smoothed[right], rtol=1e-12, atol=0)


def test_equal_largest_logits_share_the_gradient_of_maxsup() -> None:
    logits = torch.tensor([[2.0, 2.0, 0.0, 0.0]])
    _, gradient = value_and_gradient(lambda x: maxsup_loss(x, torch.tensor([2]), alpha=0.4), logits)
    expected = logits.softmax(1) - torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    expected += 0.4 * torch.tensor([[0.25, 0.25, -0.25, -0.25]])
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_focal_is_at_rest_where_the_true_class_is_certain(gamma: float, dtype: torch.dtype) -> None:
    logits, target = torch.tensor([[1e3, 0.0, -5.0]], dtype=dtype), torch.tensor([0])
    # A large upstream gradient, as of a loss scaled for float16.
    upstream = torch.tensor(2.0**40)
    call = lambda x, y: focal_loss(x, y, gamma=gamma)  # noqa: E731
    loss, gradient = value_and_gradient(lambda x: call(x, target), logits, upstream)
    assert loss == 0
    assert not gradient.any()
    leaf = logits.clone().requires_grad_()
    (first,) = torch.autograd.grad(call(leaf, target), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), leaf)
    assert second.isfinite().all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("gap", [1.0, 8.0, 14.0])
def test_focal_keeps_its_digits_close_to_certainty(gap: float, gamma: float) -> None:
    target, narrow = torch.tensor([0]), torch.tensor([[gap, 0.0, 0.0]])
    found, gradient = value_and_gradient(lambda x: focal_loss(x, target, gamma=gamma), narrow)
    expected, wide = value_and_gradient(lambda x: focal_loss(x, target, gamma=gamma), narrow.double())
    # The softmax itself is known to one part in 2^-24 / (1 - p), with a power of gamma + 1.
    relative = 2**-22 * math.exp(gap) * (gamma + 1)
    torch.testing.assert_close(found.double(), expected, rtol=relative, atol=0)
    torch.testing.assert_close(gradient.double(), wide, rtol=relative, atol=0)


@pytest.mark.parametrize("temperature", [1e-4, 0.01])
@pytest.mark.parametrize("kind", ["sigmoid", "polynomial"])
def test_a_cold_zero_one_relaxation_counts_the_classes_that_win(kind: str, temperature: float) -> None:
    own = LOGITS.gather(1, TARGET.unsqueeze(1))
    assert (LOGITS - own).abs().sort(dim=1).values[:, 1].min() > 0.05
    found = zero_one_relaxation(LOGITS, TARGET, kind=kind, temperature=temperature, reduction="none")
    torch.testing.assert_close(found, (LOGITS - own > 0).sum(1).double(), rtol=0, atol=0.02)


def test_beta_bernoulli_without_its_prior_is_logistic_however_far() -> None:
    logits = torch.tensor([[0.0, 3.0, -200.0], [0.0, 500.0, 1.0]])
    found = zero_one_relaxation(
        logits, torch.tensor([0, 0]), kind="beta_bernoulli", a=-1e4, b=-1e4, reduction="none"
    )
    expected = F.softplus(logits[:, 1:]).sum(1)
    torch.testing.assert_close(found, expected)
    # With the prior alone, w = 1, every class costs -log θ.
    found = zero_one_relaxation(logits, torch.tensor([0, 0]), kind="beta_bernoulli", a=1e4, b=1.0)
    torch.testing.assert_close(found, 2 * F.softplus(torch.tensor(-1.0)))


def test_losses_that_form_their_gradient_have_a_second_one() -> None:
    for call in (
        lambda x: zero_one_relaxation(x, TARGET, kind="polynomial", temperature=4.0),
        lambda x: zero_one_relaxation(x, MIXED, kind="polynomial", temperature=4.0),
        lambda x: maxsup_loss(x, TARGET),
    ):
        assert torch.autograd.gradgradcheck(call, LOGITS.clone().requires_grad_())


rows = st.lists(st.floats(-50, 50), min_size=2, max_size=6)
steps = st.floats(0.01, 20)


@given(rows, steps, st.floats(0, 5), st.floats(-1, 5), st.floats(0.1, 10))
def test_a_larger_true_logit_costs_less(
    row: list[float], step: float, gamma: float, epsilon: float, temperature: float
) -> None:
    logits, target = torch.tensor([row, row], dtype=torch.float64), torch.tensor([0, 0])
    logits[1, 0] += step
    for call in (
        lambda x: focal_loss(x, target, gamma=gamma, reduction="none"),
        lambda x: poly1_cross_entropy(x, target, epsilon=epsilon, reduction="none"),
        lambda x: multiclass_hinge(x, target, margin=temperature, reduction="none"),
        lambda x: zero_one_relaxation(x, target, temperature=temperature, reduction="none"),
        lambda x: zero_one_relaxation(
            x, target, kind="polynomial", temperature=temperature, reduction="none"
        ),
        lambda x: zero_one_relaxation(x, target, kind="beta_bernoulli", a=gamma, b=epsilon, reduction="none"),
    ):
        less, more = call(logits).flip(0).tolist()
        assert less <= more * (1 + 1e-9) + 1e-12


@given(rows, st.floats(0, 5), st.floats(0, 5))
def test_bounds(row: list[float], low: float, high: float) -> None:
    logits, target = torch.tensor([row], dtype=torch.float64), torch.tensor([0])
    low, high = sorted((low, high))
    nll = F.cross_entropy(logits, target).item()
    slack = 1e-9 * (1 + nll)
    assert 0 <= focal_loss(logits, target, gamma=high) <= focal_loss(logits, target, gamma=low) + slack
    assert focal_loss(logits, target, gamma=low) <= nll + slack
    assert nll - slack <= poly1_cross_entropy(logits, target, epsilon=high) <= nll + high + slack
    assert maxsup_loss(logits, target, alpha=high) >= nll - slack
    assert multiclass_hinge(logits, target, margin=low) <= multiclass_hinge(logits, target, margin=high)
    wrong = len(row) - 1
    for kind in ("sigmoid", "polynomial"):
        assert 0 <= zero_one_relaxation(logits, target, kind=kind) <= wrong
    # -log(w θ), of two logits.
    most = F.softplus(torch.tensor(-low)) + F.softplus(torch.tensor(-high))
    found = zero_one_relaxation(logits, target, kind="beta_bernoulli", a=low, b=high)
    assert 0 <= found.item() <= wrong * most.item() * (1 + 1e-6) + slack


@pytest.mark.parametrize(
    ("function", "module", "options", "words"),
    [
        (focal_loss, FocalLoss, {"gamma": -1.0}, "gamma: got -1.0"),
        (focal_loss, FocalLoss, {"gamma": math.nan}, "gamma: got nan"),
        (poly1_cross_entropy, Poly1CrossEntropyLoss, {"epsilon": -1.5}, "epsilon: got -1.5, .* least -1"),
        (poly1_cross_entropy, Poly1CrossEntropyLoss, {"epsilon": "x"}, "epsilon: got 'x'"),
        (maxsup_loss, MaxSupLoss, {"alpha": -0.1}, "alpha: got -0.1"),
        (multiclass_hinge, MulticlassHingeLoss, {"margin": math.inf}, "margin: got inf"),
        (
            label_smoothing_cross_entropy,
            LabelSmoothingCrossEntropyLoss,
            {"smoothing": 1.5},
            "smoothing: got 1.5, expected a number from 0 to 1",
        ),
        (zero_one_relaxation, ZeroOneRelaxationLoss, {"kind": "poly"}, "did you mean 'polynomial'"),
        (zero_one_relaxation, ZeroOneRelaxationLoss, {"temperature": 0}, "temperature: got 0"),
        (zero_one_relaxation, ZeroOneRelaxationLoss, {"a": torch.zeros(2)}, r"a: got shape \(2,\)"),
    ],
)
def test_bad_options(
    function: Callable[..., Tensor], module: type, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        function(LOGITS, TARGET, **options)
    with pytest.raises(ValueError, match=words):
        module(**options)
