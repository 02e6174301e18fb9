from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from criterium.losses.noised_topk import NoisedTopKHingeLoss, noised_topk_hinge
from criterium.objectives import build
from criterium.objectives.base import Task
from criterium.order_statistics import smoothed_kth
from goldens import Case, cases


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", cases("noised_topk_balanced") + cases("noised_topk_imbalanced"))
def test_golden(case: Case, dtype: torch.dtype) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    params, tolerance = case.params, case.tolerance
    imbalanced: dict[str, Any] = {}
    if "margins" in stored:
        imbalanced = {"margin": stored["margins"], "scale": params["logit_scale"]}
    logits = stored["logits"].to(dtype).requires_grad_()
    loss = noised_topk_hinge(
        logits,
        stored["labels"].long(),
        k=params["k"],
        epsilon=params["epsilon"],
        noise=stored["noise"],
        **imbalanced,
    )
    loss.backward()
    assert loss.dtype == dtype
    if dtype == torch.float64:
        rtol = tolerance["grad_rtol"] + (1e-6 if stored["grad_logits"].dtype == torch.float32 else 0)
        bounds = {"rtol": tolerance["loss_rtol"], "atol": tolerance["loss_atol"]}
        torch.testing.assert_close(loss, stored["loss"], **bounds)
        torch.testing.assert_close(
            logits.grad, stored["grad_logits"].double(), rtol=rtol, atol=tolerance["grad_atol"]
        )
    else:
        torch.testing.assert_close(loss.double(), stored["loss"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(logits.grad, stored["grad_logits"].float(), rtol=1e-5, atol=1e-7)


def test_margins_of_the_imbalanced_goldens_are_their_formula() -> None:
    """m_c = max_m n_c^(-1/4) / max n^(-1/4), as the objective computes them from the class counts."""
    for case in cases("noised_topk_imbalanced"):
        raw = torch.from_numpy(case.arrays["class_counts"]).double() ** -0.25
        expected = torch.from_numpy(case.arrays["margins"])
        torch.testing.assert_close(case.params["max_m"] * raw / raw.max(), expected, rtol=1e-12, atol=0.0)


def test_without_noise_it_is_the_hinge_to_the_next_largest() -> None:
    logits = torch.tensor([[5.0, 3.0, 1.0, -1.0]] * 4)
    target = torch.arange(4)
    loss = noised_topk_hinge(logits, target, k=2, epsilon=0.0, margin=0.5, scale=2.0, reduction="none")
    assert loss.tolist() == [0.0, 0.0, 1.0, 5.0]  # 2 max(0, 0.5 + 1 - s_y): the true class is ranked too
    margin = torch.tensor([0.0, 0.0, 4.0, 0.0])
    loss = noised_topk_hinge(logits, target, k=2, epsilon=0.0, margin=margin, reduction="none")
    assert loss.tolist() == [0.0, 0.0, 4.0, 2.0]


def test_soft_targets_are_expectations_over_the_same_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, generator=generator, dtype=torch.float64).requires_grad_()
    noise = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(3, 6, generator=generator, dtype=torch.float64).softmax(1)
    options: dict[str, Any] = {"k": 2, "noise": noise, "margin": torch.linspace(0, 1, 6), "reduction": "none"}
    loss = noised_topk_hinge(logits, soft, **options)
    hard = torch.stack([noised_topk_hinge(logits, torch.full((3,), y), **options) for y in range(6)], 1)
    torch.testing.assert_close(loss, (soft * hard).sum(1), rtol=1e-12, atol=0.0)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (loss, (soft * hard).sum(1)))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_noise_follows_the_logits_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, generator=generator)
    target = torch.randint(5, (2, 3, 4), generator=generator)
    noise = torch.randn(2, 5, 3, 4, 7, generator=generator)
    loss = noised_topk_hinge(logits, target, k=2, noise=noise, reduction="none")
    place = (1, slice(None), 2, 3)
    one = noised_topk_hinge(logits[place], target[1, 2, 3], k=2, noise=noise[place], reduction="none")
    torch.testing.assert_close(loss[1, 2, 3], one)


def test_same_seed_same_bits_and_modules_keep_their_generator() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 3])

    def fresh() -> NoisedTopKHingeLoss:
        return NoisedTopKHingeLoss(k=3, generator=torch.Generator().manual_seed(5))

    criterion = fresh()
    first, second = criterion(logits, target), criterion(logits, target)
    assert torch.equal(first, fresh()(logits, target))
    assert not torch.equal(first, second)
    # A copy goes on from where the original is, and on its own.
    for twin in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        again = fresh()
        again(logits, target), again(logits, target)
        assert torch.equal(twin(logits, target), again(logits, target))
    torch.manual_seed(3)
    one = noised_topk_hinge(logits, target, k=3)
    torch.manual_seed(3)
    assert torch.equal(one, noised_topk_hinge(logits, target, k=3))


