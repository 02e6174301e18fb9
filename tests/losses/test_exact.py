"""EXACT against the stored values, a brute-force quadrature, and Monte Carlo."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from criterium.losses.exact import ExactLoss, exact_loss, expected_accuracy
from criterium.order_statistics import win_series
from goldens import Case, cases


def brute_force(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """P and dP/dlogits by 4,001 float64 nodes, wide enough for the gradient's integrand at every gap."""
    table = logits.double()
    own = target.unsqueeze(1)
    gap = (table.gather(1, own) - table).scatter(1, own, math.inf)
    high = (-gap.amin(1)).clamp(min=0) + 10
    low = (-0.5 * gap.amin(1)).clamp(-25, 0) - 9
    probability, gradient = [], []
    for row, bottom, top in zip(gap, low, high, strict=True):
        t = torch.linspace(float(bottom), float(top), 4001, dtype=torch.float64)
        x = t.unsqueeze(1) + row
        log_cdf = torch.special.log_ndtr(x)
        mass = (-t * t / 2 + log_cdf.sum(1)).exp() / math.sqrt(2 * math.pi) * (t[1] - t[0])
        hazard = (-x * x / 2 - log_cdf - math.log(2 * math.pi) / 2).exp()
        probability.append(mass.sum())
        gradient.append(-(mass.unsqueeze(1) * hazard).sum(0))
    slope = torch.stack(gradient)
    return torch.stack(probability), slope.scatter(1, own, -slope.sum(1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", cases("exact_prob"))
def test_probability_and_its_gradient_match_the_stored_values(case: Case, dtype: torch.dtype) -> None:
    arrays, tolerance = case.arrays, case.tolerance
    logits = torch.tensor(arrays["logits"], dtype=dtype, requires_grad=True)
    probability = expected_accuracy(logits, torch.tensor(arrays["labels"]).long())
    (gradient,) = torch.autograd.grad(probability.sum(), logits)
    exact = dtype == torch.float64
    value_rtol, grad_rtol = (tolerance["loss_rtol"], tolerance["grad_rtol"] + 1e-6) if exact else (1e-5, 1e-5)
    value_atol, grad_atol = (tolerance["loss_atol"], tolerance["grad_atol"]) if exact else (2e-7, 2e-7)
    wanted = torch.tensor(arrays["prob"])
    torch.testing.assert_close(probability.detach().double(), wanted, rtol=value_rtol, atol=value_atol)
    wanted = torch.tensor(arrays["grad_prob_logits"]).double()
    torch.testing.assert_close(gradient.double(), wanted, rtol=grad_rtol, atol=grad_atol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", cases("exact_loss"))
def test_loss_and_its_gradient_match_the_stored_values(case: Case, dtype: torch.dtype) -> None:
    arrays, params, tolerance = case.arrays, case.params, case.tolerance
    logits = torch.tensor(arrays["logits"], dtype=dtype, requires_grad=True)
    temperature = params["temperature"]
    loss = exact_loss(
        logits,
        torch.tensor(arrays["labels"]).long(),
        temperature=1.0 if temperature is None else temperature,
        margin=params["margin"],
        standardize=temperature is not None and params["batch_norm_logits"],
        reduction="none" if "grad_output" in arrays else "mean",
    )
    upstream = torch.tensor(arrays["grad_output"], dtype=dtype) if "grad_output" in arrays else None
    (gradient,) = torch.autograd.grad(loss, logits, upstream)
    exact = dtype == torch.float64
    rtol, atol = (tolerance["loss_rtol"], tolerance["loss_atol"]) if exact else (1e-5, 1e-6)
    torch.testing.assert_close(
        loss.detach().double(), torch.tensor(arrays["loss"]).double(), rtol=rtol, atol=atol
    )
    wanted = torch.tensor(arrays["grad_logits"]).double()
    rtol, atol = (tolerance["grad_rtol"] + 1e-6, tolerance["grad_atol"]) if exact else (1e-5, 1e-5)
    # In float32 the gradient of rows with nothing left to gain is within 2e-11 a class.
    least = 0 if exact else 2e-11 * logits.shape[1]
    atol = max(atol * wanted.abs().max().item(), least)
    torch.testing.assert_close(gradient.double(), wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 10.0, 30.0])
def test_float32_agrees_with_four_thousand_float64_nodes(classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = (torch.randn(6, classes, generator=generator) * scale).requires_grad_()
    target = torch.randint(0, classes, (6,), generator=generator)
    target[:3] = logits[:3].argmax(1)
    probability = expected_accuracy(logits, target)
    (gradient,) = torch.autograd.grad(probability.sum(), logits)
    wanted, slope = brute_force(logits.detach(), target)
    assert (probability.detach() - wanted).abs().max() <= 1e-6
    # Row by row, down to chances of 1e-28. Where the true class leads by
    # so much that nothing is left to gain, the gradient is within 2e-11 a class.
    least = torch.where(wanted > 1 - 1e-4, 2e-11 * classes, 1e-28)
    assert ((gradient - slope).abs().amax(1) <= 1e-4 * slope.abs().amax(1) + least).all()


@pytest.mark.parametrize("ahead", [3.0, 5.0])
@pytest.mark.parametrize("rivals", [499, 999])
def test_a_flank_much_steeper_than_the_peak_is_resolved(ahead: float, rivals: int) -> None:
    # P is near 1 and the integrand near phi(t), but for a steep edge where all rivals give way together.
    logits = torch.zeros(1, 1000)
    logits[0, 0] = ahead
    logits[0, rivals + 1 :] = -40.0
    wanted, _ = brute_force(logits, torch.tensor([0]))
    assert abs(expected_accuracy(logits, torch.tensor([0])).item() - wanted.item()) <= 1e-6


@pytest.mark.parametrize(("classes", "k"), [(3, 1), (3, 2), (10, 1), (10, 3), (10, 5), (40, 20)])
def test_monte_carlo_agrees_within_four_standard_errors(classes: int, k: int) -> None:
    generator = torch.Generator().manual_seed(classes + k)
    draws = 100_000
    logits = torch.randn(1, classes, generator=generator, dtype=torch.float64)
    noisy = logits + torch.randn(draws, classes, generator=generator, dtype=torch.float64)
    found = ((noisy > noisy[:, :1]).sum(1) < k).double().mean().item()
    probability = expected_accuracy(logits, torch.tensor([0]), k=k).item()
    error = math.sqrt(probability * (1 - probability) / draws)
    assert abs(found - probability) <= 4 * error


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_log_accuracy_is_exact_at_any_distance(k: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(k)
    logits = scale * torch.randn(5, 6, generator=generator, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 4])
    leaf = logits.clone().requires_grad_()
    found = expected_accuracy(leaf, target, k=k, log=True)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert gradient.isfinite().all()
    for row, y, value in zip(logits, target, found, strict=True):
        rivals = torch.cat((row[:y], row[y + 1 :])) - row[y]
        strongest = rivals.sort(descending=True).values
        nodes = torch.linspace(
            -12 - float((-strongest[k - 1]).clamp(0, 30)), 12 + float(strongest[0].clamp(min=0)), 40001,
            dtype=torch.float64,
        )  # fmt: skip
        lose = torch.special.log_ndtr(rivals - nodes.unsqueeze(1))
        win = torch.special.log_ndtr(nodes.unsqueeze(1) - rivals)
        # Every set of fewer than k winners, one by one.
        sets = [s for r in range(k) for s in itertools.combinations(range(5), r)]
        ways = [sum((lose if j in s else win)[:, j] for j in range(5)) for s in sets]
        tail = torch.stack(ways).logsumexp(0)
        mass = tail - nodes.square() / 2 - math.log(2 * math.pi) / 2 + math.log(float(nodes[1] - nodes[0]))
        wanted = mass.logsumexp(0).clamp(max=0).item()
        assert value.item() == pytest.approx(wanted, rel=1e-9, abs=1e-11)


def test_log_accuracy_has_a_gradient_where_accuracy_has_none() -> None:
    for dtype, lead in ((torch.float32, -43.0), (torch.float64, -43.0), (torch.float32, -2e4)):
        logits = torch.tensor([[lead, 0.0]], dtype=dtype, requires_grad=True)
        loss = exact_loss(logits, torch.tensor([0]), log=True)
        loss.backward()
        assert logits.grad is not None
        # P = Phi(lead / sqrt 2), so -log P is close to lead^2 / 4, its slope to lead / 2.
        assert loss.item() == pytest.approx(lead**2 / 4, rel=0.05)
        assert logits.grad[0, 0].item() == pytest.approx(lead / 2, rel=0.05)
        assert logits.grad.sum().item() == pytest.approx(0, abs=1e-3 * abs(lead))


@pytest.mark.parametrize("options", [{}, {"log": True}, {"k": 2}, {"margin": 0.5, "temperature": 0.7}])
def test_second_derivatives(options: dict[str, Any]) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([0, 3, 1])
    assert torch.autograd.gradgradcheck(
        lambda x: exact_loss(x, target, **options), logits.requires_grad_(), atol=1e-4
    )


def test_expected_accuracy_rises_with_k_and_with_the_true_logit() -> None:
    logits = torch.randn(20, 8, generator=torch.Generator().manual_seed(5))
    target = torch.arange(20) % 8
    for log in (False, True):
        by_k = torch.stack([expected_accuracy(logits, target, k=k, log=log) for k in range(1, 9)])
        assert (by_k.diff(dim=0) > 0).all()
        raised = logits + 0.1 * torch.nn.functional.one_hot(target, 8)
        for k in (1, 3):
            more = expected_accuracy(raised, target, k=k, log=log)
            assert (more > expected_accuracy(logits, target, k=k, log=log)).all()
    assert by_k[-1].eq(0).all()


def test_two_classes_have_a_closed_form() -> None:
    lead = torch.linspace(-6, 6, 25, dtype=torch.float64)
    logits = torch.stack((lead, torch.zeros_like(lead)), 1)
    wanted = torch.special.ndtr(lead / math.sqrt(2))
    found = expected_accuracy(logits, torch.zeros(25, dtype=torch.long))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)


def test_probabilities_of_all_classes_sum_to_k() -> None:
    logits = torch.randn(7, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2
    for k in range(1, 8):
        total = expected_accuracy(logits.expand(7, 7), torch.arange(7), k=k).sum().item()
        assert total == pytest.approx(k, abs=1e-10)


def test_the_gradient_stops_beyond_the_margin() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.8]], dtype=torch.float64, requires_grad=True)
    exact_loss(logits, torch.tensor([0]), margin=0.5).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, 2] > 0


