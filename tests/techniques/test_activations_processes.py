"""Each of two processes compresses its own activations, and they stay one model."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
from torch import Tensor, nn

from criterium.techniques.activations import compress_activations


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))


def batch() -> Tensor:
    return torch.randn(32, 64, generator=noise(1))


def off(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = nn.parallel.DistributedDataParallel(network())
    inputs = batch()[rank::2]
    found = {}
    for name, bits in (("exact", None), ("one", 1), ("eight", 8)):
        model.zero_grad()
        with compress_activations(bits, level=None if bits else "L0", generator=noise(rank)):
            loss = model(inputs).square().mean()
        loss.backward()
        found[name] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    model = network()
    model(batch()).square().mean().backward()
    alone = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(one["exact"], alone, rtol=1e-4, atol=1e-6)
    assert off(one["eight"], alone) < 0.02 < off(one["one"], alone)
    for name in one:
        assert torch.equal(one[name], two[name])
