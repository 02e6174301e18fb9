"""A search: networks of a space scored untrained and ranked, and some trained to see what that is worth.

Scores see training rows only, and trained networks are judged on validation rows. Test rows are not read.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from criterium import _signals
from criterium._files import expanded, read_json, slug, whole, write_json
from criterium.architecture_search.figure import write_scatter
from criterium.architecture_search.plan import SearchPlan
from criterium.architecture_search.ranking import ranked, spread
from criterium.architecture_search.runs import NetworkRun, execute
from criterium.architecture_search.scores import score_all
from criterium.architecture_search.table import ArchitectureSearch
from criterium.data import Source
from criterium.data.sources import SourceOptions
from criterium.engine.executor import execute_all
from criterium.engine.folder import alone, free_folder, new_folder, opened_log
from criterium.engine.held import Held
from criterium.engine.progress import Progress
from criterium.engine.setup import Setup
from criterium.techniques.architecture import draw
from criterium.training import Recipe
from criterium.training.prepare import check_images


def search(
    data: str = "digits",
    *,
    space: str = "resnet",
    budget: int = 100,
    train: int = 0,
    train_top: int = 0,
    seed: int = 0,
    recipe: Recipe | None = None,
    device: str = "auto",
    precision: str = "auto",
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **reading: Unpack[SourceOptions],
) -> ArchitectureSearch:
    """Rank networks of a space without training them, and train some to see what the ranks are worth.

    Args:
        data: a source from `criterium.data.SOURCES`.
        space: "resnet", "mlp" or "timm:PATTERN".
        budget: networks to score.
        train: networks to train, spread evenly from the best to the worst score.
        train_top: networks to train from the best on.
        seed: which networks and training rows are drawn, and their weights and batches.
        recipe: how to train.
        device, precision, jobs: see `criterium.compare`.
        out: folder to write to; by default a new one under "runs". Where a search of the same space, seed
            and data is, it goes on: what is scored and trained already is not done again, and `budget`,
            `train` and `train_top` may be larger than they were.
        progress: told what is going on.
        reading: how the data are read and split; see `criterium.data.Source`.

    Returns:
        The `ArchitectureSearch`.

    Raises:
        ValueError: for arguments and data that do not fit, or if no network can be scored, in one line.

    """
    source = Source.of(data, **reading)
    setup = Setup.here(source, recipe or Recipe(), device, precision, jobs)
    plan = SearchPlan(setup, space, budget, train, train_top, seed)
    held = Held(source)
    dataset = held.split()
    check_images(setup.recipe, dataset)
    names = draw(space, budget, seed, tuple(dataset.train.inputs.shape[1:]))
    asked = {**plan.identity, "hashes": dataset.hashes}
    config = {"search": asked, "data": asked, "machine": setup.machine()}
    root = new_folder(f"{slug(space)}-{dataset.name}") if out is None else _claim(expanded(out), asked)
    shown = progress or Progress()
    with alone(root), opened_log(root) as log, _kept(root):
        write_json(root / "config.json", config)
        log.info("begin: %s, %d networks, %d and the best %d to train", asked, budget, train, train_top)
        rows = score_all(plan, held, names, root, shown, later=train + train_top)
        best = ranked(rows)
        if not best:
            raise ValueError(f"space: no network of {space} can be scored: {names[0]}: {rows[0]['failed']}")
        chosen = [best[place]["network"] for place in spread(len(best), train_top, train)]
        found = _train_all(plan, held, chosen, root, log, shown)
        trained = tuple({**row, **found.get(row["network"], {})} for row in best)
        result = ArchitectureSearch(
            root, space, source, trained, tuple(row for row in rows if "failed" in row)
        )
        _write(result)
        log.info("end")
    return result


def _train_all(
    plan: SearchPlan, held: Held, names: Sequence[str], root: Path, log: logging.Logger, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Return what training found of each network."""
    # A run with another recipe is not taken for this one.
    recipe = dataclasses.asdict(plan.setup.recipe)
    runs = [NetworkRun(name, plan.seed, recipe) for name in names]
    results = execute_all(
        partial(execute, plan, held),
        runs,
        root,
        jobs=plan.setup.jobs,
        title="training",
        log=log,
        progress=progress,
    )
    return {run.name: _outcome(result) for run, result in zip(runs, results, strict=True)}


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    if "diverged" in result:
        return {"diverged": result["diverged"]}
    seconds = round(sum(result["history"]["seconds"]), 4)
    return {"validation_error": result["validation_error"], "training_seconds": seconds}


def _write(found: ArchitectureSearch) -> None:
    """Write one row a network to `results.parquet`, the best first, and the figure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole(found.folder / "results.parquet") as partial, partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(found.records()), file)
    with whole(found.folder / "scatter.svg") as partial:
        partial.write_text(write_scatter(found.rows), encoding="utf-8")


def _claim(root: Path, asked: dict[str, Any]) -> Path:
    """Return `root` if it is free or holds a search for the same."""
    path = root / "config.json"
    if not path.is_file():
        return free_folder(root)
    config = read_json(path)
    before = config.get("search") if isinstance(config, dict) else None
    if not isinstance(before, dict):
        return free_folder(root)  # which says what is there
    for name, value in asked.items():
        if before.get(name) != value:
            was = "other contents" if name == "hashes" else repr(before.get(name))
            raise ValueError(
                f"out: {root} holds a search whose {name} was {was}, expected a new or an empty folder"
            )
    return root


@contextmanager
def _kept(root: Path) -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    go_on = f"; what is finished is kept, go on with the same command and --out {shlex.quote(str(root))}"
    _signals.remember(go_on)
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(go_on) from None
