from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss, smooth_topk_svm, topk_svm
from goldens import Case, cases

SMOOTH = cases("smooth_topk_svm") + cases("smooth_top1_svm")


def with_gradient(loss: Any, logits: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target, reduction="none", **options)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def literal(logits: Tensor, target: Tensor, k: int, temperature: float, margin: float) -> Tensor:
    """Return the paper's smoothed loss for each row: sums over all k-subsets of classes.

    A subset costs its mean logit, and the margin where the true class is not in it.
    """
    losses = []
    for row, y in zip(logits, target.tolist(), strict=True):
        subsets = torch.tensor(list(itertools.combinations(range(len(row)), k)))
        without = (subsets != y).all(1)
        scores = (row[subsets].mean(1) + margin * without.double()) / temperature
        losses.append(temperature * (scores.logsumexp(0) - scores[~without].logsumexp(0)))
    return torch.stack(losses)


def literal_hard(logits: Tensor, target: Tensor, k: int, margin: float) -> Tensor:
    """Return the published form: top-k mean of all others with margin, less that of a set with the true."""
    losses = []
    for row, y in zip(logits, target.tolist(), strict=True):
        others = torch.cat((row[:y], row[y + 1 :]))
        most = others.topk(k).values.mean() + margin
        with_true = (others.topk(k - 1).values.sum() + row[y]) / k
        losses.append((most - with_true).clamp(min=0))
    return torch.stack(losses)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def options_of(case: Case) -> dict[str, Any]:
    return {"k": case.params["k"], "temperature": case.params["tau"], "margin": case.params["alpha"]}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.id)
def test_golden(case: Case, dtype: torch.dtype) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    logits, target = stored["logits"].to(dtype), stored["labels"].long()
    loss, gradient = with_gradient(smooth_topk_svm, logits, target, **options_of(case))
    assert loss.dtype == gradient.dtype == dtype
    exact, slope = stored["smooth_loss_per_sample"], stored["smooth_grad_per_sample"]
    if dtype == torch.float64:
        bounds = {"rtol": case.tolerance["exact_rtol"], "atol": case.tolerance["exact_atol"]}
        torch.testing.assert_close(loss, exact, **bounds)
        bounds["rtol"] += 1e-6 if slope.dtype == torch.float32 else 0
        torch.testing.assert_close(gradient, slope.double(), **bounds)
    else:
        torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient.double(), slope.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.id)
