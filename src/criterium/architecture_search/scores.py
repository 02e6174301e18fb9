"""The scores of a search's networks, from this process or several, kept as they come."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from criterium._files import plain, read_json, write_json
from criterium.architecture_search.plan import OBJECTIVE, SearchPlan, model_path
from criterium.data import Dataset
from criterium.engine.held import Held
from criterium.engine.progress import Progress
from criterium.techniques.architecture import score_architecture
from criterium.training.prepare import prepare
from criterium.training.seeds import derive

ROWS = 128
"""Training rows that networks are scored on, as published."""

_SAVE_SECONDS = 2.0
_POOL_SECONDS = 20.0


def score_all(
    plan: SearchPlan, held: Held, names: Sequence[str], root: Path, progress: Progress, later: int
) -> list[dict[str, Any]]:
    """Return a row for each network, from what an earlier process left where it scored it."""
    path = root / "scores.json"
    known: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}
    waiting = [name for name in names if name not in known]
    if waiting:
        title = f"scoring {len(waiting)} networks"
        progress.stage(title, 1, later)
        begun = saved = time.monotonic()
        try:
            for number, (name, row) in enumerate(_scores(plan, held, waiting)):
                known[name] = row
                progress.running({title: number / len(waiting)})
                if time.monotonic() - saved > _SAVE_SECONDS:
                    write_json(path, known)
                    saved = time.monotonic()
        finally:
            write_json(path, known)
        lost = sum("failed" in known[name] for name in waiting)
        words = f"in {time.monotonic() - begun:.1f} s" + (f", {lost} cannot be scored" if lost else "")
        progress.finished(title, words)
    # JSON has no infinity: a score that is none stands for that of a singular kernel.
    return [
        {"network": name, **{key: -math.inf if part is None else part for key, part in known[name].items()}}
        for name in names
    ]


def score_rows(dataset: Dataset, seed: int) -> Tensor:
    """Return up to 128 training inputs, no two the same: the codes of such two could not differ."""
    generator = torch.Generator().manual_seed(derive(seed, "score"))
    order = torch.randperm(len(dataset.train), generator=generator)[: 8 * ROWS]
    inputs = dataset.train.inputs[order]
    _, first = np.unique(inputs.flatten(1).numpy(), axis=0, return_index=True)
    return inputs[torch.from_numpy(np.sort(first)[:ROWS])]


def _scores(plan: SearchPlan, held: Held, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield names and scores, from several processes where one would take much longer than they to begin."""
    batch = score_rows(held.split(), plan.seed)
    expected = 0.0
    for number, name in enumerate(names[:2]):  # the first time is longer than the others
        begun = time.monotonic()
        yield _score(plan, held, name, batch)
        expected = (time.monotonic() - begun) * (len(names) - number)
    pool = joblib.Parallel(
        n_jobs=plan.setup.jobs if expected > _POOL_SECONDS else 1, return_as="generator_unordered"
    )
    with warnings.catch_warnings():
        # joblib replaces a worker whose memory grew, as it does with tensors of many sizes; nothing is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        yield from pool(joblib.delayed(_score)(plan, held, name, batch) for name in names[2:])


def _score(plan: SearchPlan, held: Held, name: str, batch: Tensor) -> tuple[str, dict[str, Any]]:
    device = plan.setup.begin().device
    begun = time.monotonic()
    try:
        ready = prepare(held.split(), OBJECTIVE, plan.setup.recipe, model_path(name), seed=plan.seed)
        model = ready.model.to(device)
        backbone = model.get_submodule("backbone")
        # Without its first layer, which would not pass ones on as ones.
        network = nn.Sequential(backbone.get_submodule("body"), model.get_submodule("head"))
        found = score_architecture(network, backbone.get_submodule("standardize")(batch.to(device)))
    except ValueError as error:
        return name, {"failed": str(error)}
    values = {"naswot": found.score, **dataclasses.asdict(found)}
    del values["score"]
    seconds = round(time.monotonic() - begun, 4)
    return name, {**{key: plain(part) for key, part in values.items()}, "seconds": seconds}
