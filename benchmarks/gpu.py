"""Losses on a GPU: beside compiled cross-entropy, and fused with the output layer beside Liger and CCE.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --rows 64 --shapes 64x1000 --classes 4096    # does it run?

First table, float32: forward and backward of each plain loss as a multiple of ``F.cross_entropy`` under
``torch.compile``, and the share of the device's memory bandwidth that it would take to read the logits and
write their gradient once in that time; the bandwidth is that of copying a large tensor in the same run.

Second table, bfloat16: cross-entropy fused with the output layer, by criterium, by `liger-kernel` and by
`cut-cross-entropy` where these are installed, and by ``F.linear_cross_entropy`` where PyTorch has it, as
multiples of linear layer and ``F.cross_entropy``, in time and in the most memory held above inputs and
parameters; and criterium's other losses as multiples of the layer with the plain loss.

The contenders take turns; given is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import criterium
from criterium import functional
from criterium.linear import linear_loss

LOSSES: dict[str, dict[str, Any]] = {
    "focal_loss": {},
    "poly1_cross_entropy": {},
    "label_smoothing_cross_entropy": {},
    "maxsup_loss": {},
    "logit_adjusted_cross_entropy": {"class_counts": True},
    "ldam_loss": {"class_counts": True},
    "isomax_loss": {},
    "complement_entropy": {},
    "guided_complement_entropy": {},
    "hierarchical_complement_entropy": {"groups": True},
    "multiclass_hinge": {},
    "zero_one_relaxation": {},
    "topk_cross_entropy": {"candidates": 16},
    "topk_svm": {"k": 5},
    "smooth_topk_svm": {"k": 5},
    "noised_topk_hinge": {"k": 5},
    "exact_loss": {},
}
FUSED = [
    criterium.ComplementEntropyLoss(),
    criterium.ExactLoss(),
    criterium.TopKCrossEntropyLoss(candidates=16),
    criterium.NoisedTopKHingeLoss(k=5),
]
Step = Callable[[], Tensor]


def options_for(given: dict[str, Any], classes: int, device: torch.device) -> dict[str, Any]:
    options = dict(given)
    if "class_counts" in options:
        options["class_counts"] = torch.arange(classes, device=device) % 100 + 1
    if "groups" in options:
        options["groups"] = torch.arange(classes, device=device) // 20
    return options


class Clock:
    """Seconds of a step, forward and backward, and the memory it takes."""

    def __init__(self, device: torch.device, leaves: list[Tensor]) -> None:
        self.device, self.leaves = device, leaves

    def run(self, step: Step) -> None:
        torch.autograd.grad(step(), self.leaves)

    def seconds(self, step: Step, times: int = 5) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            self.run(step)
        self.wait()
        return (time.perf_counter() - start) / times

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory(self, step: Step) -> float:
        """Return the most bytes held above what is held before; NaN where the device does not count."""
        if self.device.type != "cuda":
            return float("nan")
        self.wait()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.run(step)
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) - before


def ratios(clock: Clock, steps: dict[str, Step], base: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Return by name the median ratio to the base's time, and the median seconds."""
    for step in steps.values():
        for _ in range(3):
            clock.run(step)  # compiles, tunes, allocates
    taken = [{name: clock.seconds(step) for name, step in steps.items()} for _ in range(rounds)]
    return {
        name: (
            statistics.median(each[name] / each[base] for each in taken),
            statistics.median(each[name] for each in taken),
        )
        for name in steps
    }


