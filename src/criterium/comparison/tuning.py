"""The same number of settings for every objective, judged on validation rows only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from criterium.comparison.plan import Plan, configure, parse
from criterium.objectives import Range

TUNING_SEED = 1_000_003
"""Seed of the tuning runs: none of the seeds that are reported."""


def draw_settings(plan: Plan, label: str) -> list[dict[str, Any]]:
    """Return the settings to try for one objective; the first is the published one.

    Optuna draws the others. Learning rate and weight decay come first and from the same seed, so every
    objective tries the same values of these two.
    """
    if plan.tune == 0:
        return [{}]
    import optuna

    objective, recipe = configure(label, {}, plan.recipe)
    given = parse(label)[1]
    rates = Range(3e-4, 1e-2) if recipe.optimizer == "adamw" else Range(0.01, 1.0)
    space = {"learning_rate": rates, "weight_decay": Range(1e-5, 5e-3), **objective.search}
    fixed = {name for name in ("learning_rate", "weight_decay") if getattr(plan.recipe, name) is not None}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=TUNING_SEED))
    found: list[dict[str, Any]] = [{}]
    while len(found) < plan.tune:
        trial = study.ask()
        drawn = {name: _draw(trial, name, values) for name, values in space.items()}
        found.append({name: value for name, value in drawn.items() if name not in fixed | given.keys()})
    return found


def _draw(trial: Any, name: str, values: Any) -> Any:
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
