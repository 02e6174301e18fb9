"""What every criterion promises, checked for each: a new loss is tested by adding its line to `LOSSES`."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from criterium import functional
from criterium.losses._contract import Criterion
from criterium.losses.complement import ComplementEntropyLoss, complement_entropy
from criterium.losses.exact import ExactLoss, exact_loss
from criterium.losses.focal import FocalLoss, focal_loss
from criterium.losses.guided_complement import GuidedComplementEntropyLoss, guided_complement_entropy
from criterium.losses.hierarchical_complement import (
    HierarchicalComplementEntropyLoss,
    hierarchical_complement_entropy,
)
from criterium.losses.hinge import MulticlassHingeLoss, multiclass_hinge
from criterium.losses.isomax import IsoMaxLoss, isomax_loss
from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss, label_smoothing_cross_entropy
from criterium.losses.ldam import LDAMLoss, ldam_loss
from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss, logit_adjusted_cross_entropy
from criterium.losses.maxsup import MaxSupLoss, maxsup_loss
from criterium.losses.noised_topk import NoisedTopKHingeLoss, noised_topk_hinge
from criterium.losses.poly1 import Poly1CrossEntropyLoss, poly1_cross_entropy
from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss, smooth_topk_svm, topk_svm
from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss, topk_cross_entropy
from criterium.losses.zero_one import ZeroOneRelaxationLoss, zero_one_relaxation


@dataclass(frozen=True)
class Loss:
    """A loss with one set of options, and what its maths does not give it."""

    function: Callable[..., Tensor]
    module: type[Criterion]
    options: dict[str, Any] = field(default_factory=dict)
    least_classes: int = 1
    couples_rows: bool = False
    """The loss of a row depends on the other rows of its batch."""
    ordered_classes: bool = False
    """The loss depends on the order of the classes."""
    noisy: bool = False
    """The loss draws `noise`: here every row of every batch gets the same."""
    relative: float = 1e-5
    """Tolerance in float32, relative to the largest loss or gradient of the batch."""

    def __call__(self, logits: Tensor, target: Tensor, **contract: Any) -> Tensor:
        return self.function(logits, target, **self.options, **self.noise(logits.shape), **contract)

    def criterion(self, **contract: Any) -> Criterion:
        """Return the module, for the logits of `_logits`."""
        return self.module(**self.options, **self.noise((ROWS, CLASSES)), **contract)

    def noise(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the draws for logits of a shape."""
        if not self.noisy:
            return {}
        classes = min(1, len(shape) - 1)
        draws = NOISE[: shape[classes]].reshape(-1, *[1] * len(shape[classes + 1 :]), NOISE.shape[1])
        return {"noise": draws.expand(*shape, -1)}

    def __str__(self) -> str:
        values = {k: "tensor" if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return f"{self.function.__name__}({','.join(f'{k}={v}' for k, v in values.items())})"


ROWS, CLASSES = 6, 5
NOISE = torch.randn(CLASSES, 4, generator=torch.Generator().manual_seed(9))
MARGINS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
TOPK = (topk_cross_entropy, TopKCrossEntropyLoss)
GUIDED = (guided_complement_entropy, GuidedComplementEntropyLoss)
HCOT = (hierarchical_complement_entropy, HierarchicalComplementEntropyLoss)
GROUPS = torch.tensor([3, 0, 0, 3, 3])
TREE = torch.tensor([[1, 0, 0, 1, 1], [1, 0, 2, 1, 1]])
HINGE = (noised_topk_hinge, NoisedTopKHingeLoss)
COUNTS = torch.tensor([50, 20, 10, 4, 1])
LDAM = (ldam_loss, LDAMLoss)
ADJUSTED = (logit_adjusted_cross_entropy, LogitAdjustedCrossEntropyLoss)
ZERO_ONE = (zero_one_relaxation, ZeroOneRelaxationLoss)
SMOOTH_SVM = (smooth_topk_svm, SmoothTopKSVMLoss)

LOSSES = [
    Loss(exact_loss, ExactLoss),
    Loss(exact_loss, ExactLoss, {"temperature": 0.3, "margin": 0.5}),
    Loss(exact_loss, ExactLoss, {"standardize": True}, couples_rows=True),
    Loss(exact_loss, ExactLoss, {"k": 2}, least_classes=2),
    Loss(exact_loss, ExactLoss, {"k": 3, "log": True}, least_classes=3),
    Loss(exact_loss, ExactLoss, {"log": True, "temperature": 0.5}),
    Loss(*TOPK, {"p_k": (0.5, 0.0, 0.5)}, least_classes=4, ordered_classes=True),
    Loss(
        *TOPK,
        {"p_k": (0.0, 1.0), "relaxation": "bitonic", "top1": "sort"},
        least_classes=3,
        ordered_classes=True,
    ),
    Loss(*TOPK, {"p_k": (0.5, 0.5), "distribution": "logistic_phi", "candidates": 4}, least_classes=4),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "neuralsort", "top1": "softmax_ce"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "softsort"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "lapsum"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "sinkhorn"}, least_classes=3),
    Loss(*HINGE, {"k": 2, "epsilon": 0.5}, least_classes=3, noisy=True, ordered_classes=True),
    Loss(
        *HINGE,
        {"k": 1, "epsilon": 0.0, "margin": 2.0, "scale": 3.0, "samples": 1},
        least_classes=2,
        noisy=True,
    ),
    Loss(*HINGE, {"k": 1, "margin": MARGINS}, least_classes=5, noisy=True, ordered_classes=True),
    Loss(*HINGE, {"k": 2, "epsilon": 0.5, "samples": None}, least_classes=3),
    Loss(
        *HINGE,
        {"k": 1, "epsilon": 2.0, "margin": MARGINS, "samples": None},
        least_classes=5,
        ordered_classes=True,
    ),
    Loss(isomax_loss, IsoMaxLoss),
    Loss(isomax_loss, IsoMaxLoss, {"entropic_scale": 0.7}),
    Loss(complement_entropy, ComplementEntropyLoss),
    Loss(*GUIDED),
    Loss(*GUIDED, {"alpha": 2.0}),
    Loss(*HCOT, {"groups": GROUPS}, least_classes=5, ordered_classes=True),
    Loss(*HCOT, {"groups": GROUPS, "level": "inner"}, least_classes=5, ordered_classes=True),
    Loss(*HCOT, {"groups": TREE.int(), "level": "outer"}, least_classes=5, ordered_classes=True),
    Loss(*HCOT, {"groups": torch.zeros(5).long()}, least_classes=5),
    Loss(focal_loss, FocalLoss),
    Loss(focal_loss, FocalLoss, {"gamma": 0.5}),
    Loss(poly1_cross_entropy, Poly1CrossEntropyLoss),
    Loss(poly1_cross_entropy, Poly1CrossEntropyLoss, {"epsilon": -0.5}),
    Loss(*LDAM, {"class_counts": COUNTS}, least_classes=5, ordered_classes=True),
    Loss(
        *LDAM,
        {"class_counts": COUNTS.double(), "max_margin": 2.0, "scale": 0.5},
        least_classes=5,
        ordered_classes=True,
    ),
    Loss(*ADJUSTED, {"class_counts": COUNTS}, least_classes=5, ordered_classes=True),
    Loss(*ADJUSTED, {"class_counts": torch.full((5,), 7), "tau": 2.0}, least_classes=5),
    Loss(maxsup_loss, MaxSupLoss),
    Loss(maxsup_loss, MaxSupLoss, {"alpha": 3.0}),
    Loss(multiclass_hinge, MulticlassHingeLoss),
    Loss(*ZERO_ONE),
    Loss(*ZERO_ONE, {"kind": "polynomial", "temperature": 2.0}),
    Loss(*ZERO_ONE, {"kind": "beta_bernoulli", "temperature": 0.5, "a": 0.3}),
    Loss(*ZERO_ONE, {"kind": "beta_bernoulli", "a": torch.tensor(-1.5), "b": torch.tensor(0.5)}),
    Loss(label_smoothing_cross_entropy, LabelSmoothingCrossEntropyLoss),
    Loss(*SMOOTH_SVM, {"k": 1}, least_classes=2),
    Loss(*SMOOTH_SVM, {"k": 2}, least_classes=3),
    Loss(*SMOOTH_SVM, {"k": 2, "temperature": 0.1, "margin": 0.0}, least_classes=3),
    Loss(*SMOOTH_SVM, {"k": 4, "temperature": 3.0}, least_classes=5),
    Loss(topk_svm, TopKSVMLoss, {"k": 1}, least_classes=2),
    Loss(topk_svm, TopKSVMLoss, {"k": 3, "margin": 2.0}, least_classes=4),
]

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)
every_loss_of_rows = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if not loss.couples_rows], ids=str
)
every_loss_of_classes = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if not loss.ordered_classes], ids=str
)


