"""Plain training against orthogonal over-parameterised training: error, hyperspherical energy, cost.

Runs of one seed start from the same biases, norms and head and see the same batches; the orthogonal ones
also start from the same fixed neurons. All take the same recipe, that of `criterium train` unless options
say otherwise: nothing is tuned for either side, and the weights after the last epoch are tested.

Reported are the test error over seeds with its 95 % t-interval, and its difference from plain training,
paired by seed, with its interval and p-value (Holm's correction over methods); each layer's energy after
every epoch as a multiple of what it was before the first update (mean over layers); the largest
|QQᵀ − I| at the end; and the time of a training step in units of the plain one's, methods taking turns in
one process (median and quartiles, over rounds, of the ratio within a round).

Finished runs lie in OUT/runs.json and are not done again: the same command goes on where it was stopped.

    python benchmarks/orthogonal.py --data-dir DIR --seeds 3 --epochs 10 --jobs 2 --out OUT
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import nn

from criterium import objectives, orthogonal
from criterium._files import read_json, write_json
from criterium.comparison.cost import Stepper
from criterium.data import Dataset, Source, Split
from criterium.report.style import look, svg
from criterium.statistics.paired import estimate, holm, paired_p
from criterium.training.devices import accelerator_for
from criterium.training.recipe import Recipe
from criterium.training.trainer import Trainer, build_model, predict, task_of

PLAIN = "plain"
METHODS = (PLAIN, *orthogonal.METHODS, "gram_schmidt:stochastic=0.25")


def dataset(data: str, data_dir: str | None, rows: int | None) -> Dataset:
    """Return the data, with no more than `rows` for training and as many for each of the others."""
    full = Source(data, data_dir, ood="none").read().split()
    if rows is None:
        return full

    def fewer(split: Split) -> Split:
        return Split(split.inputs[:rows], split.targets[:rows])

    return dataclasses.replace(
        full, train=fewer(full.train), validation=fewer(full.validation), test=fewer(full.test)
    )


def trainer(args: argparse.Namespace, method: str, seed: int) -> Trainer:
    torch.set_num_threads(args.threads)
    data = dataset(args.data, args.data_dir, args.rows)
    objective, task = objectives.build("cross-entropy"), task_of(data, 3)
    recipe = Recipe(
        epochs=args.epochs, batch_size=args.batch_size, orthogonal=None if method == PLAIN else method
    )
    model = build_model(args.model, objective, data, task, seed)
    return Trainer(model, objective, data, recipe, task, seed, accelerator_for(args.device, "float32"))


def energies(model: nn.Module) -> list[float]:
    """Return the energy of each layer that orthogonal training takes."""
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return [float(orthogonal.hyperspherical_energy(layer.weight.detach().double())) for layer in layers]


def run(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Train once and return what came of it."""
    training = trainer(args, method, seed)
    backbone = training.modules["model"].get_submodule("backbone")
    test = dataset(args.data, args.data_dir, args.rows).test
    found: dict[str, Any] = {"method": method, "seed": seed, "energy": [energies(backbone)], "train_loss": []}
    started = time.perf_counter()
    for epoch in range(args.epochs):
        loss = training.epoch(epoch)
        if not math.isfinite(loss):
            return {**found, "diverged": f"the loss became {loss} in epoch {epoch + 1}"}
        found["train_loss"].append(loss)
        found["energy"].append(energies(backbone))
    found["seconds"] = time.perf_counter() - started
    if method != PLAIN:
        found["orthogonality_error"] = orthogonal.orthogonality_error(backbone)
    logits = predict(training.trained(), test.inputs, training.accelerator)
    found["error"] = float((logits.argmax(1) != test.targets).float().mean())
    return found


