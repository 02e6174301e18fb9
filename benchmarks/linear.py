"""Time and memory of the fused losses against the output layer followed by the plain loss.

Forward and backward of one batch on one thread. Time is the CPU time of the ways in turns in one process, the
least of the rounds; other work on the machine hardly changes it. Memory is the peak of a process of its own:
the largest resident set less what was resident before, less the gradients of features, weight and bias, which
all ways return. PyTorch's own fused cross-entropy (`torch.nn.functional.linear_cross_entropy`, in chunks of
1/32 of the rows) runs beside them where it exists.

    python benchmarks/linear.py --classes 32000 262144
    python benchmarks/linear.py --million
    python benchmarks/linear.py --plot docs/linear.svg
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import criterium
from criterium.linear import linear_loss


def numbered(classes: int, most: int) -> Tensor:
    return torch.arange(classes) % most


LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "cross_entropy": lambda _: nn.CrossEntropyLoss(),
    "focal_loss": lambda _: criterium.FocalLoss(),
    "poly1_cross_entropy": lambda _: criterium.Poly1CrossEntropyLoss(),
    "ldam_loss": lambda classes: criterium.LDAMLoss(class_counts=numbered(classes, 100) + 1),
    "logit_adjusted_cross_entropy": lambda classes: criterium.LogitAdjustedCrossEntropyLoss(
        class_counts=numbered(classes, 100) + 1
    ),
    "label_smoothing_cross_entropy": lambda _: criterium.LabelSmoothingCrossEntropyLoss(),
    "maxsup_loss": lambda _: criterium.MaxSupLoss(),
    "complement_entropy": lambda _: criterium.ComplementEntropyLoss(),
    "guided_complement_entropy": lambda _: criterium.GuidedComplementEntropyLoss(),
    "hierarchical_complement_entropy": lambda classes: criterium.HierarchicalComplementEntropyLoss(
        groups=numbered(classes, 20)
    ),
    "multiclass_hinge": lambda _: criterium.MulticlassHingeLoss(),
    "zero_one_relaxation": lambda _: criterium.ZeroOneRelaxationLoss(),
    "exact_loss": lambda _: criterium.ExactLoss(),
    "topk_cross_entropy": lambda _: criterium.TopKCrossEntropyLoss(candidates=16),
    "topk_svm": lambda _: criterium.TopKSVMLoss(),
    "smooth_topk_svm": lambda _: criterium.SmoothTopKSVMLoss(),
    "noised_topk_hinge": lambda _: criterium.NoisedTopKHingeLoss(),
}
SLOW: dict[str, Callable[[int], nn.Module]] = {"exact_loss, k=3": lambda _: criterium.ExactLoss(k=3)}
"""Measured only when asked for: eager, each class is evaluated at some sixty nodes."""
CANDIDATES = {"smooth_topk_svm": 64}
"""Those that only the fused form is told."""
WAYS = ("eager", "fused", "torch")


def step(loss: str, way: str, rows: int, width: int, classes: int) -> Callable[[], None]:
    """Return one forward and backward pass."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, width, generator=generator).requires_grad_()
    weight = (torch.randn(classes, width, generator=generator) / width**0.5).requires_grad_()
    bias = torch.zeros(classes, requires_grad=True)
    target = torch.randint(classes, (rows,), generator=generator)
    criterion = (LOSSES | SLOW)[loss](classes)

    def value() -> Tensor:
        if way == "fused":
            candidates = CANDIDATES.get(loss)
            return linear_loss(criterion, features, weight, target, bias, candidates=candidates)
        if way == "torch":
            chunks = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=max(1, rows // 32))
            return F.linear_cross_entropy(features, weight, target, linear_bias=bias, options=chunks)
        return criterion(F.linear(features, weight, bias), target)

    def run() -> None:
        features.grad = weight.grad = bias.grad = None
        value().backward()

    return run


def ways_of(loss: str) -> tuple[str, ...]:
    own = loss == "cross_entropy" and hasattr(torch.nn, "LinearCrossEntropyOptions")
    return WAYS if own else WAYS[:2]


def resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(loss: str, way: str, rows: int, width: int, classes: int) -> tuple[float, float]:
    """Return extra and whole peak memory in MiB of a first pass, after a tiny one that loads libraries."""
    step(loss, way, 8, width, 128)()
    run = step(loss, way, rows, width, classes)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run()
    gradients = 4 * (rows * width + classes * width + classes)
    peak = resident("VmHWM")
    return (peak - before - gradients) / 2**20, peak / 2**20


def measured(loss: str, way: str, rows: int, width: int, classes: int) -> tuple[float, float]:
    call = [sys.executable, __file__, "--measure", json.dumps([loss, way, rows, width, classes])]
    extra, peak = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return extra, peak


def timed(loss: str, rows: int, width: int, classes: int, rounds: int) -> dict[str, float]:
    best: dict[str, float] = {}
    for _ in range(rounds):
        for way in ways_of(loss):
            run = step(loss, way, rows, width, classes)
            start = time.process_time()
            run()
            best[way] = min(best.get(way, float("inf")), time.process_time() - start)
    return best


def table(losses: list[str], rows: int, width: int, classes: int, rounds: int) -> None:
    print(f"\nN = {rows:,}, D = {width}, C = {classes:,}, torch {torch.__version__}, one thread\n")
    print("| loss | way | CPU seconds | of eager | extra MiB | of eager |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for loss in losses:
        seconds = timed(loss, rows, width, classes, rounds)
        extra = {way: measured(loss, way, rows, width, classes)[0] for way in ways_of(loss)}
        for way in ways_of(loss):
            print(
                f"| {loss} | {way} | {seconds[way]:.2f} | {seconds[way] / seconds['eager']:.2f}"
                f" | {extra[way]:.0f} | {100 * extra[way] / extra['eager']:.1f} % |",
                flush=True,
            )


def plot(path: Path, losses: list[str], rows: int, width: int, counts: list[int], rounds: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, loss in enumerate(losses):
        seconds = [timed(loss, rows, width, classes, rounds) for classes in counts]
        extra = [
            {way: measured(loss, way, rows, width, classes)[0] for way in WAYS[:2]} for classes in counts
        ]
        for way, line in (("eager", "--"), ("fused", "-")):
            label, colour = f"{loss}, {way}", f"C{number}"
            time_axes.plot(counts, [each[way] for each in seconds], line, marker="o", color=colour)
            memory = [each[way] for each in extra]
            memory_axes.plot(counts, memory, line, marker="o", color=colour, label=label)
            print(
                label,
                [round(each[way], 2) for each in seconds],
                [round(value) for value in memory],
                flush=True,
            )
    for axes, name in ((time_axes, "CPU seconds"), (memory_axes, "extra memory, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="classes C", ylabel=name)
        axes.grid(alpha=0.3)
    memory_axes.legend(fontsize="x-small")
    figure.suptitle(f"Forward and backward, N = {rows:,}, D = {width}, one thread", fontsize="medium")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[32_000])
    parser.add_argument("--losses", nargs="+", default=[*LOSSES], choices=[*LOSSES, *SLOW])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", action="store_true", help="peak memory of 256 rows, a million classes")
    parser.add_argument("--plot", type=Path, help="SVG file: how time and memory grow with --classes")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    if args.million:
        print("| loss | whole peak, GiB |\n| --- | ---: |")
        for loss in args.losses:
            peak = measured(loss, "fused", 256, args.width, 1_000_000)[1]
            print(f"| {loss} | {peak / 1024:.2f} |", flush=True)
        return
    if args.plot:
        plot(args.plot, args.losses, args.rows, args.width, args.classes, args.rounds)
        return
    for classes in args.classes:
        table(args.losses, args.rows, args.width, classes, args.rounds)


if __name__ == "__main__":
    main()
