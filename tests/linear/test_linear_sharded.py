"""Classes spread over processes give the loss and gradients of one process that holds them all."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

import criterium
from criterium import heads, linear

N, D, C = 6, 4, 19
COUNTS = torch.arange(1, C + 1)
CRITERIA = [
    nn.CrossEntropyLoss(),
    criterium.FocalLoss(weight=torch.linspace(0.5, 2, C)),
    criterium.LDAMLoss(class_counts=COUNTS, scale=2.0),
    criterium.LogitAdjustedCrossEntropyLoss(class_counts=COUNTS),
    criterium.LabelSmoothingCrossEntropyLoss(),
    criterium.MaxSupLoss(),
    criterium.ComplementEntropyLoss(),
    criterium.GuidedComplementEntropyLoss(),
    criterium.HierarchicalComplementEntropyLoss(groups=COUNTS % 3),
    criterium.MulticlassHingeLoss(),
    criterium.ZeroOneRelaxationLoss(kind="beta_bernoulli", a=0.5, b=-1.0),
    criterium.ExactLoss(),
    criterium.ExactLoss(standardize=True),
    criterium.ExactLoss(k=3, temperature=0.5),
    criterium.ExactLoss(k=2, log=True, margin=0.5),
    criterium.TopKCrossEntropyLoss(p_k=(0.5, 0.5), candidates=5),
    criterium.TopKSVMLoss(k=2),
    criterium.NoisedTopKHingeLoss(k=2, samples=3),
    criterium.NoisedTopKHingeLoss(
        k=2, noise=torch.randn(N, C, 2, generator=torch.Generator().manual_seed(7))
    ),
]
FEW = [CRITERIA[0], criterium.ExactLoss(standardize=True), criterium.NoisedTopKHingeLoss(k=2, samples=3)]


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    features = torch.randn(N, D, dtype=torch.double, requires_grad=True)
    target = torch.randint(C, (N,))
    target[1] = -100
    return features, target


def drawn(kind: Callable[[int, int], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return kind(D, C).double()


def gradients(loss: Tensor, features: Tensor, head: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [features, *head.parameters()]))


def cut(whole: nn.Module, mine: slice) -> nn.Module:
    """Return a head of some of the classes of another."""
    part = copy.deepcopy(whole)
    for name, value in whole.named_parameters():
        owner = part.get_parameter(name)
        owner.data = value.data[mine].clone() if len(value) == C else value.data.clone()
    return part


def placed(whole: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Return a head of DTensors."""
    head = copy.deepcopy(whole)
    if isinstance(head, nn.Linear):
        return parallelize_module(head, mesh, ColwiseParallel())

    def place(_: str, module: nn.Module, mesh: DeviceMesh) -> None:
        prototypes = distribute_tensor(module.prototypes.detach(), mesh, [Shard(0)])
        module.prototypes = nn.Parameter(prototypes)

    return distribute_module(head, mesh, place)


def compare(
    kind: Callable[[int, int], nn.Module],
    criteria: list[nn.Module],
    spread: Callable[[nn.Module], nn.Module],
    mine: slice,
    group: dist.ProcessGroup | None = None,
) -> None:
    """Raise where this process finds other numbers than one that holds all classes."""
    features, target = batch()
    whole = drawn(kind)
    part = spread(whole)
    for plain in criteria:
        if kind is not nn.Linear and getattr(plain, "standardize", False):
            continue
        criterion = copy.deepcopy(plain).double()
        torch.manual_seed(1)  # of noise, where there is any
        expected = linear.LinearCriterion(whole, criterion)(features, target)
        torch.manual_seed(1 + dist.get_rank())  # the first process's noise is taken
        loss = linear.LinearCriterion(part, criterion, group=group)(features, target)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
        ours, theirs = gradients(loss, features, part), gradients(expected, features, whole)
        for our, their, value in zip(ours, theirs, [features, *part.parameters()], strict=True):
            if isinstance(value, DTensor):
                assert isinstance(our, DTensor)
                assert our.placements == value.placements
                our = our.to_local()
            wanted = their[mine] if len(their) == C else their
            torch.testing.assert_close(our, wanted, rtol=1e-8, atol=1e-10)


def compare_slices(group: dist.ProcessGroup, sizes: list[int]) -> None:
    rank = dist.get_rank(group)
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    for kind in (nn.Linear, heads.DisMaxHead):
        compare(kind, CRITERIA, lambda whole: cut(whole, mine), mine, group)


def compare_dtensors(mesh: DeviceMesh) -> None:
    each = -(-C // mesh.size())
    mine = slice(each * mesh.get_local_rank(), min(each * (mesh.get_local_rank() + 1), C))
    for kind in (nn.Linear, heads.DisMaxHead, heads.IsoMaxHead, heads.NormalizedLinear):
        compare(kind, FEW, lambda whole: placed(whole, mesh), mine)


def compare_functions(mesh: DeviceMesh) -> None:
    features, target = batch()
    whole = drawn(nn.Linear)
    focal = criterium.FocalLoss(gamma=1.0)
    expected = linear.linear_loss(focal, features, whole.weight, target, whole.bias)
    slope = torch.autograd.grad(expected, features)[0]
    for placement in (Shard(0), Replicate()):
        weight, bias = (
            distribute_tensor(value.detach(), mesh, [placement]) for value in (whole.weight, whole.bias)
        )
        same = DTensor.from_local(features, mesh, [Replicate()])
        loss = linear.linear_loss(focal, same, weight, target, bias)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(loss, features)[0], slope, rtol=1e-8, atol=1e-10)