def test_gradient_is_the_frequency_of_selection() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    noise = torch.tensor(
        [[[3.0, 3.0, 3.0, 0.0], [2.0, 2.0, 0.0, 3.0], [1.0, 0.0, 2.0, 2.0], [0.0, 1.0, 1.0, 1.0]]]
    )
    noised_topk_hinge(logits, torch.tensor([3]), k=1, noise=noise).backward()
    assert logits.grad.tolist() == [[0.0, 0.5, 0.5, -1.0]]


BALANCED: dict[str, Any] = {"k": 2, "epsilon": 0.7, "margin": 0.5}
IMBALANCED: dict[str, Any] = {"k": 2, "epsilon": 0.1, "margin": torch.linspace(0, 0.5, 7), "scale": 30.0}


def _problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 7, generator=generator, dtype=torch.float64), torch.arange(9) % 7


@pytest.mark.parametrize("options", [BALANCED, IMBALANCED], ids=["balanced", "imbalanced"])
def test_without_samples_it_is_the_hinge_to_the_expectation(options: dict[str, Any]) -> None:
    logits, target = _problem()
    margin = torch.as_tensor(options["margin"], dtype=torch.float64).expand(7)
    kth = smoothed_kth(logits, 3, epsilon=options["epsilon"])
    gap = margin.unsqueeze(0) + kth.unsqueeze(1) - logits
    each = options.get("scale", 1.0) * gap.clamp(min=0)
    assert 0 < each.count_nonzero() < each.numel()
    state = torch.random.get_rng_state()
    loss = noised_topk_hinge(logits, target, samples=None, reduction="none", **options)
    torch.testing.assert_close(loss, each[torch.arange(9), target])
    soft = torch.rand(9, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    dense = noised_topk_hinge(logits, soft, samples=None, reduction="none", **options)
    torch.testing.assert_close(dense, (soft * each).sum(1))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("options", [BALANCED, IMBALANCED], ids=["balanced", "imbalanced"])
def test_many_samples_come_to_the_same(options: dict[str, Any]) -> None:
    """Loss within five standard errors, its gradient within five of a frequency."""
    logits, target = _problem()
    samples, scale = 40_000, options.get("scale", 1.0)
    losses, gradients = [], []
    for draws in (None, samples):
        leaf = logits.clone().requires_grad_()
        generator = torch.Generator().manual_seed(2)
        loss = noised_topk_hinge(
            leaf, target, samples=draws, generator=generator, reduction="none", **options
        )
        loss.sum().backward()
        losses.append(loss.detach())
        gradients.append(leaf.grad)
    error = 5 / samples**0.5
    torch.testing.assert_close(losses[1], losses[0], rtol=0.0, atol=error * scale * options["epsilon"])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.0, atol=0.5 * error * scale)


def test_given_noise_counts_where_samples_are_none() -> None:
    logits, target = _problem()
    noise = torch.randn(9, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = [noised_topk_hinge(logits, target, k=2, samples=s, noise=noise) for s in (5, None)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("name", ["noised-topk", "noised-topk-imbalanced"])
def test_objectives_without_samples(name: str) -> None:
    task = Task(num_classes=4, class_counts=(40, 30, 20, 10), k=2, is_image=False)
    (criterion,) = build(name, {"samples": None}).criteria(task)
    assert criterion.samples is None
    logits, target = torch.linspace(-1, 1, 12).reshape(3, 4), torch.tensor([0, 1, 3])
    assert torch.equal(criterion(logits, target), criterion(logits, target))


def test_module_holds_margins_as_a_buffer() -> None:
    criterion = NoisedTopKHingeLoss(k=1, epsilon=0.0, margin=torch.tensor([0.0, 1.0, 2.0]), scale=3.0)
    assert list(dict(criterion.named_buffers())) == ["margin"]
    loss = criterion.double()(torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64), torch.tensor([2]))
    assert loss.item() == 3 * (2 + 1 - 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "k: got 4, expected at most C - 1 = 3"),
        ({"k": 0}, "k: got 0"),
        ({"samples": 0}, "samples: got 0"),
        ({"epsilon": -0.1}, "epsilon: got -0.1"),
        ({"scale": 0.0}, "scale: got 0.0"),
        ({"margin": -1.0}, "margin: got -1.0"),
        ({"margin": torch.zeros(3)}, r"margin: got shape \(3,\), expected a number or \(4,\)"),
        ({"noise": torch.zeros(2, 4)}, r"noise: got shape \(2, 4\), expected \(2, 4, 'S'\)"),
        ({"noise": torch.zeros(4, 2, 3)}, r"noise: got shape \(4, 2, 3\)"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noised_topk_hinge(torch.zeros(2, 4), torch.tensor([0, 1]), **{"k": 1} | options)