def test_golden_of_the_reference_with_its_switch(case: Case) -> None:
    """The authors' module is the hard loss where `hard_mask` says so, with an approximate gradient else."""
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    logits, target, hard = stored["logits"].double(), stored["labels"].long(), stored["hard_mask"]
    smooth, slope = with_gradient(smooth_topk_svm, logits, target, **options_of(case))
    other, its_slope = with_gradient(
        topk_svm, logits, target, k=case.params["k"], margin=case.params["alpha"]
    )
    loss = torch.where(hard, other, smooth).mean()
    gradient = torch.where(hard.unsqueeze(1), its_slope, slope) / len(target)
    tolerance = case.tolerance
    torch.testing.assert_close(loss, stored["loss"], rtol=tolerance["loss_rtol"], atol=tolerance["loss_atol"])
    torch.testing.assert_close(
        gradient,
        stored["grad_logits"].double(),
        rtol=tolerance["grad_rtol"] + 1e-6,
        atol=tolerance["grad_atol"],
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", cases("hard_topk_svm"), ids=lambda case: case.id)
def test_hard_golden(case: Case, dtype: torch.dtype) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    options = {"k": case.params["k"], "margin": case.params["alpha"]}
    loss, gradient = with_gradient(topk_svm, stored["logits"].to(dtype), stored["labels"].long(), **options)
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (1e-6, 1e-6)
    torch.testing.assert_close(loss.double().mean(), stored["loss"], rtol=rtol, atol=atol)
    torch.testing.assert_close(
        gradient.double() / len(loss), stored["grad_logits"].double(), rtol=1.1e-6, atol=1e-11
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_is_the_sum_over_all_sets_of_k_classes(temperature: float) -> None:
    for classes, k in ((2, 1), (5, 1), (5, 4), (9, 2), (9, 3), (10, 5)):
        logits = (3 * normal(4, classes, seed=k)).requires_grad_()
        target = torch.arange(4) % classes
        expected = literal(logits, target, k, temperature, 0.7)
        (slope,) = torch.autograd.grad(expected.sum(), logits)
        options = {"k": k, "temperature": temperature, "margin": 0.7}
        loss, gradient = with_gradient(smooth_topk_svm, logits, target, **options)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-11)
        hard = topk_svm(logits, target, k=k, margin=0.7, reduction="none")
        torch.testing.assert_close(hard, literal_hard(logits, target, k, 0.7), rtol=1e-12, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    row=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=9),
    data=st.data(),
    temperature=st.sampled_from([0.01, 0.3, 1.0, 10.0]),
    margin=st.sampled_from([0.0, 1.0]),
)
def test_bounds_and_symmetries(
    row: list[float], data: st.DataObject, temperature: float, margin: float
) -> None:
    logits, classes = torch.tensor([row], dtype=torch.float64), len(row)
    k, y = data.draw(st.integers(1, classes - 1)), torch.tensor([data.draw(st.integers(0, classes - 1))])
    order = torch.tensor(data.draw(st.permutations(range(classes))))
    options = {"k": k, "temperature": temperature, "margin": margin}
    smooth, slope = with_gradient(smooth_topk_svm, logits, y, **options)
    hard = topk_svm(logits, y, k=k, margin=margin).item()

    # e_k / e_(k-1) lies between 1/k and C - k times the k-th largest w.
    assert max(0, hard - temperature * math.log(k)) - 1e-9 <= smooth.item()
    assert smooth.item() <= hard + temperature * math.log(classes - k + 1) + 1e-9
    # It falls in the true logit, by at most 1 / k, and rises in all others, which share that.
    assert -1 / k - 1e-12 <= slope[0, y].item() <= 0
    assert slope.scatter(1, y.unsqueeze(1), 0.0).min() > -1e-12
    assert abs(slope.sum().item()) < 1e-12
    raised = logits.scatter_add(1, y.unsqueeze(1), torch.full((1, 1), 2.0, dtype=torch.float64))
    assert smooth_topk_svm(raised, y, **options).item() <= smooth.item()

    moved, its_slope = with_gradient(smooth_topk_svm, logits[:, order], order.argsort()[y], **options)
    torch.testing.assert_close(moved, smooth, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(its_slope, slope[:, order], rtol=0, atol=1e-10)


def test_tends_to_the_hard_loss() -> None:
    logits, target = 4 * normal(20, 30), torch.arange(20)
    for k in (1, 3, 8):
        hard, slope = with_gradient(topk_svm, logits, target, k=k)
        distance = []
        for temperature in (1.0, 0.1, 0.01, 1e-4, 1e-6):
            smooth, its_slope = with_gradient(smooth_topk_svm, logits, target, k=k, temperature=temperature)
            distance.append((smooth - hard).abs().max().item())
        assert distance == sorted(distance, reverse=True)
        assert distance[-1] < 1e-5
        torch.testing.assert_close(its_slope, slope, rtol=0, atol=1e-9)


def test_no_jump_where_the_reference_switches() -> None:
    """There, where the k-th logit leads the next by k log 1000, a row goes over to the hard loss."""
    for k, ahead in ((1, []), (2, [3.0]), (3, [9.0, 4.0])):
        rows = [[0.0, -k * math.log(1000) + shift, *ahead] for shift in (-1e-9, 0.0, 1e-9)]
        logits, target = torch.tensor(rows, dtype=torch.float64), torch.zeros(3).long()
        loss, slope = with_gradient(smooth_topk_svm, logits, target, k=k)
        torch.testing.assert_close(loss, loss[1:2].expand(3), rtol=0, atol=1e-8)
        torch.testing.assert_close(slope, slope[1:2].expand(3, -1), rtol=0, atol=1e-8)
    logits = torch.tensor([0.0, -math.log(1000)], dtype=torch.float64)
    smooth, hard = (f(logits, torch.tensor(0), k=1).item() for f in (smooth_topk_svm, topk_svm))
    assert smooth == pytest.approx(math.log1p(math.e / 1000), rel=1e-12)
    assert hard == 0


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [7, 100, 10_000])
def test_float32_has_its_digits(classes: int, temperature: float) -> None:
    for k in (1, 2, 5):
        for scale in (1.0, 100.0, 1e4):
            logits = (scale * normal(8, classes, seed=k)).float()
            target = torch.arange(8) % classes
            # The first rows near the kink, where a small difference of large logits decides.
            near = logits.topk(k + 1).values[:, -1] + k * torch.linspace(0, 2, 8)
            logits[:6] = logits[:6].scatter(1, target[:6, None], near[:6, None])
            options = {"k": k, "temperature": temperature}
            loss, slope = with_gradient(smooth_topk_svm, logits, target, **options)
            exact, its_slope = with_gradient(smooth_topk_svm, logits.double(), target, **options)
            torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=1e-5)
            torch.testing.assert_close(slope.double(), its_slope, rtol=0, atol=1e-5)


