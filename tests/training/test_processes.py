"""Two processes share each batch and stay one model."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from criterium.training.recipe import Recipe
from small import features, trainer

RECIPE = Recipe(epochs=2, batch_size=20)


def net() -> nn.Module:
    torch.manual_seed(7)
    backbone = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(8, 4)))


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    os.environ["OMP_NUM_THREADS"] = "1"
    loop = trainer("cross-entropy", net(), features(), RECIPE)
    assert loop.accelerator.num_processes == 2
    rows = torch.cat([inputs for inputs, _ in loop.batches(0)])
    losses = [loop.epoch(epoch) for epoch in range(2)]
    fused = trainer("cross-entropy", net(), features(), dataclasses.replace(RECIPE, fused=True))
    torch.testing.assert_close([fused.epoch(epoch) for epoch in range(2)], losses, rtol=1e-5, atol=0)
    for key, value in loop.modules["model"].state_dict().items():
        torch.testing.assert_close(fused.modules["model"].state_dict()[key], value, rtol=1e-4, atol=1e-6)
    try:
        trainer("cross-entropy", net(), features(rows=3, classes=3), Recipe(batch_size=2))
    except ValueError as error:
        refused = str(error)
    torch.save(
        {"rows": rows, "losses": losses, "weights": loop.modules["model"].state_dict(), "refused": refused},
        Path(folder) / f"{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))

    alone = trainer("cross-entropy", net(), features(), RECIPE)
    batches = [inputs for inputs, _ in alone.batches(0)]
    # Even rows of each batch go to the first process, odd ones to the second.
    assert torch.equal(one["rows"], torch.cat([rows[::2] for rows in batches]))
    assert torch.equal(two["rows"], torch.cat([rows[1::2] for rows in batches]))
    losses = [alone.epoch(epoch) for epoch in range(2)]
    assert one["losses"] == two["losses"]
    torch.testing.assert_close(one["losses"], losses, rtol=1e-5, atol=0)
    for key, value in alone.modules["model"].state_dict().items():
        assert torch.equal(one["weights"][key], two["weights"][key])
        torch.testing.assert_close(one["weights"][key], value, rtol=1e-4, atol=1e-6)
    assert one["refused"] == "batch_size: got 2, expected at least 2 rows: one for each process"