def _logits(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (2 * torch.randn(shape or (ROWS, CLASSES), generator=generator, dtype=torch.float64)).to(dtype)


def _target(*shape: int, classes: int = CLASSES) -> Tensor:
    return torch.randint(classes, shape or (ROWS,), generator=torch.Generator().manual_seed(8))


def _distribution() -> Tensor:
    """Two classes a row, as of mixup; the third row has one class, the fourth all."""
    rows = torch.zeros(ROWS, CLASSES, dtype=torch.float64)
    first, second = _target(), (_target() + torch.arange(ROWS) % 3 + 1) % CLASSES
    rows[torch.arange(ROWS), first] += 0.3
    rows[torch.arange(ROWS), second] += 0.7
    rows[2] = torch.eye(CLASSES, dtype=torch.float64)[4]
    rows[3] = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    return rows


def _weight() -> Tensor:
    return torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0], dtype=torch.float64)


def _with_gradient(call: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = call(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _close(found: Tensor, expected: Tensor, relative: float = 1e-9) -> None:
    """Equal in shape and type, and in value relative to the largest entry."""
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=max(relative * largest, 1e-12))


def test_every_public_loss_is_in_the_suite() -> None:
    # Not losses of a row: a probability, class weights, the loss of a mixed batch, and what mixes it.
    others = {"expected_accuracy", "effective_number_weight", "fractional_probability_loss"}
    others |= {"mix_quadrants", "mixed_targets"}
    assert {loss.function.__name__ for loss in LOSSES} == set(functional.__all__) - others


# Reduction, weights, ignored rows


@every_loss
def test_reduction(loss: Loss) -> None:
    rows = loss(_logits(), _target(), reduction="none")
    assert rows.shape == (ROWS,)
    assert rows.unique().numel() > 1
    _close(loss(_logits(), _target(), reduction="sum"), rows.sum())
    _close(loss(_logits(), _target(), reduction="mean"), rows.mean())
    _close(loss(_logits(), _target()), rows.mean())


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_weight(loss: Loss, soft: bool) -> None:
    target = _distribution() if soft else _target()
    weights = target @ _weight() if soft else _weight()[target]
    rows = loss(_logits(), target, reduction="none")
    options = {"weight": _weight()}
    _close(loss(_logits(), target, reduction="none", **options), weights * rows)
    _close(loss(_logits(), target, reduction="sum", **options), (weights * rows).sum())
    _close(loss(_logits(), target, **options), (weights * rows).sum() / weights.sum())
    # The weight may be of another precision than the logits.
    _close(loss(_logits(), target, weight=_weight().float()), loss(_logits(), target, **options), 1e-6)


@every_loss
@pytest.mark.parametrize("ignored", [-100, 255, 1])
@pytest.mark.parametrize("weight", [None, _weight()], ids=["equal", "weighted"])
def test_two_rows_one_ignored_is_one_row(loss: Loss, ignored: int, weight: Tensor | None) -> None:
    logits, target = _logits(2, CLASSES), torch.tensor([ignored, 4])
    for reduction in ("mean", "sum"):
        options = {"weight": weight, "ignore_index": ignored, "reduction": reduction}
        found, gradient = _with_gradient(lambda x, o=options: loss(x, target, **o), logits)
        one, its_gradient = _with_gradient(lambda x, o=options: loss(x, target[1:], **o), logits[1:])
        _close(found, one)
        _close(gradient[1:], its_gradient)
        assert not gradient[0].any()
    rows = loss(logits, target, weight=weight, ignore_index=ignored, reduction="none")
    assert rows[0] == 0
    _close(rows[1:], loss(logits[1:], target[1:], weight=weight, reduction="none"))


@every_loss
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_where_no_row_counts_the_loss_is_zero(loss: Loss, rows: int, reduction: str) -> None:
    target = torch.full((rows,), -100)
    for weight in (None, _weight()):
        found, gradient = _with_gradient(
            lambda x, w=weight: loss(x, target, weight=w, reduction=reduction), _logits(rows, CLASSES)
        )
        assert found.shape == ((rows,) if reduction == "none" else ())
        assert not found.any()
        assert not gradient.any()


@every_loss
def test_weights_of_zero_are_as_no_row(loss: Loss) -> None:
    found, gradient = _with_gradient(lambda x: loss(x, _target(), weight=torch.zeros(CLASSES)), _logits())
    assert found == 0
    assert not gradient.any()


# Soft targets


@every_loss
@pytest.mark.parametrize("weight", [None, _weight()], ids=["equal", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_hot_is_the_index(loss: Loss, reduction: str, weight: Tensor | None) -> None:
    one_hot = torch.nn.functional.one_hot(_target(), CLASSES).double()
    options = {"weight": weight, "reduction": reduction}
    found, gradient = _with_gradient(lambda x: loss(x, one_hot, **options), _logits())
    expected, its_gradient = _with_gradient(lambda x: loss(x, _target(), **options), _logits())
    _close(found, expected)
    _close(gradient, its_gradient)


@every_loss
def test_soft_target_is_the_expectation(loss: Loss) -> None:
    def expectation(logits: Tensor) -> Tensor:
        each = [loss(logits, torch.full((ROWS,), k), reduction="none") for k in range(CLASSES)]
        return (_distribution() * torch.stack(each, dim=1)).sum(dim=1)

    found, gradient = _with_gradient(lambda x: loss(x, _distribution(), reduction="none"), _logits())
    expected, its_gradient = _with_gradient(expectation, _logits())
    _close(found, expected)
    _close(gradient, its_gradient)
    _close(loss(_logits(), _distribution()), expected.mean())


# Shapes


@every_loss
def test_more_dimensions(loss: Loss) -> None:
    logits, target = _logits(2, CLASSES, 3, 4), _target(2, 3, 4)
    table = logits.movedim(1, -1).reshape(-1, CLASSES)
    rows = loss(table, target.flatten(), reduction="none").reshape(2, 3, 4)
    _close(loss(logits, target, reduction="none"), rows)
    _close(loss(logits, target), rows.mean())
    soft = torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).double()
    _close(loss(logits, soft, reduction="none"), rows)
    ignoring = target.clone()
    ignoring[1, 2] = -100
    flat = loss(table, ignoring.flatten(), reduction="none").reshape(2, 3, 4)
    _close(loss(logits, ignoring, reduction="none"), flat)
    assert not flat[1, 2].any()


@every_loss
def test_one_row(loss: Loss) -> None:
    logits, target = _logits()[:1], _target()[:1]
    row = loss(logits, target, reduction="none")
    assert row.shape == (1,)
    for reduction in ("none", "mean", "sum"):
        alone = loss(logits[0], target[0], reduction=reduction)
        assert alone.shape == ()
        _close(alone, row[0])
        _close(loss(logits[0], torch.eye(CLASSES).double()[target[0]], reduction=reduction), row[0])


@every_loss_of_rows
def test_a_row_does_not_depend_on_its_batch(loss: Loss) -> None:
    rows = loss(_logits(), _target(), reduction="none")
    for i in range(ROWS):
        _close(loss(_logits()[i], _target()[i]), rows[i])


@every_loss
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes(loss: Loss, classes: int) -> None:
    if classes < loss.least_classes:
        with pytest.raises(
            ValueError, match=r"(k|p_k|candidates|margin|class_counts|groups): got .*, expected"
        ):
            loss(_logits(4, classes), torch.arange(4) % classes)
        return
    logits, target = _logits(4, classes), torch.arange(4) % classes
    found, gradient = _with_gradient(lambda x: loss(x, target, reduction="none"), logits)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


@every_loss
def test_strides_do_not_matter(loss: Loss) -> None:
    logits, target = _logits(), _target()
    expected, its_gradient = _with_gradient(lambda x: loss(x, target), logits)
    found, gradient = _with_gradient(lambda x: loss(x.T, target), logits.T.contiguous())
    _close(found, expected)
    _close(gradient.T, its_gradient)
    spread = torch.stack([logits, -logits], dim=2)[..., 0]
    assert not spread.is_contiguous()
    _close(loss(spread, torch.stack([target, target], dim=1)[:, 0]), expected)
    repeated = logits[:1].expand(ROWS, -1)
    _close(loss(repeated, target[:1].expand(ROWS)), loss(repeated.clone(), target[:1].repeat(ROWS)))


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integers_are_class_indices(loss: Loss, dtype: torch.dtype) -> None:
    _close(loss(_logits(), _target().to(dtype)), loss(_logits(), _target()))


# Numbers


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("soft", [False, True])
def test_low_precision_is_computed_in_float32(loss: Loss, dtype: torch.dtype, soft: bool) -> None:
    logits = _logits(dtype=dtype)
    target = _distribution().to(dtype) if soft else _target()
    wide = target.double() if soft else target
    found, gradient = _with_gradient(lambda x: loss(x, target, reduction="none"), logits)
    expected, its_gradient = _with_gradient(lambda x: loss(x, wide, reduction="none"), logits.double())
    assert found.dtype == torch.float32
    assert gradient.dtype == dtype
    _close(found.double(), expected, loss.relative)
    # The gradient goes back in the type that came in, with its digits.
    _close(gradient.double(), its_gradient, max(loss.relative, torch.finfo(dtype).eps))


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck(loss: Loss, soft: bool) -> None:
    target = _distribution() if soft else _target()
    for options in ({}, {"weight": _weight(), "reduction": "none"}):
        call = lambda x, o=options: loss(x, target, **o)  # noqa: E731
        assert torch.autograd.gradcheck(call, _logits().requires_grad_())


EXTREMES = {
    "equal": torch.zeros(ROWS, CLASSES),
    "all high": torch.full((ROWS, CLASSES), 1e4),
    "all low": torch.full((ROWS, CLASSES), -1e4),
    "one high": 1e4 * torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES],
    "one low": -1e4 * torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES],
    "both": 1e4 * torch.linspace(-1, 1, CLASSES).repeat(ROWS, 1),
    "one-hot": torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES],
    "ties": torch.tensor([[3.0, 3.0, -1.0, -1.0, 3.0]]).repeat(ROWS, 1),
}


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_logits_give_finite_numbers(loss: Loss, name: str, dtype: torch.dtype) -> None:
    logits = EXTREMES[name].to(dtype)
    # Every class is the true one of some row: right, wrong and middle.
    for target in (torch.arange(ROWS) % CLASSES, torch.arange(1, ROWS + 1) % CLASSES, _distribution()):
        found, gradient = _with_gradient(lambda x, t=target: loss(x, t, reduction="none"), logits)
        assert found.isfinite().all()
        assert gradient.isfinite().all()


