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
from criterium.linear.candidates import noise_of
from criterium.linear.forms import FORMS, plain_and_options
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
    class_weight: Tensor | None = None,
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
        rows, logits, target, weight=class_weight, ignore_index=ignore_index, reduction=reduction
    )


class Doubled(criterium.FocalLoss):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return 2 * super().forward(logits, target)


@dataclass(frozen=True)
class Fused:
    kind: type[nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    candidates: int | None = None
    near: float = 1e-6
    """Tolerance in float32 relative to the largest value."""

    def criterion(self, class_weight: Tensor | None = None, **contract: Any) -> nn.Module:
        return self.kind(**self.options, weight=class_weight, **contract)

    def fused(
        self, features: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, **contract: Any
    ) -> Tensor:
        criterion = self.criterion(**contract)
        return linear.linear_loss(criterion, features, weight, target, bias, candidates=self.candidates)

    def reference(
        self, features: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, **contract: Any
    ) -> Tensor:
        logits = F.linear(features, weight, bias)
        if self.kind is criterium.SmoothTopKSVMLoss and self.candidates is not None:
            return truncated_svm(logits, target, candidates=self.candidates, **self.options, **contract)
        loss: Tensor = self.criterion(**contract)(logits, target)
        return loss

    def __str__(self) -> str:
        values = {k: "tensor" if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return f"{self.kind.__name__}({','.join(f'{k}={v}' for k, v in values.items())})"


CASES = [
    Fused(nn.CrossEntropyLoss),
    Fused(criterium.IsoMaxLoss, {"entropic_scale": 3.0}),
    Fused(criterium.FocalLoss, {"gamma": 1.5}),
    Fused(criterium.Poly1CrossEntropyLoss),
    Fused(criterium.LDAMLoss, {"class_counts": COUNTS, "scale": 3.0}),
    Fused(criterium.LogitAdjustedCrossEntropyLoss, {"class_counts": COUNTS, "tau": 0.7}),
    Fused(criterium.LabelSmoothingCrossEntropyLoss, {"smoothing": 0.2}),
    Fused(criterium.MaxSupLoss, {"alpha": 0.3}),
    Fused(criterium.ComplementEntropyLoss),
    Fused(criterium.GuidedComplementEntropyLoss, {"alpha": 0.5}),
    Fused(criterium.HierarchicalComplementEntropyLoss, {"groups": GROUPS}),
    Fused(
        criterium.HierarchicalComplementEntropyLoss,
        {"groups": torch.stack([GROUPS // 2, GROUPS]), "level": "outer"},
    ),
    Fused(criterium.HierarchicalComplementEntropyLoss, {"groups": GROUPS, "level": "inner"}),
    Fused(criterium.MulticlassHingeLoss, {"margin": 0.8}),
    Fused(criterium.ZeroOneRelaxationLoss),
    Fused(criterium.ZeroOneRelaxationLoss, {"kind": "polynomial", "temperature": 2.0}),
    Fused(criterium.ZeroOneRelaxationLoss, {"kind": "beta_bernoulli", "a": 0.5, "b": -1.0}),
    Fused(criterium.ExactLoss, {"temperature": 0.7}),
    Fused(criterium.ExactLoss, {"temperature": 2.0, "margin": 0.5}),
    Fused(criterium.ExactLoss, {"standardize": True}),
    Fused(criterium.ExactLoss, {"k": 3, "temperature": 2.0}),
    Fused(criterium.ExactLoss, {"k": 2, "margin": 0.5}),
    Fused(criterium.ExactLoss, {"log": True, "temperature": 0.5}),
    Fused(criterium.ExactLoss, {"k": 4, "log": True, "margin": 1.0}),
    Fused(criterium.TopKCrossEntropyLoss, {"candidates": 8, "p_k": (0.4, 0.0, 0.6)}),
    Fused(criterium.TopKCrossEntropyLoss, {"candidates": 6, "p_k": (0.5, 0.5), "relaxation": "neuralsort"}),
    Fused(criterium.TopKSVMLoss, {"k": 3}),
    Fused(criterium.SmoothTopKSVMLoss, {"k": 3}, candidates=7),
    Fused(criterium.SmoothTopKSVMLoss, {"k": 2}, candidates=22),
    Fused(criterium.NoisedTopKHingeLoss, {"k": 3, "epsilon": 0.0, "samples": 2}),
    Fused(
        criterium.NoisedTopKHingeLoss,
        {"k": 2, "epsilon": 0.0, "margin": torch.linspace(0, 1, C), "scale": 3.0},
    ),
]
RIVALS = [loss for loss in CASES if loss.kind is criterium.ExactLoss and loss.options.keys() & {"k", "log"}]
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
    check(loss, soft, bias, features, weight, class_weight=torch.linspace(0.5, 2, C))


@each_loss
def test_gradients_are_those_of_the_value(loss: Fused) -> None:
    features, weight, target, bias = problem(torch.float64, rows=3)
    # EXACT's chance is a series good to 1e-7, its derivative one good to 1e-4 of the largest.
    near = 1e-4 if loss.kind is criterium.ExactLoss else 1e-7

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
        criterium.ExactLoss: 2 * 81,
        criterium.NoisedTopKHingeLoss: 128,
        criterium.TopKCrossEntropyLoss: 81,
        criterium.SmoothTopKSVMLoss: 96,
    }
    assert rows < largest <= 4 * rows * fixed.get(loss.kind, C)


def test_exact_at_k_makes_nothing_as_large_as_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    # It holds 2 MiB at a time and 2 KiB a row, so it takes many classes to tell.
    monkeypatch.setattr(scan, "block_size", lambda rows: 4000)
    rows, classes = 16, 40_000
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 2, generator=generator, requires_grad=True)
    weight = torch.randn(classes, 2, generator=generator, requires_grad=True)
    target = torch.randint(classes, (rows,), generator=generator)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as seen:
        results(Fused(criterium.ExactLoss, {"k": 2}).fused, target, None, features, weight)
    largest = max(int(event.self_cpu_memory_usage) for event in seen.events())
    assert rows < largest < 4 * rows * classes


@pytest.mark.parametrize("behind", [10.0, 60.0])
@pytest.mark.parametrize("k", [1, 3, C - 1])
def test_logarithm_of_exact_far_behind(k: int, behind: float) -> None:
    features, weight, target, bias = problem(torch.float64)
    with torch.no_grad():
        bias[target] -= behind
    loss = Fused(criterium.ExactLoss, {"k": k, "log": True})
    fused = results(loss.fused, target, bias, features, weight)
    plain = results(loss.reference, target, bias, features, weight)
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7 * float(theirs.abs().max()))


def focal(*args: Any, **options: Any) -> Tensor:
    return linear.linear_loss(criterium.FocalLoss(**options), *args)


def test_every_fused_form_is_a_case() -> None:
    functions = {plain_and_options(case.criterion(), case.candidates)[0] for case in CASES}
    assert functions == set(FORMS)


def test_leading_dimensions() -> None:
    features, weight, target, bias = problem(rows=6)
    cube = features.reshape(2, 3, D)
    loss = focal(cube, weight, target.reshape(2, 3), bias, reduction="none")
    flat = focal(features, weight, target, bias, reduction="none")
    assert torch.equal(loss, flat.reshape(2, 3))
    assert focal(features[0], weight, target[0], bias, reduction="none").shape == ()


def test_autocast_changes_nothing() -> None:
    features, weight, target, bias = problem()
    with torch.autocast("cpu", torch.bfloat16):
        loss = focal(features, weight, target, bias)
    assert torch.equal(loss, focal(features, weight, target, bias))


def test_noise_of_a_class_does_not_depend_on_the_classes_it_is_asked_with() -> None:
    like = torch.empty(40, 0)
    noise = noise_of(like, range(300), seed=7, sample=1)
    for part in (range(1), range(100, 200), range(128, 256), range(299, 300)):
        assert torch.equal(noise_of(like, part, seed=7, sample=1), noise[:, part.start : part.stop])
    others = [noise_of(like, range(300), seed=8, sample=1), noise_of(like, range(300), seed=7, sample=0)]
    for other in (*others, noise.roll(128, dims=1), noise.roll(1, dims=0)):
        # 12,000 products of independent normal numbers: six standard deviations.
        assert abs(float((other * noise).mean())) < 6 / 12_000**0.5
    assert (
        abs(float(noise.mean())) < 6 / 12_000**0.5 and abs(float(noise.var()) - 1) < 6 * (2 / 12_000) ** 0.5
    )


def draws(features: Tensor, seed: int, samples: int) -> Tensor:
    return torch.stack([noise_of(features, range(C), seed, sample) for sample in range(samples)], dim=2)


def test_noise_is_that_of_the_generator() -> None:
    features, weight, target, bias = problem()
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    generator = torch.Generator().manual_seed(5)
    fused = Fused(
        criterium.NoisedTopKHingeLoss, {"k": 2, "samples": 3, "epsilon": 0.7, "generator": generator}
    )
    given = Fused(criterium.NoisedTopKHingeLoss, {"k": 2, "epsilon": 0.7, "noise": draws(features, seed, 3)})
    theirs = results(given.reference, target, bias, features, weight)
    for our, their in zip(results(fused.fused, target, bias, features, weight), theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [5, None])
def test_noise_may_be_given(samples: int | None, block: int) -> None:
    features, weight, target, bias = problem()
    target[3] = -100
    noise = draws(features, 8, 4)
    loss = Fused(criterium.NoisedTopKHingeLoss, {"k": 3, "samples": samples, "noise": noise})
    check(loss, target, bias, features, weight, class_weight=torch.linspace(0.5, 2, C))


def test_noise_has_the_leading_dimensions_of_the_features() -> None:
    features, weight, target, bias = problem(rows=6)
    noise = draws(features, 8, 2)
    flat = criterium.NoisedTopKHingeLoss(k=2, noise=noise)
    cube = criterium.NoisedTopKHingeLoss(k=2, noise=noise.reshape(2, 3, C, 2))
    single = criterium.NoisedTopKHingeLoss(k=2, noise=noise[0])
    expected = linear.linear_loss(flat, features, weight, target, bias)
    loss = linear.linear_loss(cube, features.reshape(2, 3, D), weight, target.reshape(2, 3), bias)
    assert torch.equal(loss, expected)
    loss = linear.linear_loss(single, features[0], weight, target[0], bias)
    torch.testing.assert_close(loss, single(F.linear(features[0], weight, bias), target[0]))


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


def test_only_what_needs_a_gradient_gets_one() -> None:
    features, weight, target, bias = problem()
    loss = focal(features.detach(), weight, target, bias.detach())
    loss.backward()
    assert weight.grad is not None and features.grad is None and bias.grad is None


@pytest.mark.parametrize(
    "criterion, message",
    [
        (criterium.ExactLoss(k=C), "k: got 23, expected fewer than C = 23"),
        (criterium.TopKCrossEntropyLoss(), "candidates: got None"),
        (criterium.TopKCrossEntropyLoss(candidates=C), "candidates: got 23, expected fewer than C = 23"),
        (criterium.SmoothTopKSVMLoss(k=3), "candidates: got None.* smooth_topk_svm"),
        (criterium.TopKSVMLoss(k=C), "got 24"),
        (criterium.NoisedTopKHingeLoss(samples=None), "samples: got None"),
        (criterium.NoisedTopKHingeLoss(noise=torch.zeros(N, C - 1, 1)), r"noise: got shape \(7, 22, 1\)"),
        (criterium.NoisedTopKHingeLoss(noise=torch.zeros(N, C, 0)), r"noise: got shape \(7, 23, 0\)"),
        (criterium.NoisedTopKHingeLoss(noise=torch.zeros(C)), r"noise: got shape \(23,\)"),
        (criterium.FocalLoss(weight=torch.ones(3)), "weight: got shape"),
        (criterium.LDAMLoss(class_counts=torch.ones(3)), "class_counts: got shape"),
        (criterium.HierarchicalComplementEntropyLoss(groups=torch.zeros(3).long()), "groups: got shape"),
        (nn.MSELoss(), "criterion: MSELoss has no fused form, expected a loss module of criterium or"),
        (Doubled(), "criterion: Doubled has no fused form"),
        (F.cross_entropy, "criterion: function has no fused form"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "use criterium.LabelSmoothingCrossEntropyLoss"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_is_not_supported_says_so(criterion: nn.Module, message: str) -> None:
    features, weight, target, bias = problem()
    with pytest.raises(ValueError, match=message):
        linear.linear_loss(criterion, features, weight, target, bias)


def test_options_that_a_schedule_sets_wrong_say_so() -> None:
    features, _, target, _ = problem()
    for criterion, name, value, message in [
        (criterium.FocalLoss(), "gamma", -1.0, "gamma: got -1.0"),
        (criterium.FocalLoss(), "reduction", "men", "did you mean 'mean'"),
        (criterium.ExactLoss(), "temperature", 0.0, "temperature: got 0.0"),
        (criterium.NoisedTopKHingeLoss(), "noise", torch.zeros(N, C, 1), "noise: got a tensor, .* soft"),
        (
            criterium.ZeroOneRelaxationLoss(),
            "a",
            torch.tensor(1.0, requires_grad=True),
            "a: got a tensor that requires",
        ),
    ]:
        fused = linear.LinearCriterion(nn.Linear(D, C), criterion)
        setattr(criterion, name, value)
        soft = F.one_hot(target, C).float()
        with pytest.raises(ValueError, match=message):
            fused(features, soft if name == "noise" else target)


def test_candidates_are_numbers_for_losses_that_have_them() -> None:
    features, _, target, _ = problem()
    head, criterion = nn.Linear(D, C), criterium.TopKCrossEntropyLoss(p_k=(0.5, 0.5))
    fused = linear.LinearCriterion(head, criterion, candidates=5)
    criterion.candidates = 5
    torch.testing.assert_close(fused(features, target), criterion(head(features), target))
    with pytest.raises(ValueError, match="candidates: got 3, expected a whole number of at least 4"):
        linear.LinearCriterion(head, criterium.SmoothTopKSVMLoss(k=3), candidates=3)(features, target)
    with pytest.raises(ValueError, match="candidates: got 5, expected None for FocalLoss"):
        linear.LinearCriterion(head, criterium.FocalLoss(), candidates=5)


def test_shapes_that_do_not_fit_say_so() -> None:
    features, weight, target, bias = problem()
    for args, message in [
        ((features[:, :3], weight, target), "features: got"),
        ((features, weight[0], target), "weight: got"),
        ((features, weight, target[:3]), "target: got class indices .* for features of shape"),
        ((features, weight, torch.full((N, C), 1 / C)), "expected at most 8 a row"),
        ((features, weight, target, bias[:3]), "bias: got"),
        ((features, weight, target + C), "target: got class index"),
    ]:
        with pytest.raises(ValueError, match=message):
            focal(*args)
    with pytest.raises(ValueError, match="head: got ReLU"):
        linear.LinearCriterion(nn.ReLU(), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="MSELoss has no fused form"):
        linear.LinearCriterion(nn.Linear(2, 3), nn.MSELoss())


def test_equal_largest_logits_share_the_gradient_of_the_maximum() -> None:
    features, _, target, _ = problem()
    weight = torch.zeros(C, D, requires_grad=True)
    check(Fused(criterium.MaxSupLoss, {"alpha": 2.0}), target, None, features, weight)


# PyTorch hides this warning of its own, which pytest makes an error, too late.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_function_may_call_it() -> None:
    features, weight, target, bias = problem()

    @torch.compile(backend="aot_eager")
    def compiled(features: Tensor) -> Tensor:
        return focal(features, weight, target, bias)

    assert torch.equal(compiled(features), focal(features, weight, target, bias))
