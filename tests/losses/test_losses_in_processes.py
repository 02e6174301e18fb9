"""Under DistributedDataParallel two processes with half a batch each get the gradient of the whole batch."""

from __future__ import annotations

from pathlib import Path

import torch
from conformance import CLASSES, LOSSES, ROWS, some_logits, some_target
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

ALONE = [loss for loss in LOSSES if not loss.couples_rows]


def _layer() -> nn.Linear:
    layer = nn.Linear(CLASSES, CLASSES, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(some_logits(CLASSES, CLASSES))
        layer.bias.copy_(some_logits(1, CLASSES)[0])
    return layer


def _gradient(module: nn.Module, layer: nn.Linear, number: int, rows: slice) -> Tensor:
    layer.zero_grad()
    ALONE[number](module(some_logits()[rows]), some_target()[rows]).backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    layer = _layer()
    module = DistributedDataParallel(layer)
    found = [_gradient(module, layer, number, slice(rank, ROWS, 2)) for number in range(len(ALONE))]
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_work, (str(tmp_path),), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    layer = _layer()
    for number, (one, two) in enumerate(zip(*both, strict=True)):
        assert torch.equal(one, two), str(ALONE[number])
        alone = _gradient(layer, layer, number, slice(None))
        torch.testing.assert_close(one, alone, rtol=1e-9, atol=1e-11, msg=str(ALONE[number]))