# Symmetries


@every_loss_of_classes
def test_the_names_of_the_classes_do_not_matter(loss: Loss) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    for target, permuted in (
        (_target(), order.argsort()[_target()]),
        (_distribution(), _distribution()[:, order]),
    ):
        found, gradient = _with_gradient(lambda x, t=permuted: loss(x, t), _logits()[:, order])
        expected, its_gradient = _with_gradient(lambda x, t=target: loss(x, t), _logits())
        _close(found, expected)
        _close(gradient, its_gradient[:, order])


@every_loss
def test_a_common_shift_of_the_logits_does_not_matter(loss: Loss) -> None:
    shift = 30.0 if loss.couples_rows else 10.0 * torch.arange(ROWS).unsqueeze(1)
    expected, its_gradient = _with_gradient(lambda x: loss(x, _target()), _logits())
    found, gradient = _with_gradient(lambda x: loss(x, _target()), _logits() + shift)
    _close(found, expected)
    _close(gradient, its_gradient)


# The ways of torch


# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@every_loss
def test_compile(loss: Loss) -> None:
    torch._dynamo.reset()
    target = _target()
    compiled = torch.compile(lambda x: loss(x, target, weight=_weight()), fullgraph=True, backend="aot_eager")
    found, gradient = _with_gradient(compiled, _logits())
    expected, its_gradient = _with_gradient(lambda x: loss(x, target, weight=_weight()), _logits())
    _close(found, expected)
    _close(gradient, its_gradient)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "loss", [Loss(isomax_loss, IsoMaxLoss), Loss(complement_entropy, ComplementEntropyLoss)], ids=str
)
def test_compile_with_soft_targets(loss: Loss) -> None:
    """With a closed form for all classes, and with one evaluation for each class that has mass."""
    torch._dynamo.reset()
    target = _distribution()
    compiled = torch.compile(lambda x: loss(x, target), fullgraph=True, backend="aot_eager")
    found, gradient = _with_gradient(compiled, _logits())
    expected, its_gradient = _with_gradient(lambda x: loss(x, target), _logits())
    _close(found, expected)
    _close(gradient, its_gradient)


