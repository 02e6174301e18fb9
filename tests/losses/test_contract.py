"""What every criterion promises, checked for each of `conformance.LOSSES`."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from conformance import (
    CLASSES,
    LOSSES,
    ROWS,
    Loss,
    close,
    every_loss,
    every_loss_of_rows,
    some_distribution,
    some_logits,
    some_target,
    some_weight,
    with_gradient,
)
from torch import Tensor

from criterium import functional
from criterium.losses.complement import ComplementEntropyLoss, complement_entropy
from criterium.losses.isomax import IsoMaxLoss, isomax_loss


def test_every_public_loss_is_in_the_suite() -> None:
    # Not losses of a row: a probability, class weights, the loss of a mixed batch, and what mixes it.
    others = {"expected_accuracy", "effective_number_weight", "fractional_probability_loss"}
    others |= {"mix_quadrants", "mixed_targets"}
    assert {loss.function.__name__ for loss in LOSSES} == set(functional.__all__) - others


# Reduction, weights, ignored rows


@every_loss
def test_reduction(loss: Loss) -> None:
    rows = loss(some_logits(), some_target(), reduction="none")
    assert rows.shape == (ROWS,)
    assert rows.unique().numel() > 1
    close(loss(some_logits(), some_target(), reduction="sum"), rows.sum())
    close(loss(some_logits(), some_target(), reduction="mean"), rows.mean())
    close(loss(some_logits(), some_target()), rows.mean())


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_weight(loss: Loss, soft: bool) -> None:
    target = some_distribution() if soft else some_target()
    weights = target @ some_weight() if soft else some_weight()[target]
    # Rows of weight 0 are no part of anything, statistics of the batch neither.
    counting = weights != 0
    rows = torch.zeros(ROWS, dtype=torch.float64)
    rows[counting] = loss(some_logits()[counting], target[counting], reduction="none")
    options = {"weight": some_weight()}
    close(loss(some_logits(), target, reduction="none", **options), weights * rows)
    close(loss(some_logits(), target, reduction="sum", **options), (weights * rows).sum())
    close(loss(some_logits(), target, **options), (weights * rows).sum() / weights.sum())
    # The weight may be of another precision than the logits.
    close(
        loss(some_logits(), target, weight=some_weight().float()),
        loss(some_logits(), target, **options),
        1e-6,
    )


@every_loss
@pytest.mark.parametrize("ignored", [-100, 255, 1])
@pytest.mark.parametrize("weight", [None, some_weight()], ids=["equal", "weighted"])
def test_two_rows_one_ignored_is_one_row(loss: Loss, ignored: int, weight: Tensor | None) -> None:
    logits, target = some_logits(2, CLASSES), torch.tensor([ignored, 4])
    for reduction in ("mean", "sum"):
        options = {"weight": weight, "ignore_index": ignored, "reduction": reduction}
        found, gradient = with_gradient(lambda x, o=options: loss(x, target, **o), logits)
        one, its_gradient = with_gradient(lambda x, o=options: loss(x, target[1:], **o), logits[1:])
        close(found, one)
        close(gradient[1:], its_gradient)
        assert not gradient[0].any()
    rows = loss(logits, target, weight=weight, ignore_index=ignored, reduction="none")
    assert rows[0] == 0
    close(rows[1:], loss(logits[1:], target[1:], weight=weight, reduction="none"))


@every_loss
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_where_no_row_counts_the_loss_is_zero(loss: Loss, rows: int, reduction: str) -> None:
    target = torch.full((rows,), -100)
    for weight in (None, some_weight()):
        found, gradient = with_gradient(
            lambda x, w=weight: loss(x, target, weight=w, reduction=reduction), some_logits(rows, CLASSES)
        )
        assert found.shape == ((rows,) if reduction == "none" else ())
        assert not found.any()
        assert not gradient.any()


@every_loss
def test_weights_of_zero_are_as_no_row(loss: Loss) -> None:
    found, gradient = with_gradient(
        lambda x: loss(x, some_target(), weight=torch.zeros(CLASSES)), some_logits()
    )
    assert found == 0
    assert not gradient.any()


# Soft targets


@every_loss
@pytest.mark.parametrize("weight", [None, some_weight()], ids=["equal", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_hot_is_the_index(loss: Loss, reduction: str, weight: Tensor | None) -> None:
    one_hot = torch.nn.functional.one_hot(some_target(), CLASSES).double()
    options = {"weight": weight, "reduction": reduction}
    found, gradient = with_gradient(lambda x: loss(x, one_hot, **options), some_logits())
    expected, its_gradient = with_gradient(lambda x: loss(x, some_target(), **options), some_logits())
    close(found, expected)
    close(gradient, its_gradient)


@every_loss
def test_soft_target_is_the_expectation(loss: Loss) -> None:
    def expectation(logits: Tensor) -> Tensor:
        each = [loss(logits, torch.full((ROWS,), k), reduction="none") for k in range(CLASSES)]
        return (some_distribution() * torch.stack(each, dim=1)).sum(dim=1)

    found, gradient = with_gradient(lambda x: loss(x, some_distribution(), reduction="none"), some_logits())
    expected, its_gradient = with_gradient(expectation, some_logits())
    close(found, expected)
    close(gradient, its_gradient)
    close(loss(some_logits(), some_distribution()), expected.mean())


# Shapes


@every_loss
def test_more_dimensions(loss: Loss) -> None:
    logits, target = some_logits(2, CLASSES, 3, 4), some_target(2, 3, 4)
    table = logits.movedim(1, -1).reshape(-1, CLASSES)
    rows = loss(table, target.flatten(), reduction="none").reshape(2, 3, 4)
    close(loss(logits, target, reduction="none"), rows)
    close(loss(logits, target), rows.mean())
    soft = torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).double()
    close(loss(logits, soft, reduction="none"), rows)
    ignoring = target.clone()
    ignoring[1, 2] = -100
    flat = loss(table, ignoring.flatten(), reduction="none").reshape(2, 3, 4)
    close(loss(logits, ignoring, reduction="none"), flat)
    assert not flat[1, 2].any()


@every_loss
def test_one_row(loss: Loss) -> None:
    logits, target = some_logits()[:1], some_target()[:1]
    row = loss(logits, target, reduction="none")
    assert row.shape == (1,)
    for reduction in ("none", "mean", "sum"):
        alone = loss(logits[0], target[0], reduction=reduction)
        assert alone.shape == ()
        close(alone, row[0])
        close(loss(logits[0], torch.eye(CLASSES).double()[target[0]], reduction=reduction), row[0])


@every_loss_of_rows
def test_a_row_does_not_depend_on_its_batch(loss: Loss) -> None:
    rows = loss(some_logits(), some_target(), reduction="none")
    for i in range(ROWS):
        close(loss(some_logits()[i], some_target()[i]), rows[i])


@every_loss
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes(loss: Loss, classes: int) -> None:
    if classes < loss.least_classes:
        with pytest.raises(
            ValueError, match=r"(k|p_k|candidates|margin|class_counts|groups): got .*, expected"
        ):
            loss(some_logits(4, classes), torch.arange(4) % classes)
        return
    logits, target = some_logits(4, classes), torch.arange(4) % classes
    found, gradient = with_gradient(lambda x: loss(x, target, reduction="none"), logits)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


@every_loss
def test_strides_do_not_matter(loss: Loss) -> None:
    logits, target = some_logits(), some_target()
    expected, its_gradient = with_gradient(lambda x: loss(x, target), logits)
    found, gradient = with_gradient(lambda x: loss(x.T, target), logits.T.contiguous())
    close(found, expected)
    close(gradient.T, its_gradient)
    spread = torch.stack([logits, -logits], dim=2)[..., 0]
    assert not spread.is_contiguous()
    close(loss(spread, torch.stack([target, target], dim=1)[:, 0]), expected)
    repeated = logits[:1].expand(ROWS, -1)
    close(loss(repeated, target[:1].expand(ROWS)), loss(repeated.clone(), target[:1].repeat(ROWS)))


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integers_are_class_indices(loss: Loss, dtype: torch.dtype) -> None:
    close(loss(some_logits(), some_target().to(dtype)), loss(some_logits(), some_target()))


# Numbers


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("soft", [False, True])
def test_low_precision_is_computed_in_float32(loss: Loss, dtype: torch.dtype, soft: bool) -> None:
    logits = some_logits(dtype=dtype)
    target = some_distribution().to(dtype) if soft else some_target()
    wide = target.double() if soft else target
    found, gradient = with_gradient(lambda x: loss(x, target, reduction="none"), logits)
    expected, its_gradient = with_gradient(lambda x: loss(x, wide, reduction="none"), logits.double())
    assert found.dtype == torch.float32
    assert gradient.dtype == dtype
    close(found.double(), expected, loss.relative)
    # The gradient goes back in the type that came in, with its digits.
    close(gradient.double(), its_gradient, max(loss.relative, torch.finfo(dtype).eps))


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck(loss: Loss, soft: bool) -> None:
    target = some_distribution() if soft else some_target()
    for options in ({}, {"weight": some_weight(), "reduction": "none"}):
        call = lambda x, o=options: loss(x, target, **o)  # noqa: E731
        assert torch.autograd.gradcheck(call, some_logits().requires_grad_())


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
    for target in (torch.arange(ROWS) % CLASSES, torch.arange(1, ROWS + 1) % CLASSES, some_distribution()):
        found, gradient = with_gradient(lambda x, t=target: loss(x, t, reduction="none"), logits)
        assert found.isfinite().all()
        assert gradient.isfinite().all()


# Symmetries


@every_loss
def test_the_numbers_of_the_classes_do_not_matter(loss: Loss) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    renumbered = loss.renumbered(order)
    for target, permuted in (
        (some_target(), order.argsort()[some_target()]),
        (some_distribution(), some_distribution()[:, order]),
    ):
        found, gradient = with_gradient(lambda x, t=permuted: renumbered(x, t), some_logits()[:, order])
        expected, its_gradient = with_gradient(lambda x, t=target: loss(x, t), some_logits())
        close(found, expected)
        close(gradient, its_gradient[:, order])


@every_loss
def test_a_common_shift_of_the_logits_does_not_matter(loss: Loss) -> None:
    shift = 30.0 if loss.couples_rows else 10.0 * torch.arange(ROWS).unsqueeze(1)
    expected, its_gradient = with_gradient(lambda x: loss(x, some_target()), some_logits())
    found, gradient = with_gradient(lambda x: loss(x, some_target()), some_logits() + shift)
    close(found, expected)
    close(gradient, its_gradient)


# The ways of torch


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "loss", [Loss(isomax_loss, IsoMaxLoss), Loss(complement_entropy, ComplementEntropyLoss)], ids=str
)
def test_compile_with_soft_targets(loss: Loss) -> None:
    """With a closed form for all classes, and with one evaluation for each class that has mass."""
    torch._dynamo.reset()
    target = some_distribution()
    compiled = torch.compile(lambda x: loss(x, target), fullgraph=True, backend="aot_eager")
    found, gradient = with_gradient(compiled, some_logits())
    expected, its_gradient = with_gradient(lambda x: loss(x, target), some_logits())
    close(found, expected)
    close(gradient, its_gradient)


@every_loss
def test_vmap(loss: Loss) -> None:
    # Each row is a batch of its own.
    pairs = zip(some_logits(), some_target(), strict=True)
    alone = [with_gradient(lambda x, y=y: loss(x, y), row) for row, y in pairs]
    rows, gradients = (torch.stack(values) for values in zip(*alone, strict=True))
    close(torch.func.vmap(loss)(some_logits(), some_target()), rows)
    close(torch.func.vmap(torch.func.grad(loss))(some_logits(), some_target()), gradients)


@every_loss
def test_export(loss: Loss) -> None:
    program = torch.export.export(loss.criterion(), (some_logits(), some_target()))
    close(program.module()(some_logits(), some_target()), loss(some_logits(), some_target()))


@every_loss
def test_autocast_changes_nothing(loss: Loss) -> None:
    for logits in (some_logits(dtype=torch.float32), some_logits(dtype=torch.bfloat16)):
        for target in (some_target(), some_distribution()):
            expected, its_gradient = with_gradient(lambda x, t=target: loss(x, t), logits)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found, gradient = with_gradient(lambda x, t=target: loss(x, t), logits)
            assert torch.equal(found, expected)
            assert torch.equal(gradient, its_gradient)


@every_loss
def test_inputs_are_left_alone(loss: Loss) -> None:
    logits, target, soft = some_logits(), some_target(), some_distribution()
    loss(logits, target)
    loss(logits, soft)
    assert torch.equal(logits, some_logits())
    assert torch.equal(target, some_target())
    assert torch.equal(soft, some_distribution())


# The module


@every_loss
def test_module_is_the_function(loss: Loss) -> None:
    for contract in ({}, {"weight": some_weight(), "ignore_index": 2, "reduction": "sum"}):
        criterion = loss.criterion(**contract)
        for target in (some_target(), some_distribution()):
            assert torch.equal(criterion(some_logits(), target), loss(some_logits(), target, **contract))
        assert not list(criterion.parameters())
        for name, value in loss.options.items():
            # A tensor may take several lines, which a module indents.
            assert "".join(f"{name}={value!r}".split()) in "".join(repr(criterion).split())


@every_loss
def test_module_copies(loss: Loss) -> None:
    criterion = loss.criterion(weight=some_weight())
    expected = criterion(some_logits(), some_target())
    assert torch.equal(copy.deepcopy(criterion)(some_logits(), some_target()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(criterion))(some_logits(), some_target()), expected)
    other = loss.criterion(weight=torch.ones(CLASSES, dtype=torch.float64))
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other(some_logits(), some_target()), expected)
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
    assert torch.equal(
        criterion(some_logits(), some_target()), loss(some_logits(), some_target(), reduction="none")
    )


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
