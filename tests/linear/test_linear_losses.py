"""The fused losses give the values and gradients of the output layer followed by the plain loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import criterium
from criterium import functional, heads, linear
from criterium.linear import scan
from criterium.linear.strongest import noise_of
from criterium.losses._contract import per_example_loss

N, D, C = 7, 5, 23
COUNTS = torch.arange(1, C + 1).flip(0) * 10
GROUPS = torch.arange(C) % 4 * (torch.arange(C) != 5) + 9 * (torch.arange(C) == 5)  # one group of one


def truncated_svm(
    logits: Tensor,
    target: Tensor,
    *,
    candidates: int,
    k: int,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The smooth SVM of each class that counts and the strongest others, as `candidates` has it."""

    def rows(logits: Tensor, target: Tensor) -> Tensor:
        own = target.unsqueeze(1)
        others = logits.scatter(1, own, -torch.inf).topk(candidates - 1, dim=1).values
        table = torch.cat([logits.gather(1, own), others], dim=1)
        return functional.smooth_topk_svm(table, torch.zeros_like(target), k=k, reduction="none")

    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


OTHERS: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "smooth_topk_svm": truncated_svm,
}


@dataclass(frozen=True)
class Fused:
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    plain_options: dict[str, Any] | None = None
    """Those of the plain loss, where they differ."""
    near: float = 1e-6
    """Tolerance in float32 relative to the largest value."""

    @property
    def plain(self) -> Callable[..., Tensor]:
        return OTHERS[self.name] if self.name in OTHERS else getattr(functional, self.name)  # type: ignore[no-any-return]

    def fused(self, *args: Any, **contract: Any) -> Tensor:
        loss: Tensor = getattr(linear, f"linear_{self.name}")(*args, **self.options, **contract)
        return loss

    def reference(
        self, features: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, **contract: Any
    ) -> Tensor:
        options = self.options if self.plain_options is None else self.plain_options
        if "class_weight" in contract:
            contract["weight"] = contract.pop("class_weight")
        return self.plain(F.linear(features, weight, bias), target, **options, **contract)

    def __str__(self) -> str:
        values = {k: "tensor" if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return f"{self.name}({','.join(f'{k}={v}' for k, v in values.items())})"


CASES = [
    Fused("cross_entropy"),
    Fused("focal_loss", {"gamma": 1.5}),
    Fused("poly1_cross_entropy"),
    Fused("ldam_loss", {"class_counts": COUNTS, "scale": 3.0}),
    Fused("logit_adjusted_cross_entropy", {"class_counts": COUNTS, "tau": 0.7}),
    Fused("label_smoothing_cross_entropy", {"smoothing": 0.2}),
    Fused("maxsup_loss", {"alpha": 0.3}),
    Fused("complement_entropy"),
    Fused("guided_complement_entropy", {"alpha": 0.5}),
    Fused("hierarchical_complement_entropy", {"groups": GROUPS}),
    Fused(
        "hierarchical_complement_entropy", {"groups": torch.stack([GROUPS // 2, GROUPS]), "level": "outer"}
    ),
    Fused("hierarchical_complement_entropy", {"groups": GROUPS, "level": "inner"}),
    Fused("multiclass_hinge", {"margin": 0.8}),
    Fused("zero_one_relaxation"),
    Fused("zero_one_relaxation", {"kind": "polynomial", "temperature": 2.0}),
    Fused("zero_one_relaxation", {"kind": "beta_bernoulli", "a": 0.5, "b": -1.0}),
    Fused("exact_loss", {"temperature": 0.7}),
    Fused("exact_loss", {"temperature": 2.0, "margin": 0.5}),
    Fused("exact_loss", {"standardize": True}),
    Fused("exact_loss", {"k": 3, "temperature": 2.0}),
    Fused("exact_loss", {"k": 2, "margin": 0.5}),
    Fused("exact_loss", {"log": True, "temperature": 0.5}),
    Fused("exact_loss", {"k": 4, "log": True, "margin": 1.0}),
    Fused("topk_cross_entropy", {"candidates": 8, "p_k": (0.4, 0.0, 0.6)}),
    Fused("topk_cross_entropy", {"candidates": 6, "p_k": (0.5, 0.5), "relaxation": "neuralsort"}),
    Fused("topk_svm", {"k": 3}),
    Fused("smooth_topk_svm", {"k": 3, "candidates": 7}),
    Fused("smooth_topk_svm", {"k": 2, "candidates": 22}),
    Fused("noised_topk_hinge", {"k": 3, "epsilon": 0.0, "samples": 2}),
    Fused("noised_topk_hinge", {"k": 2, "epsilon": 0.0, "margin": torch.linspace(0, 1, C), "scale": 3.0}),
]
RIVALS = [loss for loss in CASES if loss.name == "exact_loss" and loss.options.keys() & {"k", "log"}]
each_loss = pytest.mark.parametrize("loss", CASES, ids=str)


@pytest.fixture(params=[4, 7, C, 100], ids="block={}".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(scan, "block_size", lambda features: request.param)
    return int(request.param)


@pytest.fixture(autouse=True)
def _blocks_of_four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(scan, "block_size", lambda features: 4)
    yield


def problem(dtype: torch.dtype = torch.float32, rows: int = N) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(rows, D, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(C, D, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(C, generator=generator).to(dtype).requires_grad_()
    return features, weight, torch.randint(C, (rows,), generator=generator), bias


def results(
    function: Callable[..., Tensor],
    target: Tensor,
    bias: Tensor | None,
    features: Tensor,
    weight: Tensor,
    **contract: Any,
) -> list[Tensor]:
    leaves = [value for value in (features, weight, bias) if value is not None]
    loss = function(features, weight, target, bias, **contract)
    pull = torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return [loss.detach(), *torch.autograd.grad(loss, leaves, pull)]


def check(
    loss: Fused, target: Tensor, bias: Tensor | None, features: Tensor, weight: Tensor, **contract: Any
) -> None:
    fused = results(loss.fused, target, bias, features, weight, **contract)
    plain = results(loss.reference, target, bias, features, weight, **contract)
    for ours, theirs in zip(fused, plain, strict=True):
        assert ours.dtype == theirs.dtype
        near = 1e-10 if ours.dtype == torch.float64 else loss.near
        torch.testing.assert_close(ours, theirs, rtol=0, atol=near * float(theirs.abs().max()))


@each_loss
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "none"])
def test_loss_and_gradients_are_those_of_layer_and_loss(loss: Fused, biased: bool, block: int) -> None:
    features, weight, target, bias = problem()
    check(loss, target, bias if biased else None, features, weight, reduction="none")


@each_loss
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_contract(loss: Fused, reduction: str) -> None:
    features, weight, target, bias = problem()
    target[2] = 21
    contract = {"reduction": reduction, "ignore_index": 21, "class_weight": torch.linspace(0.5, 2, C)}
    check(loss, target, bias, features, weight, **contract)


@each_loss
def test_soft_targets_of_two_classes(loss: Fused) -> None:
    features, weight, target, bias = problem()
    share = torch.linspace(0, 0.9, N).unsqueeze(1)
    soft = share * F.one_hot(target, C) + (1 - share) * F.one_hot((target + 3) % C, C)
    # PyTorch weights the classes inside the mean over rows; the losses here weight rows.
    contract = {} if loss.name == "cross_entropy" else {"class_weight": torch.linspace(0.5, 2, C)}
    check(loss, soft, bias, features, weight, **contract)


@each_loss
def test_gradients_are_those_of_the_value(loss: Fused) -> None:
    features, weight, target, bias = problem(torch.float64, rows=3)
    # EXACT's chance is a series good to 1e-7, its derivative one good to 1e-4 of the largest.
    near = 1e-4 if loss.name == "exact_loss" else 1e-7

    def value(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return loss.fused(features, weight, target, bias, reduction="none")

    assert torch.autograd.gradcheck(value, (features, weight, bias), atol=near, rtol=1e-5, fast_mode=True)


@each_loss
def test_where_no_row_counts_loss_and_gradient_are_zero(loss: Fused) -> None:
    features, weight, _, bias = problem()
    for value in results(loss.fused, torch.full((N,), -100), bias, features, weight):
        assert torch.equal(value, torch.zeros_like(value))


@each_loss
def test_half_precision_is_summed_in_float32(loss: Fused) -> None:
    features, weight, target, bias = (each.detach() for each in problem())
    halves = [each.bfloat16().requires_grad_() for each in (features, weight, bias)]
    wide = [each.detach().float().requires_grad_() for each in halves]
    ours = results(loss.fused, target, halves[2], *halves[:2])
    theirs = results(loss.fused, target, wide[2], *wide[:2])
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=0)
    for half, full in zip(ours[1:], theirs[1:], strict=True):
        assert half.dtype == torch.bfloat16
        # One rounding to the 8 bits of bfloat16, or two where blocks and single classes meet.
        torch.testing.assert_close(half.float(), full, rtol=0, atol=2**-7 * float(full.abs().max()))


@each_loss
def test_finite_for_large_logits(loss: Fused) -> None:
    features, weight, target, bias = problem()
    with torch.no_grad():
        features *= 1e4
    for value in results(loss.fused, target, bias, features, weight, reduction="none"):
        assert value.isfinite().all()


@pytest.mark.parametrize("loss", [loss for loss in CASES if loss not in RIVALS], ids=str)
def test_nothing_as_large_as_the_logits_is_made(loss: Fused) -> None:
    # Many rows of few features, so that the weight and its gradient are far smaller than the logits.
    generator = torch.Generator().manual_seed(0)
    rows = 600
    features = torch.randn(rows, 2, generator=generator, requires_grad=True)
    weight = torch.randn(C, 2, generator=generator, requires_grad=True)
    target = torch.randint(C, (rows,), generator=generator)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as seen:
        results(loss.fused, target, None, features, weight)
    largest = max(int(event.self_cpu_memory_usage) for event in seen.events())
    # Moments and polynomials in float64, noise, or the relaxed ranks of candidates do not grow with C.
    fixed = {
        "exact_loss": 2 * 81,
        "noised_topk_hinge": 128,
        "topk_cross_entropy": 81,
        "smooth_topk_svm": 96,
    }
    assert rows < largest <= 4 * rows * fixed.get(loss.name, C)


def test_exact_at_k_makes_nothing_as_large_as_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    # It holds 2 MiB at a time and 2 KiB a row, so it takes many classes to tell.
    monkeypatch.setattr(scan, "block_size", lambda rows: 4000)
    rows, classes = 16, 40_000
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 2, generator=generator, requires_grad=True)
    weight = torch.randn(classes, 2, generator=generator, requires_grad=True)
    target = torch.randint(classes, (rows,), generator=generator)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as seen:
        results(Fused("exact_loss", {"k": 2}).fused, target, None, features, weight)
    largest = max(int(event.self_cpu_memory_usage) for event in seen.events())
    assert rows < largest < 4 * rows * classes


@pytest.mark.parametrize("behind", [10.0, 60.0])
@pytest.mark.parametrize("k", [1, 3, C - 1])
def test_logarithm_of_exact_far_behind(k: int, behind: float) -> None:
    features, weight, target, bias = problem(torch.float64)
    with torch.no_grad():
        bias[target] -= behind
    loss = Fused("exact_loss", {"k": k, "log": True})
    fused = results(loss.fused, target, bias, features, weight)
    plain = results(loss.reference, target, bias, features, weight)
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7 * float(theirs.abs().max()))


def test_leading_dimensions() -> None:
    features, weight, target, bias = problem(rows=6)
    loss = linear.linear_focal_loss(
        features.reshape(2, 3, D), weight, target.reshape(2, 3), bias, reduction="none"
    )
    flat = linear.linear_focal_loss(features, weight, target, bias, reduction="none")
    assert torch.equal(loss, flat.reshape(2, 3))
    assert linear.linear_focal_loss(features[0], weight, target[0], bias, reduction="none").shape == ()


def test_autocast_changes_nothing() -> None:
    features, weight, target, bias = problem()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear.linear_focal_loss(features, weight, target, bias)
    assert torch.equal(loss, linear.linear_focal_loss(features, weight, target, bias))


def test_noise_of_a_class_does_not_depend_on_the_classes_it_is_asked_with() -> None:
    like = torch.empty(40, 0)
    whole = noise_of(like, range(300), seed=7, sample=1)
    for part in (range(1), range(100, 200), range(128, 256), range(299, 300)):
        assert torch.equal(noise_of(like, part, seed=7, sample=1), whole[:, part.start : part.stop])
    others = [noise_of(like, range(300), seed=8, sample=1), noise_of(like, range(300), seed=7, sample=0)]
    for other in (*others, whole.roll(128, dims=1), whole.roll(1, dims=0)):
        # 12,000 products of independent normal numbers: six standard deviations.
        assert abs(float((other * whole).mean())) < 6 / 12_000**0.5
    assert (
        abs(float(whole.mean())) < 6 / 12_000**0.5 and abs(float(whole.var()) - 1) < 6 * (2 / 12_000) ** 0.5
    )


def test_noise_is_that_of_the_generator() -> None:
    features, weight, target, bias = problem()
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    noise = torch.stack([noise_of(features, range(C), seed, sample) for sample in range(3)], dim=2)

    fused = results(
        lambda *args: linear.linear_noised_topk_hinge(
            *args, k=2, samples=3, epsilon=0.7, generator=torch.Generator().manual_seed(5)
        ),
        target,
        bias,
        features,
        weight,
    )
    plain = results(
        lambda features, weight, target, bias: functional.noised_topk_hinge(
            F.linear(features, weight, bias), target, k=2, epsilon=0.7, noise=noise
        ),
        target,
        bias,
        features,
        weight,
    )
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


HEADS = [nn.Linear, heads.NormalizedLinear, heads.IsoMaxHead, heads.IsoMaxPlusHead, heads.DisMaxHead]


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(weight=torch.linspace(0.5, 2, C)),
        criterium.IsoMaxLoss(entropic_scale=3.0),
        criterium.ComplementEntropyLoss(reduction="sum"),
        criterium.LogitAdjustedCrossEntropyLoss(class_counts=COUNTS),
        criterium.TopKCrossEntropyLoss(p_k=(0.5, 0.5), candidates=6),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_can_be_fused(kind: type[nn.Module], criterion: nn.Module) -> None:
    torch.manual_seed(0)
    head = kind(D, C).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    if hasattr(head, "temperature"):
        head.temperature.fill_(0.8)
    features = torch.randn(N, D, dtype=torch.double, requires_grad=True)
    target = torch.randint(C, (N,))
    leaves = [features, *head.parameters()]
    fused = linear.LinearCriterion(head, criterion.double())(features, target)
    plain = criterion(head(features), target)
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(fused, leaves), torch.autograd.grad(plain, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_modules_have_their_layer_and_the_options_of_the_plain_module() -> None:
    torch.manual_seed(0)
    module = linear.LinearTopKCrossEntropyLoss(D, C, p_k=(0.5, 0.5), candidates=5)
    features, target = torch.randn(N, D), torch.randint(C, (N,))
    assert [name for name, _ in module.named_parameters()] == ["head.weight", "head.bias"]
    torch.testing.assert_close(module(features, target), module.criterion(module.head(features), target))
    module = linear.LinearSmoothTopKSVMLoss(D, C, bias=False, k=2, candidates=9)
    assert module.head.bias is None and module(features, target).isfinite()


def test_only_what_needs_a_gradient_gets_one() -> None:
    features, weight, target, bias = problem()
    loss = linear.linear_focal_loss(features.detach(), weight, target, bias.detach())
    loss.backward()
    assert weight.grad is not None and features.grad is None and bias.grad is None


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("exact_loss", {"k": C}, "k: got 23, expected fewer than C = 23"),
        ("exact_loss", {"temperature": 0.0}, "temperature: got 0.0"),
        ("topk_cross_entropy", {}, "candidates: got None"),
        ("topk_cross_entropy", {"candidates": C}, "candidates: got 23, expected fewer than C = 23"),
        ("smooth_topk_svm", {"k": 3, "candidates": 3}, "candidates: got 3"),
        ("topk_svm", {"k": C}, "got 24"),
        ("noised_topk_hinge", {"samples": None}, "samples: got None"),
        ("noised_topk_hinge", {"noise": torch.zeros(N, C, 1)}, "noise: got a tensor"),
        ("focal_loss", {"gama": 1.0}, "gama: linear_focal_loss has no such option.*did you mean 'gamma'"),
        ("focal_loss", {"gamma": -1.0}, "gamma: got -1.0"),
        ("focal_loss", {"class_weight": torch.ones(3)}, "weight: got shape"),
        ("focal_loss", {"reduction": "men"}, "did you mean 'mean'"),
        ("ldam_loss", {}, "class_counts: linear_ldam_loss needs it"),
        ("ldam_loss", {"class_counts": torch.ones(3)}, "class_counts: got shape"),
        ("hierarchical_complement_entropy", {"groups": torch.zeros(3).long()}, "groups: got shape"),
        (
            "zero_one_relaxation",
            {"a": torch.tensor(1.0, requires_grad=True)},
            "a: got a tensor that requires",
        ),
    ],
)
def test_what_is_not_supported_says_so(name: str, options: dict[str, Any], message: str) -> None:
    features, weight, target, bias = problem()
    with pytest.raises(ValueError, match=message):
        getattr(linear, f"linear_{name}")(features, weight, target, bias, **options)


def test_shapes_that_do_not_fit_say_so() -> None:
    features, weight, target, bias = problem()
    for args, message in [
        ((features[:, :3], weight, target), "features: got"),
        ((features, weight[0], target), "weight: got"),
        ((features, weight, target[:3]), "target: got class indices"),
        ((features, weight, torch.full((N, C), 1 / C)), "expected at most 8 a row"),
        ((features, weight, target, bias[:3]), "bias: got"),
        ((features, weight, target + C), "target: got class index"),
    ]:
        with pytest.raises(ValueError, match=message):
            linear.linear_focal_loss(*args)
    with pytest.raises(ValueError, match="head: got ReLU"):
        linear.LinearCriterion(nn.ReLU(), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="MSELoss has no fused form"):
        linear.LinearCriterion(nn.Linear(2, 3), nn.MSELoss())


def test_equal_largest_logits_share_the_gradient_of_the_maximum() -> None:
    features, _, target, _ = problem()
    weight = torch.zeros(C, D, requires_grad=True)
    check(Fused("maxsup_loss", {"alpha": 2.0}), target, None, features, weight)


# PyTorch hides this warning of its own, which pytest makes an error, too late.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_function_may_call_it() -> None:
    features, weight, target, bias = problem()

    @torch.compile(backend="aot_eager")
    def compiled(features: Tensor) -> Tensor:
        return linear.linear_focal_loss(features, weight, target, bias)

    assert torch.equal(compiled(features), linear.linear_focal_loss(features, weight, target, bias))
