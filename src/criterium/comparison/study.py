"""A comparison from beginning to end, and what it left on disk."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from criterium._checks import at_least
from criterium._files import read_json, whole, write_json
from criterium.comparison import tuning
from criterium.comparison.cost import measure_cost
from criterium.comparison.executor import RunFailed, execute_all
from criterium.comparison.folder import alone, free_folder, new_folder, opened_log, read_config
from criterium.comparison.plan import Plan, Source
from criterium.comparison.progress import Progress
from criterium.comparison.rehearsal import rehearse
from criterium.comparison.runs import Run, machine, trial
from criterium.data import Dataset
from criterium.evaluation.metrics import METRICS, measure
from criterium.evaluation.predictions import Predictions
from criterium.report import RunView, write_report
from criterium.statistics.table import Table, summarise
from criterium.training import Recipe

DEFAULT_OBJECTIVES = ("cross-entropy", "exact", "topk", "noised-topk", "dismax", "cot")
SHOWN = (
    "top1_error",
    "topk_error",
    "nll",
    "calibration_error",
    "calibration_error_uncalibrated",
    "auroc",
)


@dataclass(frozen=True)
class Study:
    """A finished comparison, read from its folder."""

    folder: Path
    config: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    cost: dict[str, float]

    @property
    def plan(self) -> Plan:
        """What was to be done."""
        return Plan.from_dict(self.config["plan"])

    @property
    def table(self) -> Table:
        """Objectives by metrics, with intervals, differences from the baseline and plain sentences."""
        plan = self.plan
        rows = [{**row, **row["metrics"]} for row in self.results if "metrics" in row]
        if not rows:
            raise ValueError(_all_diverged(self.folder, self.results))
        finished = [row["objective"] for row in rows]
        # The others are compared among themselves if no run of the baseline came to an end.
        baseline = plan.baseline if plan.baseline in finished else finished[0]
        unit = self.cost.get(baseline, 1.0)
        return summarise(
            rows,
            metrics=SHOWN,
            baseline=baseline,
            k=plan.k,
            cost={label: value / unit for label, value in self.cost.items()},
            notes=[*self.config["data"]["notes"], *_diverged(self.results)],
        )

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the HTML page, into the folder of the study unless `path` says otherwise."""
        target = Path(path) if path is not None else self.folder / "report.html"
        runs = [
            RunView(
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


def compare(
    data: str = "digits",
    *,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    model: str = "mlp",
    seeds: int | Sequence[int] = 5,
    k: int | None = None,
    tune: int = 4,
    data_dir: str | os.PathLike[str] | None = None,
    label: str | None = None,
    ood: str | None = None,
    recipe: Recipe | None = None,
    device: str = "auto",
    precision: str = "auto",
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Study:
    """Train every objective on the same data under the same protocol, and compare them.

    Args:
        data: a source from `criterium.data.SOURCES`, such as "digits" or "npz:FILE".
        objectives: names from `criterium.objectives.OBJECTIVES`, also with options, "exact:margin=0.5".
        model: a backbone from `criterium.models.MODELS`, or "pkg.module:factory".
        seeds: how many, or which.
        k: for the top-k error and the top-k objectives; by default 3, or fewer where classes are few.
        tune: settings to try for each objective on validation rows; 0 uses the published ones.
        data_dir, label, ood: see `criterium.data.load`.
        recipe: how to train; see `criterium.training.Recipe`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bf16".
        jobs: runs at a time; by default one a core, or one on a GPU.
        out: folder to write to; by default a new one under "runs".
        progress: told what is going on.

    Returns:
        The finished study.

    Raises:
        ValueError: for arguments and data that do not fit, in one line.

    Example:
        >>> import tempfile
        >>> study = compare(
        ...     data="digits", objectives=["cross-entropy", "exact"], seeds=2, tune=0,
        ...     model="linear", recipe=Recipe(epochs=2), out=tempfile.mkdtemp() + "/run",
        ... )
        >>> study.table.objectives
        ('cross-entropy', 'exact')

    """
    directory = None if data_dir is None else str(data_dir)
    source = Source(data, directory, label, ood)
    dataset = source.load_anew()
    classes = len(dataset.classes)
    if isinstance(seeds, int):
        seeds = range(at_least("seeds", seeds, 1))
    if k is not None and not 1 <= k < classes:
        raise ValueError(
            f"k: got {k}, expected 1 to {classes - 1}: the data has {classes} classes to train on"
        )
    cores = _cores()
    workers = jobs if jobs is not None else (1 if _on_gpu(device) else cores)
    plan = Plan(
        source=source,
        model=model,
        objectives=tuple(objectives),
        seeds=tuple(seeds),
        k=k if k is not None else min(3, classes - 1),
        tune=tune,
        recipe=recipe or Recipe(),
        device=device,
        precision=precision,
        jobs=workers,
        threads=max(1, cores // max(1, workers)),
    )
    rehearse(plan, dataset)
    config = {"plan": plan.to_dict(), "machine": machine(plan), "data": _describe(dataset)}
    root = new_folder(dataset.name) if out is None else free_folder(Path(out))
    with alone(root):
        free_folder(root)  # another process may have had it in the meantime
        write_json(root / "config.json", config)
        return _carry_out(plan, root, config, progress or Progress())


def resume(
    folder: str | os.PathLike[str], *, jobs: int | None = None, progress: Progress | None = None
) -> Study:
    """Go on with a comparison that was interrupted, and return it finished.

    Args:
        folder: where it was written to.
        jobs: runs at a time, in place of the number it began with; results do not depend on it.
        progress: told what is going on.

    Raises:
        ValueError: no comparison is there, or its data are no longer what they were.

    """
    root = Path(folder)
    config, plan = read_config(root)
    if jobs is not None:
        plan = replace(plan, jobs=jobs)
    plan.source.load_anew()
    plan.source.load_known(config["data"]["hashes"])
    shown = progress or Progress()
    for name, version in machine(plan).items():
        if version != config["machine"].get(name):
            shown.note(
                f"{name} was {config['machine'].get(name)} when the comparison began, and is {version} now"
            )
    with alone(root):
        return _carry_out(plan, root, config, shown)


def open_study(folder: str | os.PathLike[str]) -> Study:
    """Return the finished comparison in `folder`; its numbers are computed anew from the predictions."""
    root = Path(folder)
    config, plan = read_config(root)
    results = []
    for run in _runs(plan, _chosen(root, plan)):
        result = run.result(root)
        if result is None:
            raise ValueError(
                f"{root}: {run.name} is not finished; go on with: criterium compare --resume {root}"
            )
        if "metrics" in result:
            predictions = _predictions(root, run)
            result["metrics"] = measure(predictions, k=plan.k)
        results.append(result)
    return Study(root, config, tuple(results), _cost(root))


def _carry_out(plan: Plan, root: Path, config: dict[str, Any], progress: Progress) -> Study:
    progress.begin(root)
    with opened_log(root) as log:
        try:
            return _work(plan, root, config, progress, log)
        except BaseException as error:
            with suppress(OSError):  # the disk may be full
                expected = isinstance(error, KeyboardInterrupt)
                log.info("stopped: %s", type(error).__name__, exc_info=not expected)
            if isinstance(error, OSError | MemoryError | RuntimeError):
                words = getattr(error, "strerror", None) or " ".join(str(error).split())
                raise RunFailed(
                    f"{words or type(error).__name__}; what is finished is kept,"
                    f" go on with: criterium compare --resume {root}"
                ) from error
            raise


def _work(plan: Plan, root: Path, config: dict[str, Any], progress: Progress, log: logging.Logger) -> Study:
    log.info("begin: %s", json.dumps(config["plan"]))
    settings = {label: tuning.draw_settings(plan, label) for label in plan.objectives}
    if plan.tune:
        tries = [trial(label, i, s) for label, drawn in settings.items() for i, s in enumerate(drawn)]
        later = len(plan.objectives) * len(plan.seeds)
        execute_all(plan, tries, root, title="tuning", log=log, progress=progress, later=later)
        _choose(plan, root, settings)
    chosen = _chosen(root, plan)
    log.info("settings: %s", json.dumps(chosen))
    results = execute_all(plan, _runs(plan, chosen), root, title="training", log=log, progress=progress)
    if not any("metrics" in result for result in results):
        raise ValueError(_all_diverged(root, results))
    if not _cost(root):
        progress.note("measuring the cost of a step")
        write_json(root / "cost.json", measure_cost(plan, chosen))
    study = open_study(root)
    _write_results(root / "results.parquet", study.results)
    study.report()
    log.info("end")
    return study


def _choose(plan: Plan, root: Path, settings: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    chosen = {}
    for label, drawn in settings.items():
        found = [trial(label, number, setting).result(root) for number, setting in enumerate(drawn)]
        chosen[label] = drawn[tuning.best([result or {"diverged": True} for result in found])]
    write_json(root / "settings.json", chosen)


def _chosen(root: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the setting that each objective runs with."""
    path = root / "settings.json"
    if plan.tune and not path.exists():
        raise _unfinished(root, "tuning")
    found: dict[str, dict[str, Any]] = read_json(path) if plan.tune else {o: {} for o in plan.objectives}
    if not isinstance(found, dict) or not set(plan.objectives) <= found.keys():
        raise ValueError(f"{path}: got other contents than a setting for each objective")
    return found


def _cost(root: Path) -> dict[str, float]:
    """Return the cost of a step by objective; nothing where it was not measured or cannot be read."""
    try:
        found = read_json(root / "cost.json")
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _predictions(root: Path, run: Run) -> Predictions:
    path = run.place(root) / "predictions.parquet"
    try:
        return Predictions.load(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{error}; remove {path.parent} and go on with: criterium compare --resume {root}"
        ) from error


def _all_diverged(root: Path, results: Sequence[Mapping[str, Any]]) -> str:
    return f"{root}: every run diverged ({results[0]['diverged']}); try a smaller learning rate"


def _runs(plan: Plan, chosen: Mapping[str, dict[str, Any]]) -> list[Run]:
    return [Run(label, seed, chosen[label]) for label in plan.objectives for seed in plan.seeds]


def _unfinished(root: Path, what: str) -> ValueError:
    return ValueError(f"{root}: {what} is not finished; go on with: criterium compare --resume {root}")


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


def _write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write one row a run: only what is the same whenever the comparison is repeated on a CPU."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "objective": row["objective"],
            "seed": row["seed"],
            "setting": json.dumps(row["setting"]),
            **{name: row.get("metrics", {}).get(name) for name in (*METRICS, "temperature")},
            "threshold": row.get("threshold"),
            "diverged": row.get("diverged"),
        }
        for row in results
    ]
    with whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows), partial)


def _describe(dataset: Dataset) -> dict[str, Any]:
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    rows = {name: len(split) for name, split in parts.items()}
    if dataset.ood is not None:
        rows["ood"] = len(dataset.ood)
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "inputs": list(dataset.train.inputs.shape[1:]),
        "rows": rows,
        "ood": dataset.ood_name,
        "hashes": dataset.hashes,
        "notes": list(dataset.notes),
    }


def _shown(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings as the report shows them: flat enough to read."""
    plan, data = config["plan"], config["data"]
    plain = {name: value for name, value in plan.items() if name not in ("source", "recipe")}
    return {
        **plain,
        "data": {**{n: v for n, v in plan["source"].items() if v is not None}, "classes": data["classes"]},
        "parts": {
            name: {"rows": count, "sha256": data["hashes"][name]} for name, count in data["rows"].items()
        },
        "settings chosen on validation rows": {
            row["objective"]: row["setting"] or "as published" for row in results
        },
        "recipe": plan["recipe"],
        "machine": config["machine"],
    }


def _cores() -> int:
    import joblib

    cores: int = joblib.cpu_count()
    return cores


def _on_gpu(device: str) -> bool:
    import torch

    return device != "cpu" and (torch.cuda.is_available() or device == "mps")