def test_constant_logits_survive_standardisation() -> None:
    logits = torch.full((4, 3), 2.5, requires_grad=True)
    loss = exact_loss(logits, torch.tensor([0, 1, 2, 0]), standardize=True)
    loss.backward()
    assert loss.item() == pytest.approx(2 / 3, abs=1e-6)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_ignored_rows_stay_out_of_the_statistics() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0, 2, -100, 1])
    kept = exact_loss(logits[target >= 0], target[target >= 0], standardize=True)
    torch.testing.assert_close(exact_loss(logits, target, standardize=True), kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: got 0.0, expected a finite number above 0"),
        ({"margin": -1.0}, "margin: got -1.0, expected a finite number of at least 0"),
        ({"k": 0}, "k: got 0, expected a whole number of at least 1"),
        ({"k": 4}, "k: got 4, expected at most the number of classes, 3"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact_loss(torch.zeros(2, 3), torch.tensor([0, 1]), **options)  # type: ignore[arg-type]


# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_float32_is_the_same_compiled_and_exported() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(4))
    target = torch.arange(6) % 5
    # What is made while tensors are only pretended must not be kept.
    win_series._made.clear()
    program = torch.export.export(ExactLoss(), (logits, target))
    wanted = exact_loss(logits.double(), target)
    assert exact_loss(logits, target).item() == pytest.approx(wanted.item(), abs=1e-6)
    assert program.module()(logits, target).item() == pytest.approx(wanted.item(), abs=1e-6)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: exact_loss(x, target), fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (compiled, lambda x: exact_loss(x, target)):
        leaf = logits.clone().requires_grad_()
        gradients.append(torch.autograd.grad(call(leaf), leaf)[0])
    torch.testing.assert_close(*gradients)


@given(st.integers(2, 8), st.integers(0, 10_000), st.floats(0.01, 100.0))
@settings(max_examples=40, deadline=None)
def test_expected_accuracy_is_a_probability_and_rises(classes: int, seed: int, scale: float) -> None:
    logits = scale * torch.randn(4, classes, generator=torch.Generator().manual_seed(seed))
    target = torch.arange(4) % classes
    by_k = torch.stack([expected_accuracy(logits, target, k=k) for k in range(1, classes + 1)])
    assert (by_k >= 0).all()
    assert (by_k <= 1).all()
    assert (by_k.diff(dim=0) >= -1e-6).all()
    raised = logits + scale * torch.nn.functional.one_hot(target, classes)
    assert (expected_accuracy(raised, target) >= by_k[0] - 1e-7).all()
