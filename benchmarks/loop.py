"""Steps per second of criterium's training loop against a bare PyTorch loop.

Both train the same model with the same loss, batches of the same size, the same parameter groups and
learning-rate schedule, on tensors that stay on the device. They take turns in one process, an equal number
of epochs a round, so that whatever else the machine does falls on both; reported are the median and the
quartiles, over rounds, of the ratio within a round (1 is equally fast, more is faster than bare).

The bare loop runs twice: with torch's default implementation of the optimiser, and with ``fused=True``,
which is the one that criterium takes.

    python benchmarks/loop.py --models mlp cnn --objectives cross-entropy isomax --threads 1 --device cpu
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from criterium import objectives
from criterium.data import load
from criterium.training.devices import accelerator_for
from criterium.training.recipe import Recipe
from criterium.training.trainer import Trainer, build_model, task_of

SCHEDULE_EPOCHS = 10_000  # the schedule's length; no round comes near its end


def bare(model: nn.Module, trainer: Trainer, *, fused: bool | None) -> Callable[[int], None]:
    """Return a function that trains for one epoch, as one would write it by hand."""
    device, recipe, steps = trainer.accelerator.device, trainer.recipe, trainer.steps
    inputs, targets = trainer.data.inputs, trainer.data.targets
    model = model.to(device)
    criterion = trainer.criteria[0]
    decayed = [p for p in model.parameters() if p.dim() > 1]
    spared = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": spared, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=trainer.rate, fused=fused)
    else:
        optimizer = torch.optim.SGD(groups, lr=trainer.rate, momentum=0.9, nesterov=True, fused=fused)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.factor(step / (steps * recipe.epochs))
    )
    half = trainer.accelerator.mixed_precision == "bf16"

    def epoch(_: int) -> None:
        model.train()
        for rows in torch.randperm(len(targets), device=device).tensor_split(steps):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext():
                logits = model(inputs[rows])
            loss = criterion(logits.float(), targets[rows])
            loss.backward()
            optimizer.step()
            scheduler.step()

    return epoch


def race(args: argparse.Namespace, model: str, name: str) -> None:
    dataset = load(args.data, ood="none" if args.data == "digits" else None)
    objective, task = objectives.build(name), task_of(dataset, 3)
    recipe = Recipe(epochs=SCHEDULE_EPOCHS, batch_size=args.batch_size, optimizer=args.optimizer)
    accelerator = accelerator_for(args.device, args.precision)

    def fresh() -> nn.Module:
        return build_model(model, objective, dataset, task, seed=0)

    trainer = Trainer(fresh(), objective, dataset, recipe, task, 0, accelerator)
    if len(trainer.criteria) > 1 or objective.gradient_transform() is not None or objective.mixes:
        raise SystemExit(f"{name}: changes more than the loss; the bare loop here does not")
    contenders = {
        "criterium": trainer.epoch,
        "default": bare(fresh(), trainer, fused=None),
        "fused": bare(fresh(), trainer, fused=True),
    }

    def seconds(epoch: Callable[[int], object], first: int, count: int) -> float:
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for number in range(first, first + count):
            epoch(number)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    for epoch in contenders.values():
        seconds(epoch, 0, 3)  # first calls allocate and choose algorithms
    count = max(1, round(args.seconds / seconds(contenders["fused"], 0, 1)))
    order = list(contenders)
    taken: dict[str, list[float]] = {key: [] for key in order}
    for number in range(args.rounds):
        order.append(order.pop(0))
        for key in order:
            taken[key].append(seconds(contenders[key], number * count, count))
    rate = {key: count * trainer.steps / statistics.median(values) for key, values in taken.items()}
    for key in ("fused", "default"):
        ratios = [theirs / ours for theirs, ours in zip(taken[key], taken["criterium"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{model:16} {name:16} {key:8} {rate['criterium']:9.0f} {rate[key]:9.0f}"
            f"   {middle:.3f} [{low:.3f}, {high:.3f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--objectives", nargs="+", default=["cross-entropy", "isomax"])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--optimizer", default="sgd", choices=("sgd", "adamw"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = accelerator_for(args.device, args.precision).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(shlex.join(["python", *sys.argv]))
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {device} ({name})", end=", ")
    print(f"{torch.get_num_threads()} threads, {args.optimizer}, batch {args.batch_size}, {args.precision}")
    print(
        f"\n{'model':16} {'objective':16} {'bare is':8} {'ours 1/s':>9} {'bare 1/s':>9}   ratio [quartiles]"
    )
    for model in args.models:
        for objective in args.objectives:
            race(args, model, objective)


if __name__ == "__main__":
    main()
