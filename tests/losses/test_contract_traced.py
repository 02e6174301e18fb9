"""The ways of torch: compiled, without data, distributed, in forward mode, changed in place, kept."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from conformance import (
    CLASSES,
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
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import criterium
from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.maxsup import maxsup_loss

# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
no_warning = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


# Compiled


def hostile(loss: Loss, rows: int) -> tuple[Tensor, Tensor]:
    """Logits with a masked class, but where it is infinite, and a row of NaN that is ignored."""
    logits, target = some_logits(rows, CLASSES), some_target(rows, classes=CLASSES - 1)
    if loss.function not in (label_smoothing_cross_entropy, maxsup_loss):
        logits[:, -1] = -math.inf
    logits[1], target[1] = math.nan, 255
    return logits, target


@no_warning
@every_loss
def test_compiled_for_all_batch_sizes(loss: Loss) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    weight = some_weight().roll(1)

    def call(logits: Tensor, target: Tensor) -> Tensor:
        return loss(logits, target, weight=weight, ignore_index=255)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    for rows in (17, ROWS, 11):
        logits, target = hostile(loss, rows)
        found, gradient = with_gradient(lambda x, t=target: compiled(x, t), logits)
        expected, its_gradient = with_gradient(lambda x, t=target: call(x, t), logits)
        close(found, expected)
        close(gradient, its_gradient)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1
    for wrong in (-100, CLASSES):
        try:
            found = compiled(
                some_logits(11, CLASSES).requires_grad_(), target.index_fill(0, target[:1], wrong)
            )
        except Exception:  # whatever a backend makes of an index out of range
            continue
        assert found.isnan()


@no_warning
@every_fused_loss
def test_fused_and_compiled_for_all_batch_sizes(loss: Loss) -> None:
    if any(isinstance(value, Tensor) and value.dim() == 0 for value in loss.options.values()):
        return  # a graph has no number for an operator from a tensor: there `a` and `b` are to be numbers
    torch._dynamo.reset()
    if loss.noisy:  # in which every call draws anew
        loss = Loss(loss.function, loss.module, loss.options | {"epsilon": 0.0})
    head = torch.nn.Linear(CLASSES, CLASSES, dtype=torch.float64)
    fused = loss.fused_criterion(head, weight=some_weight().roll(1), ignore_index=255)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(fused, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    for rows in (17, ROWS, 11):
        logits, target = some_logits(rows, CLASSES), some_target(rows)
        logits[1], target[1] = math.nan, 255
        found, gradient = with_gradient(lambda x, t=target: compiled(x, t), logits)
        expected, its_gradient = with_gradient(lambda x, t=target: fused(x, t), logits)
        close(found, expected)
        close(gradient, its_gradient)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1
    try:
        found = compiled(some_logits(11, CLASSES), target.index_fill(0, torch.tensor([0]), -100))
    except (RuntimeError, IndexError):
        return
    assert found.isnan()


# Without data


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_meta_tensors_give_the_shape(loss: Loss, soft: bool) -> None:
    target = some_distribution() if soft else some_target()
    noise = {name: draws.to("meta") for name, draws in loss.noise((ROWS, CLASSES)).items()}
    for reduction, shape in (("none", (ROWS,)), ("mean", ())):
        logits = torch.empty(ROWS, CLASSES, device="meta", requires_grad=True)
        options = loss.options | noise | {"reduction": reduction}
        found = loss.function(logits, target.to("meta"), **options)
        assert found.device.type == "meta"
        assert found.shape == shape
        assert torch.autograd.grad(found.sum(), logits)[0].shape == (ROWS, CLASSES)


@every_loss
def test_logits_on_the_cpu_do_not_mind_another_default_device(loss: Loss) -> None:
    criterium.order_statistics.win_series._made.clear()
    expected = with_gradient(lambda x: loss(x, some_target()), some_logits(dtype=torch.float32))
    criterium.order_statistics.win_series._made.clear()
    logits, target = some_logits(dtype=torch.float32), some_target()
    with torch.device("meta"):
        found = with_gradient(lambda x: loss(x, target), logits)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_fake_tensors_give_the_shape(loss: Loss, soft: bool) -> None:
    loss(some_logits(dtype=torch.float32), some_target())  # its tables are made, for what is no fake
    settings = loss.settings
    real = {name: value.clone() for name, value in settings.items() if isinstance(value, Tensor)}
    target = some_distribution().float() if soft else some_target()
    with FakeTensorMode() as mode:
        options = settings | {name: mode.from_tensor(value) for name, value in real.items()}
        logits = torch.randn(ROWS, CLASSES, requires_grad=True)
        found = loss.function(logits, mode.from_tensor(target), **options, reduction="none")
        found.sum().backward()
    assert found.shape == (ROWS,)
    assert logits.grad is not None
    assert logits.grad.shape == (ROWS, CLASSES)


# Distributed


@pytest.fixture(scope="module")
def mesh() -> Iterator[torch.distributed.device_mesh.DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@every_loss
def test_logits_may_be_dtensors(loss: Loss, mesh: torch.distributed.device_mesh.DeviceMesh) -> None:
    options = {"weight": some_weight()}
    expected, its_gradient = with_gradient(lambda x: loss(x, some_target(), **options), some_logits())
    for placement in (Shard(0), Shard(1), Replicate()):
        logits = distribute_tensor(some_logits().requires_grad_(), mesh, [placement])
        target = distribute_tensor(some_target(), mesh, [Replicate()])
        for given in (target, some_target()):
            found = loss(logits, given, **options)
            assert isinstance(found, DTensor)
            close(found.full_tensor().detach(), expected)
        logits.grad = None
        found.backward()
        close(logits.grad.full_tensor(), its_gradient)


# Forward mode


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # in PyTorch's own derivatives
@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_the_derivative_in_forward_mode(loss: Loss, soft: bool) -> None:
    target = some_distribution() if soft else some_target()
    along = some_logits().flip(0)
    expected = (with_gradient(lambda x: loss(x, target), some_logits())[1] * along).sum()
    if not soft:
        tangent = torch.func.jvp(lambda x: loss(x, target), (some_logits(),), (along,))[1]
        close(tangent, expected)
    with torch.autograd.forward_ad.dual_level():
        for needed in (False, True):
            dual = torch.autograd.forward_ad.make_dual(some_logits().requires_grad_(needed), along)
            found = torch.autograd.forward_ad.unpack_dual(loss(dual, target)).tangent
            assert found is not None
            close(found.detach(), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@every_fused_loss
def test_fused_losses_say_that_they_have_no_forward_mode(loss: Loss) -> None:
    fused = loss.fused_criterion(torch.nn.Linear(CLASSES, CLASSES, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match=r"fused losses have no derivative in forward mode"):
        torch.func.jvp(lambda x: fused(x, some_target()), (some_logits(),), (some_logits(),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(some_logits(), some_logits())
        with pytest.raises(NotImplementedError, match=r"fused losses have no derivative in forward mode"):
            fused(dual, some_target())


# Memory


@every_type
@every_loss
def test_logits_may_change_in_place_after_the_loss(loss: Loss, dtype: torch.dtype) -> None:
    for target in (some_target(), some_distribution()):
        expected = with_gradient(lambda x, t=target: loss(x, t), some_logits(dtype=dtype))[1]
        leaf = some_logits(dtype=dtype).requires_grad_()
        logits = leaf * 1
        found = loss(logits, target)
        with torch.no_grad():
            logits.zero_()
        (gradient,) = torch.autograd.grad(found, leaf)
        assert torch.equal(gradient, expected)


def test_a_second_derivative_of_logits_that_changed_is_refused() -> None:
    leaf = some_logits().requires_grad_()
    logits = leaf * 1
    found = criterium.ExactLoss()(logits, some_target())
    with torch.no_grad():
        logits.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(found, leaf, create_graph=True)


@every_loss
def test_logits_may_be_the_imaginary_part_of_a_conjugate(loss: Loss) -> None:
    logits = some_logits(dtype=torch.float32)
    expected, its_gradient = with_gradient(lambda x: loss(-x, some_target()), logits)
    found, gradient = with_gradient(lambda x: loss(torch.complex(x, x).conj().imag, some_target()), logits)
    close(found, expected)
    close(gradient, its_gradient)


@every_loss
def test_what_a_schedule_moves_is_in_the_state(loss: Loss) -> None:
    criterion = loss.criterion(weight=some_weight())
    numbers = [name for name, value in criterion.options.items() if isinstance(value, float)]
    for name in numbers:
        setattr(criterion, name, getattr(criterion, name) * 0.75)
    other = loss.criterion(weight=torch.ones(CLASSES, dtype=torch.float64))
    assert not any(other.load_state_dict(criterion.state_dict()))
    assert all(getattr(other, name) == getattr(criterion, name) for name in numbers)
    close(other(some_logits(), some_target()), criterion(some_logits(), some_target()))
    # One without them, of before or of cross-entropy, is as good.
    other.load_state_dict({name: value for name, value in other.state_dict().items() if name not in numbers})
