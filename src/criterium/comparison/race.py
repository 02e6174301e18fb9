"""A comparison carried out from beginning to end, or from where it was interrupted."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from criterium import _signals
from criterium._checks import at_least
from criterium._files import expanded, whole, words_of
from criterium._sealed import described, write_sealed
from criterium.comparison import tuning
from criterium.comparison.config import blamed, read_config, write_config
from criterium.comparison.cost import measure_cost
from criterium.comparison.entrants import Entrant, entered, how_to_go_on, named_again, notes_on_handed
from criterium.comparison.made import check_made
from criterium.comparison.plan import MOST, Plan, configure
from criterium.comparison.rehearsal import rehearse
from criterium.comparison.runs import Run, Trial, carry_out, drop_weights
from criterium.comparison.study import GROUPS, Chosen, Study, decided, known_cost, open_study
from criterium.data import Dataset, Source
from criterium.data.sources import SourceOptions
from criterium.engine.executor import RunFailed, execute_all, fresh_workers
from criterium.engine.folder import alone, free_folder, new_folder, opened_log
from criterium.engine.held import Held
from criterium.engine.progress import Progress
from criterium.engine.setup import Setup
from criterium.evaluation.hierarchy import tree_metrics
from criterium.evaluation.imbalance import shot_groups
from criterium.evaluation.metrics import METRICS, asked_metric, default_metric
from criterium.models.custom import import_factory
from criterium.statistics.formats import title
from criterium.training import Recipe

DEFAULT_OBJECTIVES = ("cross-entropy", "exact", "topk", "noised-topk", "dismax", "cot")


def compare(
    data: str = "digits",
    *,
    objectives: Entrant | Sequence[Entrant] = DEFAULT_OBJECTIVES,
    model: str = "mlp",
    repeats: int | str | Sequence[int] = 10,
    tune: int = 8,
    metric: str | None = None,
    margin: float | None = None,
    k: int | None = None,
    study_seed: int = 0,
    recipe: Recipe | None = None,
    device: str = "auto",
    precision: str = "auto",
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    seeds: int | Sequence[int] | None = None,
    **reading: Unpack[SourceOptions],
) -> Study:
    """Train every objective on the same data under the same protocol, and compare them.

    Args:
        data: a source from `criterium.data.SOURCES`, such as "digits" or "npz:FILE".
        objectives: names (see `criterium list objectives`), also with options, "exact:margin=0.5"; those of
            your own as "pkg.module:Class"; or objects, ``criterium.objectives.Exact(margin=0.5)``.
        model: a backbone from `criterium.models.MODELS`, or "pkg.module:factory".
        repeats: how many, or which; a repeat has its own weights, batches, noise and settings drawn and,
            where the source has no test part, its own split. "auto:20" stops at 5, 10 or 20, as soon as the
            verdicts are in.
        tune: settings to try for each objective in each repeat, on validation rows; 0 uses the default.
        metric: what decides, on validation rows and on test rows: a name of `criterium list metrics`, also
            as "top5-error". By default the top-1 error, or the class-mean error where class counts differ by
            more than ten times.
        margin: the least difference of it that matters: of percentages in points, of others in their unit. By
            default, of an error, the lesser of 1 point and a fifth of the control's validation error.
        k: for the top-k error and the top-k objectives; by default 3, or fewer where classes are few.
        study_seed: another one draws other settings, weights and batches.
        recipe: how to train; see `criterium.training.Recipe`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "float32" or "bf16".
        jobs: runs at a time; by default one a core, or one on a GPU.
        out: folder to write to; by default a new one under "runs".
        progress: told what is going on.
        seeds: the older name of `repeats`.
        reading: how the data are read and split, such as ``label="outcome"`` or ``ood="classes:8,9"``; see
            `criterium.data.Source`.

    Returns:
        The finished study.

    Raises:
        ValueError: for arguments and data that do not fit, in one line.

    Example:
        >>> import tempfile
        >>> study = compare(
        ...     data="digits", objectives=["cross-entropy", "exact"], repeats=2, tune=0,
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
    numbers, adaptive = _repeats(repeats if seeds is None else seeds)
    decides, why = (asked_metric(metric)[0], "") if metric else default_metric(dataset.class_counts)
    k = (asked_metric(metric)[1] if metric else None) or k
    if k is not None and not 1 <= k < classes:
        raise ValueError(
            f"k: got {k}, expected 1 to {classes - 1}: the data has {classes} classes to train on"
        )
    _check_metric(decides, dataset)
    plan = Plan(
        setup=Setup.here(source, recipe, device, precision, jobs),
        model=model,
        objectives=labels,
        seeds=numbers,
        k=k if k is not None else min(3, classes - 1),
        tune=tune,
        metric="top1_error" if (decides, k) == ("topk_error", 1) else decides,
        margin=margin,
        study_seed=study_seed,
        adaptive=adaptive,
        handed=handed,
    )
    rehearse(plan, dataset)
    config = {"plan": plan.to_dict(), "machine": plan.setup.machine(), "data": _describe(dataset, why)}
    root = new_folder(dataset.name) if out is None else _free(expanded(out))
    with alone(root):
        _free(root)  # another process may have had it in the meantime
        if not dataset.test_varies and dataset.test.groups is not None:
            with whole(root / GROUPS) as temporary, temporary.open("wb") as file:
                np.save(file, dataset.test.groups.numpy())
            config["data"]["files"] = described(root / GROUPS)
        write_config(root, config)
        shown = progress or Progress()
        shown.note(why or f"Judged by {title(plan.metric, plan.k)}.")
        for line in notes_on_handed(handed, root):
            shown.note(line)
        return _carry_out(plan, held, root, config, shown)


def _repeats(given: int | str | Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """Return the numbers of the repeats, at most, and whether they are added only as needed."""
    if isinstance(given, int) and given > MOST:  # before so many are counted
        raise ValueError(f"repeats: got {given}, expected at most {MOST:,}")
    if isinstance(given, str):
        kind, _, most = given.partition(":")
        if kind != "auto" or not most.isdigit():
            raise ValueError(f"repeats: got {given!r}, expected a number, or auto:20")
        if len(most) > len(str(MOST)):
            raise ValueError(f"repeats: got {given!r}, expected at most {MOST:,}")
        return tuple(range(at_least("repeats", int(most), 8))), True
    if isinstance(given, int):
        return tuple(range(at_least("repeats", given, 1))), False
    return tuple(given), False


def _check_metric(metric: str, dataset: Dataset) -> None:
    """Raise a `ValueError` if the data have nothing to measure it on."""
    where, _, name = metric.rpartition("_")
    if name in ("auroc", "fpr95", "aupr") and (dataset.ood is None or where):
        raise ValueError(f"metric: got {metric}, expected one that needs no {where or 'OOD'} inputs")
    of_tree = metric == "mistake_distance" or metric.startswith("level")
    if of_tree and (dataset.hierarchy is None or metric not in tree_metrics(dataset.hierarchy)):
        raise ValueError(f"metric: got {metric}, expected one that the data have a tree of classes for")
    if metric in (groups := shot_groups(dataset.class_counts)) and not len(groups[metric]):
        raise ValueError(f"metric: got {metric}, expected one that the data have such classes for")


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
    if ":" in plan.model:
        import_factory(plan.model)
    check_made(root, plan, config, code=True)
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
    log.info("begin: %s", json.dumps(config["plan"]))
    try:
        known_cost(root)
    except ValueError:
        (root / "cost.json").unlink()
    work = partial(carry_out, plan, held)
    everything = partial(execute_all, work, root=root, jobs=plan.setup.jobs, log=log, progress=progress)
    chosen: Chosen = {label: {} for label in plan.objectives}
    looks = {look.repeats for look in plan.looks}
    for done, repeat in enumerate(plan.seeds):
        _carry_out_repeat(plan, root, repeat, chosen, everything, done)
        write_sealed(root / "settings.json", chosen)
        if done + 1 in looks and done + 1 < len(plan.seeds) and decided(open_study(root, done + 1).verdicts):
            break
    log.info("settings: %s", json.dumps(chosen))
    study = open_study(root)
    if not known_cost(root):
        progress.note("measuring the cost of a step")
        first = {label: settings[str(plan.seeds[0])]["setting"] for label, settings in chosen.items()}
        write_sealed(root / "cost.json", measure_cost(plan, held.split(plan.seeds[0]), first))
        study = replace(study, cost=known_cost(root))
    _write_results(root / "results.parquet", study.results)
    study.report()
    log.info("end")
    return study


def _carry_out_repeat(
    plan: Plan, root: Path, repeat: int, chosen: Chosen, everything: Callable[..., Any], done: int
) -> None:
    """Try every setting of every objective, choose on validation rows, and let the chosen predict test"
    " rows."""
    tries = {label: trials_of(plan, label, repeat) for label in plan.objectives}
    each = sum(map(len, tries.values())) + len(tries)
    later = each * (len(plan.seeds) - done - 1)
    title = f"repeat {done + 1} of {len(plan.seeds)}"
    everything([one for trials in tries.values() for one in trials], title=title, later=later + len(tries))
    runs = []
    for label, trials in tries.items():
        found = [one.result(root) for one in trials]
        best = trials[tuning.best([result or {"diverged": "unknown"} for result in found])]
        chosen[label][str(repeat)] = {"trial": best.number, "setting": best.setting}
        runs.append(Run(label, repeat, best.setting, best.number))
    everything(runs, title=f"{title}: test rows", later=later)
    for trials in tries.values():
        drop_weights(root, trials)


def trials_of(plan: Plan, label: str, repeat: int) -> list[Trial]:
    """Return the settings that an objective tries in a repeat: the same number for every objective."""
    objective, recipe = plan.configure(label, {})
    settings = tuning.draw_settings(
        objective,
        recipe,
        fixed=plan.given(label, objective),
        count=plan.tune,
        source=f"{plan.study_seed}/{repeat}/{label}",
    )
    return [Trial(label, repeat, number, setting) for number, setting in enumerate(settings)]


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


def _describe(dataset: Dataset, why: str) -> dict[str, Any]:
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    rows = {name: len(split) for name, split in parts.items()}
    if dataset.ood is not None:
        rows["ood"] = len(dataset.ood)
    units = {
        "test": dataset.test.units,
        "other": dataset.train.units + dataset.validation.units,
        "are": "rows" if dataset.test.groups is None else "groups",
    }
    return {
        "name": dataset.name,
        "test_varies": dataset.test_varies,
        "units": units,
        "class_counts": list(dataset.class_counts),
        "why_metric": why or None,
        "classes": list(dataset.classes),
        "inputs": list(dataset.train.inputs.shape[1:]),
        "rows": rows,
        "ood": dataset.ood_name,
        "hashes": dataset.hashes,
        "notes": list(dataset.notes),
        "hierarchy": dataset.hierarchy,
    }
