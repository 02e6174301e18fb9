"""Compressed activations against plain ones: bytes, peak memory, time, error of gradients, accuracy.

    python benchmarks/activations.py --models preact-resnet18 mlp --batch-size 32 --threads 1
    python benchmarks/activations.py --layers --models preact-resnet18 --levels 2 L3
    python benchmarks/activations.py --accuracy --data fashion-mnist --data-dir DIR --levels 2 L3

*saved* counts the bytes that autograd keeps between forward and backward pass, parameters apart. *peak* is
measured, gradients of the weights included: on a GPU the most memory allocated in a step less that before it;
on a CPU (Linux) how much a fresh process grows by a step, with every block above 64 KiB given back to the
system at once. *time* is the median, over rounds in which all take turns, of a step's time relative to the
plain step's. *error* is ||g' - g|| / ||g|| of the gradient g of all weights, the mean over draws of the
rounding; *of mean* the same for the mean gradient of all draws, which for an unbiased gradient is *error* /
sqrt(draws).

Inputs of the first modes are random images (3 x 32 x 32) or, for models of features, 784 numbers. With
``--accuracy`` the training, its data and its splits are those of ``criterium train``; the seeds are paired.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from criterium import models, objectives
from criterium.data import Dataset, Split, load
from criterium.statistics.paired import estimate
from criterium.techniques.activations import Compression, parse_level
from criterium.training import Diverged, Recipe, accelerator_for, predict, train
from criterium.training.trainer import build_model, task_of

CLASSES = 10


def level(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def network(name: str, device: torch.device) -> tuple[nn.Module, tuple[int, ...]]:
    shape = (784,) if name in ("mlp", "linear") else (3, 32, 32)
    torch.manual_seed(0)
    scale = torch.ones(shape[0], *[1] * (len(shape) - 1))
    backbone = models.build(name, shape, 0 * scale, scale)
    model = nn.Sequential(backbone, nn.Linear(backbone.out_features, CLASSES)).to(device)
    return model.to(memory_format=torch.channels_last) if len(shape) == 3 else model, shape


def batch(shape: tuple[int, ...], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.arange(size) % CLASSES
    patterns = torch.randn(CLASSES, *shape, generator=generator)
    inputs = patterns[target] + torch.randn(size, *shape, generator=generator)
    return inputs.to(device), target.to(device)


def step(
    model: nn.Module, inputs: Tensor, target: Tensor, compression: Compression | None
) -> list[torch.Tensor]:
    with compression or contextlib.nullcontext():
        logits = model(inputs)
    loss = F.cross_entropy(logits, target, label_smoothing=0.1)
    return list(torch.autograd.grad(loss, list(model.parameters())))


def compression_for(setting: int | str | None, device: torch.device) -> Compression | None:
    generator = torch.Generator(device).manual_seed(0)
    return None if setting is None else Compression(parse_level(setting), generator)


def peak(name: str, setting: int | str | None, size: int, device: torch.device) -> int:
    """Return the bytes by which a step raises the memory in use at its height."""
    model, shape = network(name, device)
    compression = compression_for(setting, device)
    step(model, *batch(shape, 2, device), compression)  # libraries allocate what they keep
    inputs, target = batch(shape, size, device)
    if device.type == "cuda":
        step(model, inputs, target, compression)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, inputs, target, compression)
        return torch.cuda.max_memory_allocated() - before
    # Linux alone: forget the highest point so far, which the imports may have reached.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    step(model, inputs, target, compression)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Return the process's memory now (VmRSS), or at its height (VmHWM), in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak_in_a_process(name: str, setting: int | str | None, args: argparse.Namespace) -> int:
    wanted = json.dumps([name, setting, args.batch_size, args.device, args.threads])
    done = subprocess.run(
        [sys.executable, __file__, "--peak", wanted],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        check=True,
        text=True,
    )
    return int(done.stdout)


def times(
    steps: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {key: [] for key in steps}
    order = list(steps)
    for _ in range(rounds):
        order.append(order.pop(0))
        for key in order:
            started = time.perf_counter()
            steps[key]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken[key].append(time.perf_counter() - started)
    return taken


def relative(found: list[Tensor], exact: list[Tensor]) -> float:
    error = sum(float((a - b).square().sum()) for a, b in zip(found, exact, strict=True))
    return math.sqrt(error / sum(float(b.square().sum()) for b in exact))


def errors(
    model: nn.Module, data: tuple[Tensor, Tensor], compression: Compression, draws: int
) -> dict[str, float]:
    """Return the error of the gradient of each parameter, of all, and of their mean over draws."""
    names = [name for name, _ in model.named_parameters()]
    exact = step(model, *data, None)
    step(model, *data, compression)  # the adaptive levels learn from a first step
    found = [step(model, *data, compression) for _ in range(draws)]
    result = {
        name: statistics.mean(relative([draw[i]], [exact[i]]) for draw in found)
        for i, name in enumerate(names)
    }
    mean = [torch.stack(parts).mean(0) for parts in zip(*found, strict=True)]
    result["all"] = statistics.mean(relative(draw, exact) for draw in found)
    result["mean"] = relative(mean, exact)
    return result


def memory(args: argparse.Namespace) -> None:
    device = accelerator_for(args.device, "float32").device
    settings = [level(text) for text in args.levels]
    print(
        "\nmodel            level  saved MB  ratio   peak MB  ratio   time [quartiles]       error  of mean"
    )
    for name in args.models:
        model, shape = network(name, device)
        data = batch(shape, args.batch_size, device)
        for _ in range(args.warm):  # at the first weights the gradient says little
            gradients = step(model, *data, None)
            with torch.no_grad():
                for weight, gradient in zip(model.parameters(), gradients, strict=True):
                    weight -= 0.05 * gradient
        counted = Compression(parse_level("L0"))
        step(model, *data, counted)
        compressions = {str(setting): compression_for(setting, device) for setting in settings}
        steps = {"plain": lambda m=model, d=data: step(m, *d, None)}
        for key, compression in compressions.items():
            steps[key] = lambda m=model, d=data, c=compression: step(m, *d, c)
        for once in steps.values():
            once()
        taken = times(steps, args.rounds, device)
        plain_peak = (
            peak_in_a_process(name, None, args)
            if device.type == "cpu"
            else peak(name, None, args.batch_size, device)
        )
        seconds = statistics.median(taken["plain"])
        print(
            f"{name:16} plain {counted.stored_bytes / 1e6:9.2f}         {plain_peak / 1e6:9.2f}"
            f"          {seconds * 1e3:.1f} ms a step"
        )
        for setting in settings:
            key = str(setting)
            compression = compressions[key]
            top = (
                peak_in_a_process(name, setting, args)
                if device.type == "cpu"
                else peak(name, setting, args.batch_size, device)
            )
            ratios = [a / b for a, b in zip(taken[key], taken["plain"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found = errors(model, data, compression, args.draws)
            ratio = compression.plain_bytes / compression.stored_bytes
            print(
                f"{'':16} {key:5} {compression.stored_bytes / 1e6:9.2f}  {ratio:5.2f} {top / 1e6:9.2f}"
                f"  {plain_peak / top:5.2f}   {middle:.2f} [{low:.2f}, {high:.2f}]"
                f"    {found['all']:8.4f} {found['mean']:8.4f}"
            )
            if args.layers:
                for layer, error in found.items():
                    if layer not in ("all", "mean"):
                        print(f"{'':23} {layer:44} {error:8.4f}")


def fewer(dataset: Dataset, rows: int | None) -> Dataset:
    if rows is None:
        return dataset

    def cut(split: Split) -> Split:
        return Split(split.inputs[:rows], split.targets[:rows])

    parts = {name: cut(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return Dataset(**{**vars(dataset), **parts})


def accuracy(args: argparse.Namespace) -> None:
    dataset = fewer(load(args.data, data_dir=args.data_dir, ood="none"), args.rows)
    objective, task = objectives.build(args.objective), task_of(dataset, 3)
    accelerator = accelerator_for(args.device, "float32")
    print(f"{args.data}: {len(dataset.train)} training rows, {len(dataset.test)} test rows")
    print(f"{args.accuracy_model}, {args.epochs} epochs, seeds 0 to {args.seeds - 1}\n")
    found: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        for setting in (None, *map(level, args.levels)):
            recipe = Recipe(epochs=args.epochs, compress_activations=setting)
            model = build_model(args.accuracy_model, objective, dataset, task, seed)
            started = time.perf_counter()
            try:
                trained = train(
                    model, objective, dataset, recipe, task=task, seed=seed, accelerator=accelerator
                )
            except Diverged as problem:
                print(f"seed {seed} {setting}: {problem}")
                found.setdefault(str(setting or "plain"), []).append(math.nan)
                continue
            seconds = time.perf_counter() - started
            logits = predict(trained.model, dataset.test.inputs, accelerator)
            wrong = 100 * float((logits.argmax(1) != dataset.test.targets).float().mean())
            found.setdefault(str(setting or "plain"), []).append(wrong)
            print(
                f"seed {seed} {setting or 'plain'!s:6} test error {wrong:6.2f} %  {seconds:8.1f} s",
                flush=True,
            )
    print("\nlevel   test error %, 95 % interval      less plain, paired")
    for key, values in found.items():
        one = estimate(values)
        gap = estimate([a - b for a, b in zip(values, found["plain"], strict=True)])
        paired = "" if key == "plain" else f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
        print(f"{key:6} {one.mean:7.2f} [{one.low:.2f}, {one.high:.2f}]       {paired}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["preact-resnet18", "mlp"])
    parser.add_argument("--levels", nargs="+", default=["L1", "L2", "2", "L3"], help="bits, or levels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--draws", type=int, default=5, help="of the rounding, for the error of gradients")
    parser.add_argument("--warm", type=int, default=5, help="plain steps before the measurement")
    parser.add_argument("--layers", action="store_true", help="print the error of each parameter's gradient")
    parser.add_argument("--accuracy", action="store_true", help="train, compressed against plain")
    parser.add_argument("--accuracy-model", default="cnn")
    parser.add_argument("--objective", default="cross-entropy")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="of each split, to try it out")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error(f"--rounds: got {args.rounds}, expected at least 2, for quartiles")
    if args.peak:
        name, setting, size, device, threads = json.loads(args.peak)
        torch.set_num_threads(threads)
        print(peak(name, setting, size, accelerator_for(device, "float32").device))
        return
    torch.set_num_threads(args.threads)
    print(shlex.join(["python", *sys.argv]))
    print(
        f"torch {torch.__version__}, {args.device} ({platform.machine()}), {args.threads} threads", end=", "
    )
    print("float32" if args.accuracy else f"float32, batch {args.batch_size}")
    (accuracy if args.accuracy else memory)(args)


if __name__ == "__main__":
    main()
