"""A comparison carried out from beginning to end, or from where it was interrupted."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from criterium import _signals
from criterium._checks import at_least
from criterium._files import expanded, whole, words_of, write_json
from criterium.comparison import tuning
from criterium.comparison.config import blamed, read_config
from criterium.comparison.cost import measure_cost
from criterium.comparison.entrants import Entrant, entered, how_to_go_on, named_again, notes_on_handed
from criterium.comparison.plan import Plan, configure
from criterium.comparison.rehearsal import rehearse
from criterium.comparison.runs import execute, trial
from criterium.comparison.study import (
    Study,
    all_diverged,
    chosen_settings,
    known_cost,
    open_study,
    reported_runs,
)
from criterium.data import Dataset, Source
from criterium.data.sources import SourceOptions
from criterium.engine.executor import RunFailed, execute_all, fresh_workers
from criterium.engine.folder import alone, free_folder, new_folder, opened_log
from criterium.engine.held import Held
from criterium.engine.progress import Progress
from criterium.engine.setup import Setup
from criterium.evaluation.metrics import METRICS
from criterium.training import Recipe

DEFAULT_OBJECTIVES = ("cross-entropy", "exact", "topk", "noised-topk", "dismax", "cot")


def compare(
    data: str = "digits",
    *,
    objectives: Entrant | Sequence[Entrant] = DEFAULT_OBJECTIVES,
    model: str = "mlp",
    seeds: int | Sequence[int] = 5,
    k: int | None = None,
    tune: int = 4,
    recipe: Recipe | None = None,
    device: str = "auto",
    precision: str = "auto",
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **reading: Unpack[SourceOptions],
) -> Study:
    """Train every objective on the same data under the same protocol, and compare them.

    Args:
        data: a source from `criterium.data.SOURCES`, such as "digits" or "npz:FILE".
        objectives: names (see `criterium list objectives`), also with options, "exact:margin=0.5"; those of
            your own as "pkg.module:Class"; or objects, ``criterium.objectives.Exact(margin=0.5)``.
        model: a backbone from `criterium.models.MODELS`, or "pkg.module:factory".
        seeds: how many, or which.
        k: for the top-k error and the top-k objectives; by default 3, or fewer where classes are few.
        tune: settings to try for each objective on validation rows; 0 uses the published ones.
        recipe: how to train; see `criterium.training.Recipe`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bf16".
        jobs: runs at a time; by default one a core, or one on a GPU.
        out: folder to write to; by default a new one under "runs".
        progress: told what is going on.
        reading: how the data are read and split, such as ``label="outcome"`` or ``ood="classes:8,9"``; see
            `criterium.data.Source`.

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
    labels, handed = entered(objectives)
    recipe = recipe or Recipe()
    for name in labels:
        if name not in handed:
            configure(name, {}, recipe)
    source = Source.of(data, **reading)
    held = Held(source)
    dataset = held.split()
    classes = len(dataset.classes)
    if isinstance(seeds, int):
        seeds = range(at_least("seeds", seeds, 1))
    if k is not None and not 1 <= k < classes:
        raise ValueError(
            f"k: got {k}, expected 1 to {classes - 1}: the data has {classes} classes to train on"
        )
    plan = Plan(
        setup=Setup.here(source, recipe, device, precision, jobs),
        model=model,
        objectives=labels,
        seeds=tuple(seeds),
        k=k if k is not None else min(3, classes - 1),
        tune=tune,
        handed=handed,
    )
    rehearse(plan, dataset)
    config = {"plan": plan.to_dict(), "machine": plan.setup.machine(), "data": _describe(dataset)}
    root = new_folder(dataset.name) if out is None else _free(expanded(out))
    with alone(root):
        _free(root)  # another process may have had it in the meantime
        write_json(root / "config.json", config)
        shown = progress or Progress()
        for line in notes_on_handed(handed, root):
            shown.note(line)
        return _carry_out(plan, held, root, config, shown)