def compare_compiled(mesh: DeviceMesh) -> None:
    features, target = batch()
    head = drawn(nn.Linear)
    expected = nn.functional.cross_entropy(head(features), target)
    slope = torch.autograd.grad(expected, features)[0]
    mine = slice(*((0, 12) if mesh.get_local_rank() == 0 else (12, C)))
    of_slices = linear.LinearCriterion(cut(head, mine), nn.CrossEntropyLoss(), group=mesh.get_group())
    of_dtensors = linear.LinearCriterion(placed(head, mesh), nn.CrossEntropyLoss())
    for fused in (of_slices, of_dtensors):
        loss = torch.compile(fused, fullgraph=True, backend="aot_eager")(features, target)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(loss, features)[0], slope, rtol=1e-8, atol=1e-10)


def compare_halves_of_a_batch(mesh: DeviceMesh) -> None:
    """Over "data" processes share the rows, and average gradients; over "classes" they share the classes."""
    features, target = batch()
    torch.manual_seed(3)
    backbone, head = nn.Linear(D, D).double(), drawn(nn.Linear)
    part = placed(head, mesh["classes"])
    data = mesh["data"].get_group()
    replicas = DistributedDataParallel(copy.deepcopy(backbone), process_group=data)
    rows = slice(mesh["data"].get_local_rank(), N, 2)
    criterion = criterium.ComplementEntropyLoss()
    target = target.clamp(min=0)  # halves of one size, whose mean is that of all
    linear.LinearCriterion(part, criterion)(replicas(features[rows]), target[rows]).backward()
    criterion(head(backbone(features)), target).backward()
    for our, their in zip(replicas.parameters(), backbone.parameters(), strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-8, atol=1e-10)
    for our, their in zip(part.parameters(), head.parameters(), strict=True):
        dist.all_reduce(our.grad.to_local(), group=data)
        torch.testing.assert_close(our.grad.full_tensor() / 2, their.grad, rtol=1e-8, atol=1e-10)


def refuse(mesh: DeviceMesh, square: DeviceMesh) -> None:
    criterion = nn.CrossEntropyLoss()
    features, target = batch()
    whole = drawn(nn.Linear)
    weight, bias = whole.weight.detach(), whole.bias.detach()

    def on(value: Tensor, *places: Shard | Replicate, mesh: DeviceMesh = mesh) -> DTensor:
        return distribute_tensor(value, mesh, places)

    def refused(message: str, weight: Tensor, bias: Tensor | None = None, rows: Tensor = features) -> None:
        with pytest.raises(ValueError, match=message):
            linear.linear_loss(nn.CrossEntropyLoss(), rows, weight, target, bias)

    refused(r"weight: got .*Shard\(dim=1\),\) on a mesh of shape \(4,\), expected", on(weight, Shard(1)))
    refused(
        r"weight: got a DTensor with \(Replicate\(\), Shard\(dim=0\)\) on a mesh of shape \(2, 2\), expected"
        r" Shard\(0\) or Replicate\(\) on a mesh of one dimension",
        on(weight, Replicate(), Shard(0), mesh=square),
    )
    refused("bias: got a plain tensor, expected it placed as the weight: a DT", on(weight, Shard(0)), bias)
    refused("bias: got a DTensor .* as the weight: a plain tensor", weight, on(bias, Shard(0)))
    refused("bias: got .*Replicate.* as the weight: .*Shard", on(weight, Shard(0)), on(bias, Replicate()))
    refused(
        r"features: got a DTensor with \(Shard\(dim=0\),\) .* expected a plain tensor or Replicate\(\)",
        on(weight, Shard(0)),
        rows=on(features.detach(), Shard(0)),
    )
    refused(
        rf"weight: got 5 classes in process {dist.get_rank()}, expected the cut \[10, 10, 10, 10\]",
        DTensor.from_local(weight[:5], mesh, [Shard(0)], shape=torch.Size([40, D]), stride=(D, 1)),
    )
    refused(
        r"head: got \[1, 1, 1, 0\] classes in the processes, expected at least 1 in each",
        on(weight[:3].contiguous(), Shard(0)),
    )
    group = mesh.get_group()
    with pytest.raises(ValueError, match=r"head: got \[0, 4, 4, 4\] classes in the processes"):
        linear.LinearCriterion(cut(whole, slice(4 if dist.get_rank() else 0)), criterion, group=group)
    with pytest.raises(ValueError, match="group: got a group, expected None for a head of DTensors"):
        linear.LinearCriterion(placed(whole, mesh), criterion, group=group)


def work(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=4)
    three, two = dist.new_group([0, 1, 2]), dist.new_group([0, 1])
    mesh = init_device_mesh("cpu", (4,), mesh_dim_names=("classes",))
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "classes"))
    if rank < 3:
        compare_slices(three, [11, 1, 7])
    if rank < 2:
        compare_slices(two, [5, 14])
    compare_dtensors(mesh)
    compare_functions(mesh)
    compare_halves_of_a_batch(square)
    refuse(mesh, square)
    if rank < 2:
        compare_compiled(square["classes"])
    dist.barrier()
    dist.destroy_process_group()


def test_processes_that_share_the_classes_agree_with_one(tmp_path: Path) -> None:
    # One process imports all that takes seconds, the four are forks of it.
    multiprocessing.set_forkserver_preload(["criterium.linear", "torch._dynamo"])
    start_processes(work, args=(str(tmp_path / "store"),), nprocs=4, start_method="forkserver")