@every_loss
def test_vmap(loss: Loss) -> None:
    # Each row is a batch of its own.
    pairs = zip(_logits(), _target(), strict=True)
    alone = [_with_gradient(lambda x, y=y: loss(x, y), row) for row, y in pairs]
    rows, gradients = (torch.stack(values) for values in zip(*alone, strict=True))
    _close(torch.func.vmap(loss)(_logits(), _target()), rows)
    _close(torch.func.vmap(torch.func.grad(loss))(_logits(), _target()), gradients)


@every_loss
def test_export(loss: Loss) -> None:
    program = torch.export.export(loss.criterion(), (_logits(), _target()))
    _close(program.module()(_logits(), _target()), loss(_logits(), _target()))


@every_loss
def test_autocast_changes_nothing(loss: Loss) -> None:
    for logits in (_logits(dtype=torch.float32), _logits(dtype=torch.bfloat16)):
        for target in (_target(), _distribution()):
            expected, its_gradient = _with_gradient(lambda x, t=target: loss(x, t), logits)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found, gradient = _with_gradient(lambda x, t=target: loss(x, t), logits)
            assert torch.equal(found, expected)
            assert torch.equal(gradient, its_gradient)


@every_loss
def test_inputs_are_left_alone(loss: Loss) -> None:
    logits, target, soft = _logits(), _target(), _distribution()
    loss(logits, target)
    loss(logits, soft)
    assert torch.equal(logits, _logits())
    assert torch.equal(target, _target())
    assert torch.equal(soft, _distribution())


