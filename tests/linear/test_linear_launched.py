"""The programs of docs/linear.md, launched as it says, train as one process with all classes does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import criterium

PAGE = Path(__file__).parents[2] / "docs" / "linear.md"
STEPS, CLASSES = 4, 10_001
ALIKE = """
for value in backbone.parameters():
    for tensor in (value.detach(), value.grad):
        both = [torch.empty_like(tensor), torch.empty_like(tensor)]
        torch.distributed.all_gather(both, tensor)
        assert torch.equal(*both)
"""
# Once in some thirty runs PyTorch's threads aborted a process; it has no more to do here.
LEAVE = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""
PLACED = """
assert all(value.grad.placements == value.placements for value in head.parameters())
"""


def program(mark: str, checks: str) -> str:
    """Return the block of the page with a word in it, and checks before its last line."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if mark in block)
    body, last = block.strip().rsplit("\n", 1)
    return f"{body}\n{checks}\n{last}\n{LEAVE}"


def launched(launcher: list[str], text: str, folder: Path) -> list[float]:
    """Return the losses that the first of two processes prints."""
    script = folder / "train.py"
    script.write_text(text, encoding="utf-8")
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    environment["PYTHONPATH"] = str(Path(criterium.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script)],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]


def alone(head: nn.Linear, backbone: nn.Module, inputs: Tensor, target: Tensor) -> list[float]:
    """Return the losses of one process."""
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.5)
    losses = []
    for _ in range(STEPS):
        loss = criterium.FocalLoss()(head(backbone(inputs)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def batch(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 32), torch.randint(CLASSES, (rows,))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU())


def test_torchrun_with_dtensors(tmp_path: Path) -> None:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    losses = launched(launcher, program("ColwiseParallel", ALIKE + PLACED), tmp_path)
    backbone, head = net(), nn.Linear(64, CLASSES)
    torch.testing.assert_close(losses, alone(head, backbone, *batch(16)), rtol=1e-6, atol=0)


def test_accelerate_with_slices_and_a_batch_in_each_process(tmp_path: Path) -> None:
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    losses = launched(launcher, program("Accelerator()", ALIKE), tmp_path)
    parts, batches = [], []
    for rank, held in enumerate((5_001, 5_000)):
        torch.manual_seed(1 + rank)
        parts.append(nn.Linear(64, held))
        batches.append(batch(8))
    head = nn.Linear(64, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.cat([part.weight for part in parts]))
        head.bias.copy_(torch.cat([part.bias for part in parts]))
    inputs, target = (torch.cat(each) for each in zip(*batches, strict=True))
    torch.testing.assert_close(losses, alone(head, net(), inputs, target), rtol=1e-6, atol=0)
