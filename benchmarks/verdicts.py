"""What the verdicts of a race are worth: how often identical objectives "differ", and what intervals hold.

    python benchmarks/verdicts.py same car.parquet cylinder-bands.parquet --label __label__
    python benchmarks/verdicts.py population adult.parquet --label __label__

*same*: races between cross-entropy and a copy of it under another name, which has tuning draws of its own.
Each race has splits, weights and draws of its own. Then the repeats of several races are judged together,
and a difference is planted in one side, for the curve of power.

*population*: each race gets another sample of rows from a large table, and two objectives that differ. The
printed 95 % intervals should hold the mean difference over all samples.

Models are linear. Races run in ``--jobs`` processes; results are kept in ``--out`` as they come, so that an
interrupted experiment goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from scipy import stats

from criterium.comparison import Study, compare, race, study
from criterium.objectives.cross_entropy import CrossEntropy
from criterium.report.style import look, svg
from criterium.statistics import Design, judge
from criterium.training import Recipe

SAMPLE = 600
TOGETHER = (1, 2, 4, 8)
PLANTED = np.linspace(0, 0.08, 17)


def copy_of_cross_entropy() -> CrossEntropy:
    """Return cross-entropy under another name, made where it is used: a class of a script does not travel."""

    @dataclass(frozen=True)
    class Copy(CrossEntropy):
        name = "copy"

    return Copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=("same", "population"))
    parser.add_argument("data", nargs="+", type=Path, help="Parquet tables")
    parser.add_argument("--label", required=True)
    parser.add_argument("--drop", nargs="*", default=[], help="columns to leave out")
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tune", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rival", default="exact", help="the other objective of `population`")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/verdicts"))
    parser.add_argument("--plot", type=Path, help="SVG file: power, and verdicts by repeats")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for path in given.data:
        races = all_races(path, given)
        found[path.stem] = races
        if given.experiment == "same":
            print_same(path.stem, races)
        else:
            print_population(path.stem, races)
    if given.plot and given.experiment == "same":
        given.plot.write_text(plot(found), encoding="utf-8")


def all_races(path: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each race found, from the file where an earlier call left it."""
    key = f"{given.experiment}-{path.stem}-{given.repeats}-{given.tune}-{given.epochs}-{given.rival}"
    kept = given.out / f"{key}.jsonl"
    known = {}
    if kept.exists():
        known = {one["race"]: one for one in map(json.loads, kept.read_text().splitlines())}
    table = pq.read_table(path)
    table = table.drop_columns([name for name in given.drop if name in table.column_names])
    waiting = [number for number in range(given.races) if number not in known]
    pool = joblib.Parallel(n_jobs=given.jobs, return_as="generator_unordered")
    options = {
        name: getattr(given, name) for name in ("experiment", "label", "repeats", "tune", "epochs", "rival")
    }
    with kept.open("a", encoding="utf-8") as file:
        for one in pool(joblib.delayed(one_race)(table, number, options) for number in waiting):
            known[one["race"]] = one
            file.write(json.dumps(one) + "\n")
            file.flush()
            print(f"\r{path.stem}: {len(known)} of {given.races} races", end="", file=sys.stderr)
    print(file=sys.stderr)
    return [known[number] for number in range(given.races)]


def one_race(table: pa.Table, number: int, options: dict[str, Any]) -> dict[str, Any]:
    """Carry out one race, without figures and without a measurement of cost."""
    study.write_report = lambda *_, **__: None
    race.measure_cost = lambda plan, *_: dict.fromkeys(plan.objectives, 1.0)
    repeats = options["repeats"]
    rival: Any = copy_of_cross_entropy()
    first = number * repeats  # no split is met twice
    if options["experiment"] == "population":
        rows = np.sort(np.random.default_rng([7, number]).choice(len(table), SAMPLE, replace=False))
        table, rival, first = table.take(pa.array(rows)), options["rival"], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(table, path)
        done = compare(
            f"parquet:{path}",
            label=options["label"],
            objectives=["cross-entropy", rival],
            model="linear",
            repeats=list(range(first, first + repeats)),
            tune=options["tune"],
            study_seed=number + 1,
            k=1,
            metric="top1-error",
            recipe=Recipe(epochs=options["epochs"]),
            device="cpu",
            jobs=1,
            out=Path(folder) / "run",
        )
        return {"race": number, **summary(done)}


def summary(done: Study) -> dict[str, Any]:
    (verdict,) = done.verdicts
    errors = {
        label: [row["metrics"]["top1_error"] for row in done.results if row["objective"] == label]
        for label in done.plan.objectives
    }
    units = done.config["data"]["units"]
    return {
        "verdict": asdict(verdict),
        "margin": done.margin,
        "errors": list(errors.values()),
        "test": units["test"],
        "other": units["other"],
    }