# The module


@every_loss
def test_module_is_the_function(loss: Loss) -> None:
    for contract in ({}, {"weight": _weight(), "ignore_index": 2, "reduction": "sum"}):
        criterion = loss.criterion(**contract)
        for target in (_target(), _distribution()):
            assert torch.equal(criterion(_logits(), target), loss(_logits(), target, **contract))
        assert not list(criterion.parameters())
        for name, value in loss.options.items():
            # A tensor may take several lines, which a module indents.
            assert "".join(f"{name}={value!r}".split()) in "".join(repr(criterion).split())


@every_loss
def test_module_copies(loss: Loss) -> None:
    criterion = loss.criterion(weight=_weight())
    expected = criterion(_logits(), _target())
    assert torch.equal(copy.deepcopy(criterion)(_logits(), _target()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(criterion))(_logits(), _target()), expected)
    other = loss.criterion(weight=torch.ones(CLASSES, dtype=torch.float64))
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other(_logits(), _target()), expected)
    assert criterion.float().weight.dtype == torch.float32


@every_loss
def test_options_may_change_between_steps(loss: Loss) -> None:
    needed = {
        name: loss.options[name]
        for name, option in inspect.signature(loss.module).parameters.items()
        if option.default is option.empty
    }
    criterion = loss.module(**needed)
    for name, value in (loss.options | loss.noise((ROWS, CLASSES))).items():
        setattr(criterion, name, value)
    criterion.reduction = "none"
    assert torch.equal(criterion(_logits(), _target()), loss(_logits(), _target(), reduction="none"))


