"""A finished comparison, read from what it left on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from criterium._files import read_json
from criterium.comparison.config import read_config
from criterium.comparison.entrants import how_to_go_on
from criterium.comparison.plan import Plan
from criterium.comparison.runs import Run
from criterium.data.hierarchy import Hierarchy
from criterium.data.raw import listed
from criterium.evaluation.metrics import measure, tree_metrics
from criterium.evaluation.predictions import Predictions
from criterium.report import RunView, write_report
from criterium.statistics.table import Table, summarise

SHOWN = (
    "top1_error",
    "topk_error",
    "nll",
    "calibration_error",
    "calibration_error_uncalibrated",
    "auroc",
)

_NAMED = 1000
"""Up to so many classes are named one by one in the report."""


@dataclass(frozen=True)
class Study:
    """A finished comparison, read from its folder."""

    folder: Path
    config: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    cost: dict[str, float]

    @cached_property
    def plan(self) -> Plan:
        """What was to be done."""
        return Plan.from_dict(self.config["plan"])

    @cached_property
    def table(self) -> Table:
        """Objectives by metrics, with intervals, differences from the baseline and plain sentences."""
        plan = self.plan
        rows = [{**row, **row["metrics"]} for row in self.results if "metrics" in row]
        if not rows:
            raise ValueError(all_diverged(self.folder, self.results))
        finished = [row["objective"] for row in rows]
        # The others are compared among themselves if no run of the baseline came to an end.
        baseline = plan.baseline if plan.baseline in finished else finished[0]
        unit = self.cost.get(baseline, 1.0)
        return summarise(
            rows,
            metrics=_columns(_hierarchy(self.config)),
            baseline=baseline,
            k=plan.k,
            cost={label: value / unit for label, value in self.cost.items()},
            notes=[*self.config["data"]["notes"], *_diverged(self.results)],
        )

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the HTML page, into the folder of the study unless `path` says otherwise."""
        target = Path(path) if path is not None else self.folder / "report.html"
        runs = [
            RunView.of(
                row["objective"],
                row["seed"],
                Predictions.load(_place(self.folder, row) / "predictions.parquet"),
                row["history"],
                row["metrics"]["temperature"],
            )
            for row in self.results
            if "metrics" in row
        ]
        name = self.config["data"]["name"]
        write_report(
            target,
            title=f"{len(self.plan.objectives)} ways to train {self.plan.model} on {name}",
            config=_shown(self.config, self.results),
            table=self.table,
            runs=runs,
        )
        return target


def open_study(folder: str | os.PathLike[str]) -> Study:
    """Return the finished comparison in `folder`; its numbers are computed anew from the predictions."""
    root = Path(folder)
    config, plan = read_config(root)
    hierarchy = _hierarchy(config)
    results = []
    for run in reported_runs(plan, chosen_settings(root, plan)):
        result = run.result(root)
        if result is None:
            raise ValueError(f"{root}: {run.name} is not finished; go on with: {how_to_go_on(root, plan)}")
        if "metrics" in result:
            predictions = _predictions(root, run, plan)
            result["metrics"] = measure(predictions, k=plan.k, hierarchy=hierarchy)
        results.append(result)
    return Study(root, config, tuple(results), known_cost(root))


def tables_of(folders: Sequence[Path]) -> dict[str, Table]:
    """Return the tables of finished comparisons, called after their data, and their models where need be."""
    studies = [open_study(folder) for folder in folders]
    names = [study.config["data"]["name"] for study in studies]
    if len(set(names)) < len(names):
        names = [f"{name}, {study.plan.model}" for name, study in zip(names, studies, strict=True)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"runs: got {name} twice, expected each data set once")
    return {name: study.table for name, study in zip(names, studies, strict=True)}


def _hierarchy(config: Mapping[str, Any]) -> Hierarchy | None:
    """Return the tree that the classes hang in; comparisons of earlier versions know of none."""
    found = config["data"].get("hierarchy")
    return None if found is None else tuple(map(tuple, found))


def _columns(hierarchy: Hierarchy | None) -> tuple[str, ...]:
    """Return the metrics that the table shows: those of the tree beside the other errors."""
    return SHOWN if hierarchy is None else (*SHOWN[:2], *tree_metrics(hierarchy), *SHOWN[2:])


def chosen_settings(root: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the setting that each objective runs with."""
    path = root / "settings.json"
    if plan.tune and not path.exists():
        raise _unfinished(root, "tuning", plan)
    found: dict[str, dict[str, Any]] = read_json(path) if plan.tune else {o: {} for o in plan.objectives}
    if not isinstance(found, dict) or not set(plan.objectives) <= found.keys():
        raise ValueError(f"{path}: got other contents than a setting for each objective")
    return found


def known_cost(root: Path) -> dict[str, float]:
    """Return the cost of a step by objective; nothing where it was not measured or cannot be read."""
    try:
        found = read_json(root / "cost.json")
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _predictions(root: Path, run: Run, plan: Plan) -> Predictions:
    path = run.place(root) / "predictions.parquet"
    try:
        return Predictions.load(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{error}; remove {path.parent} and go on with: {how_to_go_on(root, plan)}"
        ) from error


def all_diverged(root: Path, results: Sequence[Mapping[str, Any]]) -> str:
    """Return what to say where there is nothing to compare."""
    return f"{root}: every run diverged ({results[0]['diverged']}); try a smaller learning rate"


def reported_runs(plan: Plan, chosen: Mapping[str, dict[str, Any]]) -> list[Run]:
    """Return the runs that the table is made of."""
    return [Run(label, seed, chosen[label]) for label in plan.objectives for seed in plan.seeds]


def _unfinished(root: Path, what: str, plan: Plan) -> ValueError:
    return ValueError(f"{root}: {what} is not finished; go on with: {how_to_go_on(root, plan)}")


def _place(root: Path, row: Mapping[str, Any]) -> Path:
    return Run(row["objective"], row["seed"], row["setting"]).place(root)


def _diverged(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lost: dict[str, list[str]] = {}
    for row in results:
        if "diverged" in row:
            lost.setdefault(row["objective"], []).append(str(row["seed"]))
    return [
        f"{label} diverged with seed {', '.join(seeds)}; its numbers leave these runs out."
        for label, seeds in lost.items()
    ]


def _shown(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings as the report shows them: flat enough to read."""
    plan, data = config["plan"], config["data"]
    classes = data["classes"] if len(data["classes"]) <= _NAMED else listed(data["classes"])
    setup = dict(plan["setup"])
    source, recipe = setup.pop("source"), setup.pop("recipe")
    return {
        **{name: value for name, value in plan.items() if name != "setup"},
        **setup,
        "data": {**{n: v for n, v in source.items() if v not in (None, False)}, "classes": classes},
        "parts": {
            name: {"rows": count, "sha256": data["hashes"][name]} for name, count in data["rows"].items()
        },
        "settings chosen on validation rows": {
            row["objective"]: row["setting"] or "as published" for row in results
        },
        "recipe": recipe,
        "machine": config["machine"],
    }