def test_one_class_is_cross_entropy_with_a_margin() -> None:
    logits, target = normal(5, 6), torch.arange(5)
    expected = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(smooth_topk_svm(logits, target, k=1, margin=0.0), expected)


@pytest.mark.parametrize(("classes", "k"), [(4, 3), (8, 2), (4, 1)])
def test_second_derivative(classes: int, k: int) -> None:
    logits, target = normal(2, classes).requires_grad_(), torch.tensor([0, 2])
    assert torch.autograd.gradgradcheck(lambda x: smooth_topk_svm(x, target, k=k, temperature=0.7), logits)


def test_hard_gradient_reaches_two_logits_also_at_ties() -> None:
    logits = torch.tensor([[2.0, 2.0, 2.0, 1.0, 0.0], [9.0, 0.0, 0.0, 0.0, 0.0]])
    loss, gradient = with_gradient(topk_svm, logits, torch.tensor([3, 0]), k=2)
    assert loss.tolist() == [1.5, 0.0]
    assert gradient[0, 3] == -0.5
    assert sorted(gradient[0, :3].tolist()) == [0.0, 0.0, 0.5]
    assert not gradient[1].any()  # it leads by 9, and 2 would do


@pytest.mark.parametrize("k", [5, 6])
def test_as_many_wrong_classes_as_k(k: int) -> None:
    logits, target = torch.zeros(2, 5), torch.tensor([0, 4])
    for function in (smooth_topk_svm, topk_svm):
        with pytest.raises(
            ValueError, match=f"k: got {k}, expected at most the number of wrong classes, C - 1 = 4"
        ):
            function(logits, target, k=k)
        assert function(logits, target, k=4).isfinite()


BAD = [
    ({"k": 0}, "k: got 0, expected a whole number of at least 1"),
    ({"k": 1.5}, "k: got 1.5, expected a whole number"),
    ({"margin": -1.0}, "margin: got -1.0, expected a finite number of at least 0"),
]
BAD_TEMPERATURE = ({"temperature": 0.0}, "temperature: got 0.0, expected a finite number above 0")


@pytest.mark.parametrize(
    ("function", "module", "options", "message"),
    [(smooth_topk_svm, SmoothTopKSVMLoss, *bad) for bad in [*BAD, BAD_TEMPERATURE]]
    + [(topk_svm, TopKSVMLoss, *bad) for bad in BAD],
)
def test_errors_name_the_argument(function: Any, module: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(2, 7), torch.tensor([0, 1]), **options)
    with pytest.raises(ValueError, match=message):
        module(**options)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_what_the_weakest_classes_add_has_a_bound(k: int, temperature: float) -> None:
    """That of `LinearCriterion`, which looks at the true class and the m - 1 strongest others."""
    logits, classes, m = 2 * normal(8, 200, seed=k), 200, 20
    target = torch.zeros(8).long()
    others = logits[:, 1:].sort(dim=1, descending=True).values
    few = torch.cat([logits[:, :1], others[:, : m - 1]], dim=1)
    options = {"k": k, "temperature": temperature, "reduction": "none"}
    added = smooth_topk_svm(logits, target, **options) - smooth_topk_svm(few, target, **options)
    gap = (others[:, m - 2] - others[:, k - 1]) / (k * temperature)
    bound = temperature * torch.log1p(k * (classes - m) * gap.exp())
    assert (added > -1e-9).all()
    assert (added <= bound).all()
