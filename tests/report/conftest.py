"""A finished comparison of made-up runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from criterium.evaluation.measures import measure
from criterium.evaluation.predictions import Predictions
from criterium.report import RunView
from criterium.statistics import Design, Table, judge

SIX = ("cross-entropy", "exact", "topk", "noised-topk", "dismax", "cot")
Finished = tuple[Table, list[RunView]]


def finished_runs(
    objectives: Sequence[str] = SIX, *, seeds: int = 3, rows: int = 100, ood: bool = True, cost: bool = True
) -> Finished:
    """Return the table and the runs of a made-up comparison with 8 classes."""
    runs, results = [], []
    for index, objective in enumerate(objectives):
        for seed in range(seeds):
            rng = np.random.default_rng([index, seed])
            split = np.repeat(["validation", "test", "ood"], [rows, rows, rows * ood])
            target = rng.integers(0, 8, len(split))
            logits = rng.normal(size=(len(split), 8))
            logits[np.arange(len(split)), target] += (3 + index / 4) * (split != "ood")
            target[split == "ood"] = -1
            predictions = Predictions(3 * logits, target, split, logits.max(axis=1))
            found = measure(predictions, k=3)
            error = found["top1_error"] + np.exp(-np.arange(10) / 2)
            history = {"epoch": list(range(1, 11)), "validation_error": error.tolist()}
            runs.append(RunView.of(objective, seed, predictions, history, found["temperature"]))
            results.append({"objective": objective, "seed": seed, **found})
    relative = {name: 1 + index / 5 for index, name in enumerate(objectives)}
    table = judge(
        results,
        metric="top1_error",
        margin=0.01,
        design=Design(own_test=True, test=rows, other=4 * rows),
        metrics=["top1_error", "topk_error", "nll", "calibration_error", "auroc"],
        baseline=objectives[0],
        k=3,
        cost=relative if cost else None,
        notes=["Classes 8 and 9 are left out."],
    )
    return table, runs


@pytest.fixture
def finish() -> Callable[..., Finished]:
    return finished_runs
