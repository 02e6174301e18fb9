"""A finished comparison, read from what it left on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from criterium._files import expanded, page_at
from criterium._sealed import check_described, hash_of, read_sealed
from criterium.comparison.config import read_config
from criterium.comparison.entrants import how_to_go_on
from criterium.comparison.flagged import flags_of
from criterium.comparison.made import check_made
from criterium.comparison.plan import Plan
from criterium.comparison.runs import Run
from criterium.data.hierarchy import Hierarchy
from criterium.data.raw import listed
from criterium.evaluation.commonest import commonest
from criterium.evaluation.hierarchy import tree_metrics
from criterium.evaluation.measures import RowSample, mean_sample, measure, row_sample
from criterium.evaluation.metrics import default_metric
from criterium.evaluation.predictions import Predictions
from criterium.report import RunView, write_report
from criterium.statistics import Design, Table, Verdict, judge
from criterium.statistics.flags import Flags
from criterium.statistics.formats import scale
from criterium.statistics.margins import default_margin

SHOWN = (
    *("top1_error", "topk_error"),
    *("nll", "brier", "calibration_error", "calibration_error_uncalibrated", "risk_coverage_area"),
    *("auroc", "aupr"),
)

RARE = ("class_mean_error", "many_shot_error", "medium_shot_error", "few_shot_error")
"""What is shown too where class counts differ much."""

GROUPS = "test-groups.npy"

_NAMED = 1000
"""Up to so many classes are named one by one in the report."""


Chosen = dict[str, dict[str, dict[str, Any]]]
"""By objective and number of the repeat: which trial was chosen, and its setting."""


@dataclass(frozen=True)
class Study:
    """A finished comparison, read from its folder."""

    folder: Path
    config: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    cost: dict[str, float]
    samples: Mapping[tuple[str, str], RowSample]

    @cached_property
    def plan(self) -> Plan:
        """What was to be done."""
        return Plan.from_dict(self.config["plan"])

    @property
    def verdicts(self) -> list[Verdict]:
        """Better, as good, worse or cannot tell, for each objective other than the baseline."""
        return self.table.verdicts

    @cached_property
    def table(self) -> Table:
        """Objectives by metrics, with intervals, differences from the baseline, verdicts and sentences."""
        plan, data = self.plan, self.config["data"]
        rows = [{**row, **row["metrics"]} for row in self.results]
        repeats = len({row["seed"] for row in rows})
        units = data["units"]
        unit = self.cost.get(plan.baseline, 1.0)
        return judge(
            rows,
            metric=plan.metric,
            metrics=_columns(_hierarchy(self.config), data["class_counts"]),
            baseline=plan.baseline,
            k=plan.k,
            margin=self.margin,
            design=Design(data["test_varies"], units["test"], units["other"], units["are"]),
            sample=(lambda name, metric: self.samples[name, metric]) if self.samples else None,
            flags=self.flags,
            cost={label: value / unit for label, value in self.cost.items()},
            notes=[*filter(None, [data.get("why_metric")]), *data["notes"]],
            looks=[(look.repeats, look.share) for look in plan.looks if look.repeats <= repeats],
        )

    @cached_property
    def margin(self) -> float:
        """The least difference that matters, fixed by validation rows of the first repeat."""
        plan = self.plan
        if plan.margin is not None:
            return plan.margin / scale(plan.metric)
        first = next(row for row in self.results if row["objective"] == plan.baseline)
        return default_margin(plan.metric, first.get("validation", math.nan))

    @cached_property
    def flags(self) -> dict[str, Flags]:
        """What speaks against a fair chance, by objective."""
        return flags_of(self.plan, self.results, self.margin)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the HTML page, into the folder of the study unless `path` says otherwise."""
        target = page_at(path if path is not None else self.folder / "report.html")
        runs = [
            RunView.of(
                row["objective"],
                row["seed"],
                Predictions.load(_place(self.folder, row) / "predictions.parquet"),
                row.get("history"),
                row["metrics"]["temperature"],
            )
            for row in self.results
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


def open_study(folder: str | os.PathLike[str], repeats: int | None = None) -> Study:
    """Return the finished comparison in `folder`; its numbers are computed anew from the predictions.

    Args:
        folder: where it was written to.
        repeats: look at the first so many alone, while others may be under way.

    Raises:
        ValueError: it is not finished, or what is there does not belong together.
    """
    root = expanded(folder)
    config, plan = read_config(root)
    check_made(root, plan, config)
    chosen = chosen_settings(root, plan)
    runs = reported_runs(plan, chosen, repeats)
    # Rows are a source of chance where all repeats share them, and the only one in a single repeat.
    rowwise = not config["data"]["test_varies"] or len(runs) == len(plan.objectives)
    results, samples = [], {}
    for label in plan.objectives:
        found = [_read(root, config, plan, run, rowwise) for run in runs if run.objective == label]
        results += [result for result, _ in found]
        for metric in found[0][1]:
            samples[label, metric] = mean_sample([sample[metric] for _, sample in found])
    _check_paired(root, results)
    if all("diverged" in result for result in results):
        why = results[0]["diverged"]
        raise ValueError(f"{root}: every run diverged ({why}); try a smaller learning rate")
    study = Study(root, config, tuple(results), known_cost(root), samples)
    done = len(runs) // len(plan.objectives)
    if repeats is None and done < len(plan.seeds) and not decided(study.verdicts):
        raise _unfinished(root, f"repeat {plan.seeds[done]}", plan)
    return study


def decided(verdicts: Sequence[Verdict]) -> bool:
    """Return whether all verdicts are in, or none that is open can come."""
    return all(one.verdict != "cannot tell" or one.repeats_needed is None for one in verdicts)


def _read(
    root: Path, config: Mapping[str, Any], plan: Plan, run: Run, rowwise: bool
) -> tuple[dict[str, Any], dict[str, RowSample]]:
    """Return what a run found, its numbers computed anew, and what they owe to the rows where that is"
    " asked."""
    try:
        result = run.found(root)
    except FileNotFoundError:
        raise _unfinished(root, run.name, plan) from None
    except ValueError as error:
        raise ValueError(f"{error}; the run is done again by: {how_to_go_on(root, plan)}") from error
    predictions = Predictions.load(run.place(root) / "predictions.parquet")
    if (classes := predictions.logits.shape[1]) != (expected := len(config["data"]["classes"])):
        path = run.place(root) / "predictions.parquet"
        raise ValueError(f"{path}: got {classes} classes, expected {expected} as in config.json")
    result["rows"] = hash_of([predictions.split.tolist(), predictions.target.tolist()])
    hierarchy, counts = _hierarchy(config), config["data"]["class_counts"]
    temperature = 1.0 if "diverged" in result else None
    result["metrics"] = found = measure(
        predictions, k=plan.k, hierarchy=hierarchy, class_counts=counts, temperature=temperature
    )
    test = predictions.where("test").logits
    result["collapsed"] = "diverged" not in result and len(np.unique(test.argmax(axis=1))) == 1
    result["commonest"] = measure(
        commonest(predictions, counts), k=plan.k, hierarchy=hierarchy, class_counts=counts, temperature=1.0
    )[plan.metric]
    if not rowwise:
        return result, {}
    groups = _test_groups(root, config)
    return result, {
        metric: row_sample(
            predictions,
            metric,
            k=plan.k,
            temperature=found["temperature"],
            hierarchy=hierarchy,
            class_counts=counts,
            groups=groups,
        )
        for metric in (plan.metric, *_columns(hierarchy, counts))
        if not math.isnan(found.get(metric, math.nan))
    }


def _check_paired(root: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Raise a `ValueError` if runs of one repeat began with other backbones, or saw other data."""
    for what, words in (
        ("backbone", "began with other weights"),
        ("data", "saw other rows"),
        ("rows", "predicted other rows"),
    ):
        first: dict[int, Mapping[str, Any]] = {}
        for result in results:
            base = first.setdefault(result["seed"], result)
            if result.get(what) != base.get(what):
                raise ValueError(
                    f"{root}: {result['objective']} {words} than {base['objective']} in repeat"
                    f" {result['seed']}: they are not paired"
                )


def _test_groups(root: Path, config: Mapping[str, Any]) -> np.ndarray | None:
    """Return which test rows belong together, where all repeats share the rows and they are grouped."""
    check_described(root, config["data"].get("files", {}))
    path = root / GROUPS
    return np.load(path, allow_pickle=False) if GROUPS in config["data"].get("files", {}) else None


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


def _columns(hierarchy: Hierarchy | None, class_counts: Sequence[int]) -> tuple[str, ...]:
    """Return the metrics that the table shows: those of rare classes and of the tree where there are any."""
    tree = () if hierarchy is None else tree_metrics(hierarchy)
    rare = RARE if default_metric(class_counts)[0] == "class_mean_error" else ()
    return (*SHOWN[:2], *rare, *tree, *SHOWN[2:])


def chosen_settings(root: Path, plan: Plan) -> Chosen:
    """Return the trial and the setting that each objective was reported with, by repeat."""
    path = root / "settings.json"
    if not path.exists():
        raise _unfinished(root, f"repeat {plan.seeds[0]}", plan)
    found = read_sealed(path)
    try:
        sound = all(
            isinstance(one["trial"], int) and isinstance(one["setting"], dict)
            for label in plan.objectives
            for one in found[label].values()
        )
    except (TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(f"{path}: got other contents than a setting for each objective and repeat")
    known: Chosen = found
    return known


def known_cost(root: Path) -> dict[str, float]:
    """Return the cost of a step by objective; nothing where it was not measured."""
    try:
        return read_sealed(root / "cost.json")
    except FileNotFoundError:
        return {}


def reported_runs(plan: Plan, chosen: Chosen, repeats: int | None = None) -> list[Run]:
    """Return the runs that the table is made of: of all repeats, or of as many as an adaptive race made."""
    there = min(len(of_one) for of_one in (chosen[label] for label in plan.objectives))
    stops = {look.repeats for look in plan.looks}
    count = repeats if repeats is not None else there if there in stops else len(plan.seeds)
    return [
        Run(label, seed, one["setting"], one["trial"])
        for label in plan.objectives
        for seed in plan.seeds[:count]
        for one in [chosen[label].get(str(seed), {"setting": {}, "trial": 0})]
    ]


def _unfinished(root: Path, what: str, plan: Plan) -> ValueError:
    return ValueError(f"{root}: {what} is not finished; go on with: {how_to_go_on(root, plan)}")


def _place(root: Path, row: Mapping[str, Any]) -> Path:
    return Run(row["objective"], row["seed"], row["setting"]).place(root)


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
        "settings chosen on validation rows, by repeat": {
            label: {
                str(row["seed"]): row["setting"] or "default" for row in results if row["objective"] == label
            }
            for label in plan["objectives"]
        },
        "recipe": recipe,
        "machine": config["machine"],
    }