def print_same(name: str, races: Sequence[dict[str, Any]]) -> None:
    """Print verdicts on identical objectives, of races and of races put together, and the power."""
    shares = counted([one["verdict"]["verdict"] for one in races])
    false = shares["better"] + shares["worse"]
    limit = 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(races))
    print(f"\n{name}: {len(races)} races of two identical objectives, {races[0]['verdict']['metric']}")
    print(f"  called better or worse: {false:.3f} (at most {limit:.3f} is asked for)")
    deviation = np.mean([np.std(np.subtract(*one["errors"]), ddof=1) for one in races])
    ratio = races[0]["test"] / races[0]["other"]
    print(
        f"  standard deviation of a difference {100 * deviation:.2f} points; 2 s sqrt(r)"
        f" {200 * deviation * math.sqrt(ratio):.2f}; median margin"
        f" {100 * np.median([one['margin'] for one in races]):.2f}"
    )
    print("\n  | repeats | judged | better or worse | as good within 1 point | 0.5 points | 2 points |")
    print("  | ---: | ---: | ---: | ---: | ---: | ---: |")
    for together in enough(races):
        rows = [
            counted([answer(group, margin) for group in groups(races, together)])
            for margin in (0.01, 0.005, 0.02)
        ]
        different = rows[0]["better"] + rows[0]["worse"]
        cells = " | ".join(f"{row['as good']:.2f}" for row in rows)
        count = len(groups(races, together))
        print(f"  | {together * len(races[0]['errors'][0])} | {count} | {different:.3f} | {cells} |")
    print("\n  power, by planted difference in points:")
    for repeats, values in power(races).items():
        shown = ", ".join(
            f"{100 * planted:.1f}: {value:.2f}"
            for planted, value in zip(PLANTED[::2], values[::2], strict=True)
        )
        print(f"  {repeats} repeats: {shown}")


def power(races: Sequence[dict[str, Any]]) -> dict[int, list[float]]:
    """Return by number of repeats how often a planted difference is seen: margins as small as can be."""
    return {
        together * len(races[0]["errors"][0]): [
            np.mean([answer(group, 1e-6, planted) == "worse" for group in groups(races, together)])
            for planted in PLANTED
        ]
        for together in enough(races)
    }


def enough(races: Sequence[dict[str, Any]]) -> list[int]:
    """Return how many races can be put together."""
    return [together for together in TOGETHER if together <= len(races)]


def groups(races: Sequence[dict[str, Any]], together: int) -> list[list[dict[str, Any]]]:
    return [list(races[i : i + together]) for i in range(0, len(races) - together + 1, together)]


def answer(group: Sequence[dict[str, Any]], margin: float, planted: float = 0.0) -> str:
    """Return the verdict of the race's own judge on the repeats of several races."""
    control, copy = (np.concatenate([one["errors"][side] for one in group]) for side in (0, 1))
    results = [
        {"objective": label, "seed": number, "top1_error": float(value)}
        for label, values in (("cross-entropy", control), ("copy", copy + planted))
        for number, value in enumerate(values)
    ]
    table = judge(
        results,
        metric="top1_error",
        metrics=["top1_error"],
        baseline="cross-entropy",
        k=1,
        margin=margin,
        design=Design(True, group[0]["test"], group[0]["other"]),
    )
    return table.verdicts[0].verdict


def counted(verdicts: Sequence[str]) -> dict[str, float]:
    return {
        name: float(np.mean([one == name for one in verdicts]))
        for name in ("better", "as good", "worse", "cannot tell")
    }


def print_population(name: str, races: Sequence[dict[str, Any]]) -> None:
    """Print how many of the intervals hold the mean difference over all samples."""
    differences = np.array([one["verdict"]["difference"] for one in races])
    truth = differences.mean()
    held = [one["verdict"]["low"] <= truth <= one["verdict"]["high"] for one in races]
    plain = []
    for one in races:
        apart = np.subtract(one["errors"][1], one["errors"][0])
        half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / math.sqrt(len(apart))
        plain.append(abs(apart.mean() - truth) <= half)
    halves = [(one["verdict"]["high"] - one["verdict"]["low"]) / 2 for one in races]
    scatter, half = 100 * differences.std(ddof=1), 100 * np.mean(halves)
    print(f"\n{name}: {len(races)} samples of {SAMPLE} rows")
    print(f"  mean difference over all samples {100 * truth:+.2f} points, of one sample ± {scatter:.2f}")
    print(f"  95 % intervals that hold it: {np.mean(held):.3f} (at least 0.92 is asked for)")
    print(f"  their mean half width: {half:.2f} points")
    print(f"  without the correction for shared rows they would hold it in {np.mean(plain):.3f}")
    for label, share in counted([one["verdict"]["verdict"] for one in races]).items():
        print(f"  {label}: {share:.3f}")


@svg
def plot(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw how often a planted difference is seen, by the number of repeats."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, races) in zip(panels, found.items(), strict=True):
        for place, (repeats, values) in enumerate(power(races).items()):
            axes.plot(100 * PLANTED, values, color=look(place)[0], label=f"{repeats} repeats")
        axes.set(title=name, xlabel="planted difference, points of error", ylim=(-0.02, 1.02))
    panels[-1].legend(frameon=False, loc="lower right")
    panels[0].set_ylabel("share of races that say “worse”")
    return figure


if __name__ == "__main__":
    main()