def costs(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return quartiles of each method's time of a step over the plain one's, and of the latter in ms."""
    steppers = {method: Stepper(trainer(args, method, 0)) for method in (PLAIN, *args.methods)}
    for stepper in steppers.values():
        stepper.steps(2)  # first calls allocate
    count = max(1, round(args.seconds / steppers[PLAIN].seconds_per_step(3)))
    ratios: dict[str, list[float]] = {method: [] for method in steppers}
    plain = []
    for _ in range(args.rounds):
        # The plain one takes as long a turn as its steps give; the slow ones need no more than a few.
        plain.append(steppers[PLAIN].seconds_per_step(count))
        for method, stepper in steppers.items():
            if method != PLAIN:
                ratios[method].append(stepper.seconds_per_step(max(1, count // 5)) / plain[-1])
    found = {method: statistics.quantiles(values, n=4) for method, values in ratios.items() if values}
    return {PLAIN: [1000 * value for value in statistics.quantiles(plain, n=4)], **found}


def relative_energy(energy: list[list[float]]) -> list[float]:
    """Return the mean over layers of the energy as a multiple of its first value, for each epoch."""
    return [
        statistics.fmean(now / first for now, first in zip(row, energy[0], strict=True)) for row in energy
    ]


@svg
def figure(runs: dict[str, list[dict[str, Any]]]) -> Figure:
    """Energy over epochs, mean over seeds with its interval."""
    drawing = Figure((6.0, 3.6), layout="constrained")
    panel = drawing.subplots()
    for position, (method, mine) in enumerate(runs.items()):
        curves = zip(*(relative_energy(each["energy"]) for each in mine), strict=False)
        means = [estimate(values) for values in curves]
        colour, marker = look(position)
        epochs = range(len(means))
        panel.plot(epochs, [of.mean for of in means], f"{marker}-", color=colour, markersize=4, label=method)
        if len(mine) > 1:
            low, high = [of.low for of in means], [of.high for of in means]
            panel.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("epoch")
    panel.set_ylabel("hyperspherical energy / at the start")
    panel.legend(fontsize=7, frameon=False)
    return drawing


def table(runs: dict[str, list[dict[str, Any]]], cost: dict[str, list[float]]) -> str:
    """Return the results as a Markdown table."""
    plain = {each["seed"]: each["error"] for each in runs[PLAIN]}
    pairs = {
        method: [each["error"] - plain[each["seed"]] for each in mine if "error" in each]
        for method, mine in runs.items()
        if method != PLAIN
    }
    corrected = dict(zip(pairs, holm([paired_p(values) for values in pairs.values()]), strict=True))
    lines = [
        "| training | test error, % | less plain, points | p (Holm) | energy, end / start | max abs QQᵀ − I"
        " | step, plain = 1 [quartiles] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, mine in runs.items():
        done = [each for each in mine if "error" in each]
        energy = [relative_energy(each["energy"])[-1] for each in done]
        worst = max(
            (each["orthogonality_error"] for each in done if "orthogonality_error" in each), default=None
        )
        low, middle, high = cost[method]
        lines.append(
            f"| {method} | {interval([100 * each['error'] for each in done])}"
            f" | {interval([100 * value for value in pairs[method]]) if method != PLAIN else '–'}"
            f" | {f'{corrected[method]:.3f}' if method != PLAIN else '–'}"
            f" | {statistics.fmean(energy):.6f} [{min(energy):.6f}, {max(energy):.6f}]"
            f" | {'–' if worst is None else f'{worst:.1e}'}"
            f" | {f'{middle:.2f} ms' if method == PLAIN else f'{middle:.2f}'} [{low:.2f}, {high:.2f}] |"
            if done
            else f"| {method} | diverged in every run | | | | | |"
        )
        if done and len(done) < len(mine):
            lines.append(f"| {method} | {len(mine) - len(done)} of {len(mine)} runs diverged | | | | | |")
    return "\n".join(lines)


def interval(values: list[float]) -> str:
    of = estimate(values)
    return f"{of.mean:.2f}" if math.isnan(of.half_width) else f"{of.mean:.2f} [{of.low:.2f}, {of.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--methods", nargs="+", default=METHODS[1:], choices=METHODS[1:])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rows", type=int, help="of each part of the data, for a trial")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on THREADS threads")
    parser.add_argument("--rounds", type=int, default=21, help="of the measurement of the cost")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a plain turn of it")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs.json and energy.svg")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "runs.json"
    settings = {key: getattr(args, key) for key in ("data", "model", "epochs", "batch_size", "rows")}
    stored = read_json(path) if path.exists() else {"settings": settings, "runs": []}
    if stored["settings"] != settings:
        raise SystemExit(f"{path} holds runs with other settings: {stored['settings']}")
    done = {(each["method"], each["seed"]) for each in stored["runs"]}
    # A seed after the other: what is there after an interruption is paired.
    wanted = [(method, seed) for seed in range(args.seeds) for method in (PLAIN, *args.methods)]
    todo = [pair for pair in wanted if pair not in done]
    results = joblib.Parallel(n_jobs=args.jobs, return_as="generator_unordered")(
        joblib.delayed(run)(args, *pair) for pair in todo
    )
    for result in results:
        stored["runs"].append(result)
        write_json(path, stored)
        print(
            json.dumps({key: result.get(key) for key in ("method", "seed", "error", "seconds")}), flush=True
        )
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in (PLAIN, *args.methods)}
    for each in sorted(stored["runs"], key=lambda each: each["seed"]):
        if each["method"] in runs and each["seed"] < args.seeds:
            runs[each["method"]].append(each)
    # On white, so that it can be read on a dark page too.
    drawn = figure(runs).replace("<svg ", '<svg style="background: #ffffff; color: #222222" ', 1)
    (args.out / "energy.svg").write_text(drawn, encoding="utf-8")
    cost = costs(args)
    print(shlex.join(["python", *sys.argv]))
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {args.device}, {platform.machine()}"
    )
    print(f"{args.threads} thread(s) a run, {len(dataset(args.data, args.data_dir, args.rows).train)} rows\n")
    print(table(runs, cost))


if __name__ == "__main__":
    main()