# Bad input

BAD = {
    r"logits: got dtype torch.int64, expected a floating-point": {"logits": torch.zeros(2, CLASSES).long()},
    r"logits: got shape \(\), expected \(N, C\)": {"logits": torch.tensor(1.0)},
    r"logits: got shape \(2, 0\), expected \(N, C\)": {"logits": torch.zeros(2, 0)},
    r"target: got class indices of shape \(3,\), expected \(2,\)": {"target": torch.zeros(3).long()},
    r"target: got class indices of shape \(2, 5\), expected \(2,\)": {
        "target": torch.zeros(2, CLASSES).long()
    },
    r"target: got class probabilities of shape \(2, 4\), expected \(2, 5\)": {"target": torch.zeros(2, 4)},
    r"target: got class probabilities of shape \(2,\), expected \(2, 5\)": {"target": torch.zeros(2)},
    r"target: got dtype torch.bool, expected class indices": {"target": torch.zeros(2).bool()},
    r"target: got class index 5, expected 0 to 4 or ignore_index=-100": {"target": torch.tensor([0, 5])},
    r"target: got class index -1, expected 0 to 4 or ignore_index=-100": {"target": torch.tensor([-1, 0])},
    r"weight: got shape \(4,\), expected \(5,\)": {"weight": torch.ones(4)},
    r"reduction: got 'maen', expected one of none, mean, sum; did you mean 'mean'": {"reduction": "maen"},
}


@every_loss
@pytest.mark.parametrize("message", BAD)
def test_bad_input(loss: Loss, message: str) -> None:
    arguments = {"logits": torch.zeros(2, CLASSES), "target": torch.tensor([0, 1])} | BAD[message]
    with pytest.raises(ValueError, match=message):
        loss.function(**arguments, **loss.options)


@every_loss
def test_bad_reduction_of_a_module(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"reduction: got 'Sum', .*; did you mean 'sum'"):
        loss.criterion(reduction="Sum")