def resume(
    folder: str | os.PathLike[str],
    *,
    objectives: Entrant | Sequence[Entrant] = (),
    model: str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Study:
    """Go on with a comparison that was interrupted, and return it finished.

    Args:
        folder: where it was written to.
        objectives: those of the race that are not criterium's or an installed package's, once more: code that
            a folder names runs only if you name it too, and an object made in a notebook is nowhere else.
        model: the race's, once more, if it is a "pkg.module:factory", for the same reason.
        jobs: runs at a time, in place of the number it began with; results do not depend on it.
        progress: told what is going on.

    Raises:
        ValueError: no comparison is there, or its data are no longer what they were.

    """
    root = expanded(folder)
    config, plan = read_config(root)
    plan = named_again(plan, objectives, root, model)
    with blamed(root, config):
        for name in plan.objectives:
            plan.configure(name, {})
    if jobs is not None:
        plan = replace(plan, setup=replace(plan.setup, jobs=jobs))
    held = Held(plan.setup.source)
    _check_same(held, config["data"]["hashes"])
    shown = progress or Progress()
    for name, version in plan.setup.machine().items():
        if version != config["machine"].get(name):
            shown.note(
                f"{name} was {config['machine'].get(name)} when the comparison began, and is {version} now"
            )
    with alone(root):
        return _carry_out(plan, held, root, config, shown)


def _check_same(held: Held, hashes: Mapping[str, str]) -> None:
    """Raise a `ValueError` if the data are not what they were."""
    now = held.split().hashes
    changed = sorted(part for part in now.keys() | hashes.keys() if now.get(part) != hashes.get(part))
    if changed:
        raise ValueError(f"data: {held.source.data} changed since the comparison began: {', '.join(changed)}")


def _free(root: Path) -> Path:
    """Return `root` if it is free, or say how to go on with the race that it holds."""
    try:
        _, plan = read_config(root)
    except ValueError:
        return free_folder(root)
    raise ValueError(
        f"out: {root} holds a comparison already, expected a new or an empty folder;"
        f" go on with that one by: {how_to_go_on(root, plan)}"
    )


def _carry_out(plan: Plan, held: Held, root: Path, config: dict[str, Any], progress: Progress) -> Study:
    if plan.setup.jobs > 1 and plan.code:
        fresh_workers()
    go_on = f"; what is finished is kept, go on with: {how_to_go_on(root, plan)}"
    _signals.remember(go_on)
    with opened_log(root) as log:
        try:
            return _work(plan, held, root, config, progress, log)
        except BaseException as error:
            with suppress(OSError):  # the disk may be full
                expected = isinstance(error, KeyboardInterrupt)
                log.info("stopped: %s", type(error).__name__, exc_info=not expected)
            if isinstance(error, OSError | MemoryError | RuntimeError):
                raise RunFailed(words_of(error) + go_on) from error
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(go_on) from None
            raise


def _work(
    plan: Plan, held: Held, root: Path, config: dict[str, Any], progress: Progress, log: logging.Logger
) -> Study:
    carry_out = partial(execute, plan, held)
    everything = partial(execute_all, carry_out, root=root, jobs=plan.setup.jobs, log=log, progress=progress)
    log.info("begin: %s", json.dumps(config["plan"]))
    settings = {label: tuning.draw_settings(plan, label) for label in plan.objectives}
    if plan.tune:
        tries = [trial(label, i, s) for label, drawn in settings.items() for i, s in enumerate(drawn)]
        later = len(plan.objectives) * len(plan.seeds)
        everything(tries, title="tuning", later=later)
        _choose(plan, root, settings)
    chosen = chosen_settings(root, plan)
    log.info("settings: %s", json.dumps(chosen))
    results = everything(reported_runs(plan, chosen), title="training")
    if not any("metrics" in result for result in results):
        raise ValueError(all_diverged(root, results))
    if not known_cost(root):
        progress.note("measuring the cost of a step")
        write_json(root / "cost.json", measure_cost(plan, held.split(), chosen))
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


def _write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write one row a run: only what is the same whenever the comparison is repeated on a CPU."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = {name: None for row in results for name in row.get("metrics", {})}
    names = [*METRICS, *(name for name in found if name not in METRICS and name != "temperature")]
    rows = [
        {
            "objective": row["objective"],
            "seed": row["seed"],
            "setting": json.dumps(row["setting"]),
            **{name: row.get("metrics", {}).get(name) for name in (*names, "temperature")},
            "threshold": row.get("threshold"),
            "diverged": row.get("diverged"),
        }
        for row in results
    ]
    with whole(path) as partial, partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)


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
        "hierarchy": dataset.hierarchy,
    }
