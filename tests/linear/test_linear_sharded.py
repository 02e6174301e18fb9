"""Classes spread over processes give the loss and gradients of one process that holds them all."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

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
    criterium.TopKCrossEntropyLoss(p_k=(0.5, 0.5), candidates=5),
    criterium.TopKSVMLoss(k=2),
    criterium.NoisedTopKHingeLoss(k=2, samples=3),
]
HEADS = [nn.Linear, heads.DisMaxHead]


def gradients(loss: Tensor, features: Tensor, head: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [features, *head.parameters()]))


def compare(group: dist.ProcessGroup, sizes: list[int]) -> None:
    """Raise where a process of the group finds other numbers than one that holds all classes."""
    rank = dist.get_rank(group)
    mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    torch.manual_seed(0)
    features = torch.randn(N, D, dtype=torch.double, requires_grad=True)
    target = torch.randint(C, (N,))
    target[1] = -100
    for kind in HEADS:
        torch.manual_seed(2)
        whole = kind(D, C).double()
        part = copy.deepcopy(whole)
        for name, value in whole.named_parameters():
            owner = part.get_parameter(name)
            owner.data = value.data[mine].clone() if len(value) == C else value.data.clone()
        for plain in CRITERIA:
            if kind is not nn.Linear and getattr(plain, "standardize", False):
                continue
            criterion = copy.deepcopy(plain).double()
            torch.manual_seed(1)  # of noise, where there is any
            expected = linear.LinearCriterion(whole, criterion)(features, target)
            torch.manual_seed(1 + rank)  # the first process's noise is taken
            loss = linear.LinearCriterion(part, criterion, group=group)(features, target)
            torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
            ours, theirs = gradients(loss, features, part), gradients(expected, features, whole)
            for our, their in zip(ours, theirs, strict=True):
                wanted = their[mine] if len(their) == C else their
                torch.testing.assert_close(our, wanted, rtol=1e-8, atol=1e-10)


def work(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3)
    three, two = dist.new_group([0, 1, 2]), dist.new_group([0, 1])
    compare(three, [11, 1, 7])
    if rank < 2:
        compare(two, [5, 14])
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch.distributed is not available")
def test_two_and_three_processes_agree_with_one(tmp_path: Path) -> None:
    spawn(work, args=(str(tmp_path / "store"),), nprocs=3)
