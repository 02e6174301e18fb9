"""The same number of settings for every objective, judged on validation rows only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from criterium.comparison.labels import parse
from criterium.comparison.plan import Plan
from criterium.objectives import Choice, Range, Search

TUNING_SEED = 1_000_003
"""Seed of the tuning runs: none of the seeds that are reported."""


def draw_settings(plan: Plan, label: str) -> list[dict[str, Any]]:
    """Return the settings to try for one objective; the first is the published one.

    Optuna draws the others: learning rate and weight decay apart from the objective's own options, so that
    every objective tries the same values of these two.
    """
    if plan.tune == 0:
        return [{}]
    objective, recipe = plan.configure(label, {})
    rates = Range(3e-4, 1e-2) if recipe.optimizer == "adamw" else Range(0.01, 1.0)
    shared = _draws({"learning_rate": rates, "weight_decay": Range(1e-5, 5e-3)}, plan.tune - 1)
    own = _draws(objective.search, plan.tune - 1)
    fixed = {
        name for name in ("learning_rate", "weight_decay") if getattr(plan.setup.recipe, name) is not None
    }
    fixed |= parse(label)[1].keys()
    drawn = [{**common, **special} for common, special in zip(shared, own, strict=True)]
    return [{}, *({name: value for name, value in one.items() if name not in fixed} for one in drawn)]


def _draws(space: Search, count: int) -> list[dict[str, Any]]:
    """Return `count` settings that Optuna draws: always the same ones for the same space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=TUNING_SEED))
    trials = (study.ask() for _ in range(count))
    return [{name: _draw(trial, name, values) for name, values in space.items()} for trial in trials]


def _draw(trial: Any, name: str, values: Range | Choice) -> Any:
    if isinstance(values, Range):
        return trial.suggest_float(name, values.low, values.high, log=True)
    return trial.suggest_categorical(name, values.values)


def best(results: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the best setting: least validation error, then least validation NLL."""
    return min(range(len(results)), key=lambda number: rank(results[number]))


def rank(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return what settings are ordered by; a run that diverged comes last."""
    if result.get("diverged"):
        return math.inf, math.inf
    return result["validation_error"], result["validation_nll"]