def bandwidth(device: torch.device) -> float:
    """Return the bytes a second of copying a tensor far larger than any cache, reading and writing."""
    size = 1 << (30 if device.type == "cuda" else 26)
    values, clock = torch.empty(size // 4, device=device), Clock(device, [])
    target = torch.empty_like(values)
    target.copy_(values)
    best = float("inf")
    for _ in range(10):
        clock.wait()
        start = time.perf_counter()
        target.copy_(values)
        clock.wait()
        best = min(best, time.perf_counter() - start)
    return 2 * size / best


def plain(device: torch.device, shapes: list[tuple[int, int]], rounds: int, only: list[str]) -> None:
    speed = bandwidth(device)
    print(f"\nPlain losses, float32; a copy moves {speed / 1e9:.0f} GB/s\n")
    print("| loss | " + " | ".join(f"({n}, {c}) | of bandwidth" for n, c in shapes) + " |")
    print("| --- |" + " ---: | ---: |" * len(shapes))
    cells: dict[str, list[str]] = {}
    for rows, classes in shapes:
        torch.manual_seed(0)
        logits = torch.randn(rows, classes, device=device, requires_grad=True)
        target = torch.randint(classes, (rows,), device=device)
        clock = Clock(device, [logits])
        for name in ("F.cross_entropy", *only):
            steps = pair(name, logits, target)
            ratio, seconds = ratios(clock, steps, "compiled", rounds)[name]
            share = 2 * logits.numel() * 4 / seconds / speed
            cells.setdefault(name, []).extend([f"{ratio:.2f}", f"{100 * share:.0f} %"])
    for name, row in cells.items():
        print(f"| {name} | " + " | ".join(row) + " |")


def pair(name: str, logits: Tensor, target: Tensor) -> dict[str, Step]:
    """Return compiled cross-entropy, and the loss called `name`."""
    compiled = torch.compile(F.cross_entropy)
    steps: dict[str, Step] = {"compiled": lambda: compiled(logits, target)}
    if name == "F.cross_entropy":
        return steps | {name: lambda: F.cross_entropy(logits, target)}
    loss, options = getattr(functional, name), options_for(LOSSES[name], logits.shape[1], logits.device)
    return steps | {name: lambda: loss(logits, target, **options)}


def rivals(features: Tensor, weight: Tensor, target: Tensor) -> dict[str, Step]:
    """Return cross-entropy fused by others, whichever are here."""
    steps: dict[str, Step] = {}
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        steps["Liger"] = lambda: liger(weight, features, target)
    if importlib.util.find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy as cut

        steps["CCE"] = lambda: cut(features, weight, target)
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=max(1, len(features) // 32))
        steps["F.linear_cross_entropy"] = lambda: F.linear_cross_entropy(
            features, weight, target, options=options
        )
    return steps


def fused(device: torch.device, rows: int, width: int, classes: int, rounds: int) -> None:
    print(f"\nFused with the output layer, bfloat16, N = {rows:,}, D = {width}, C = {classes:,}\n")
    print("| loss | by | time | memory |\n| --- | --- | ---: | ---: |")
    torch.manual_seed(0)
    features = torch.randn(rows, width, device=device, dtype=torch.bfloat16).requires_grad_()
    weight = (torch.randn(classes, width, device=device) / width**0.5).bfloat16().requires_grad_()
    target = torch.randint(classes, (rows,), device=device)
    clock = Clock(device, [features, weight])

    def report(loss: str, steps: dict[str, Step]) -> None:
        memory = {name: clock.memory(step) for name, step in steps.items()}
        for name, (ratio, _) in ratios(clock, steps, "eager", rounds).items():
            print(f"| {loss} | {name} | {ratio:.2f} | {memory[name] / memory['eager']:.3f} |", flush=True)

    steps: dict[str, Step] = {
        "eager": lambda: F.cross_entropy(F.linear(features, weight).float(), target),
        "criterium": lambda: linear_loss(nn.CrossEntropyLoss(), features, weight, target),
    }
    report("cross_entropy", steps | rivals(features, weight, target))
    for criterion in FUSED:
        report(
            type(criterion).__name__,
            {
                "eager": lambda: criterion(F.linear(features, weight), target),  # noqa: B023
                "criterium": lambda: linear_loss(criterion, features, weight, target),  # noqa: B023
            },
        )


def shape(text: str) -> tuple[int, int]:
    rows, _, classes = text.partition("x")
    return int(rows), int(classes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", type=shape, nargs="+", default=[(4096, 1000), (4096, 32_000)])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=131_072)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    plain(device, args.shapes, args.rounds, args.losses)
    fused(device, args.rows, args.width, args.classes, args.rounds)


if __name__ == "__main__":
    main()
