"""The same number of settings for every objective, drawn anew in each repeat, judged on validation rows"
" only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from criterium.objectives import Choice, Objective, Range
from criterium.training import Recipe

RATES: Mapping[str, Range] = {"sgd": Range(0.01, 5.0), "adamw": Range(1e-4, 0.03)}
"""By optimiser: where learning rates are searched, wide enough that the best one lies inside."""

DECAYS = Range(1e-6, 1e-2)


def draw_settings(
    objective: Objective, recipe: Recipe, *, fixed: Collection[str], count: int, source: str
) -> list[dict[str, Any]]:
    """Return at most `count` settings to try, without the options that are `fixed`.

    The first is the default, the second the one that the objective's paper published for the nearest case;
    the others are scrambled Sobol points over learning rate, weight decay and what `Objective.search` adds.
    Fewer are returned only where so few are left to draw.

    Args:
        objective: what is to be trained for.
        recipe: how, where a setting does not say.
        fixed: options that the user gave.
        count: how many; with 0 the default alone is returned.
        source: what the draws depend on, and nothing else: study, repeat and objective.
    """
    space = {"learning_rate": None, "weight_decay": DECAYS, **objective.search}
    space = {name: values for name, values in space.items() if name not in fixed}
    published = {name: value for name, value in objective.published.items() if name not in fixed}
    settings: list[dict[str, Any]] = [{}]
    if published and count > 1:
        settings.append(published)
    for point in _points(len(space), count - len(settings), source):
        setting: dict[str, Any] = {}
        # The range of learning rates depends on the optimiser, which is drawn too.
        for (name, values), share in sorted(
            zip(space.items(), point, strict=True), key=lambda entry: entry[0][0] != "optimizer"
        ):
            kind = values or RATES[setting.get("optimizer", recipe.optimizer)]
            setting[name] = _value(kind, share)
        if setting not in settings:
            settings.append(setting)
    return settings


def searched(objective: Objective, recipe: Recipe, fixed: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the value that every option drawn from a range has, and the ends of the range."""
    rate = recipe.learning_rate or (1e-3 if recipe.optimizer == "adamw" else objective.learning_rate)
    decay = 5e-4 if recipe.weight_decay is None else recipe.weight_decay
    values = {**vars(objective), "learning_rate": rate, "weight_decay": decay}
    space = {"learning_rate": RATES[recipe.optimizer], "weight_decay": DECAYS, **objective.search}
    return {
        # No decay at all lies below every range.
        name: {"value": max(float(values[name]), 1e-12), "low": of.low, "high": of.high}
        for name, of in space.items()
        if isinstance(of, Range) and name not in fixed and isinstance(values.get(name), int | float)
    }


def _points(dimensions: int, count: int, source: str) -> Sequence[Sequence[float]]:
    if count < 1 or dimensions == 0:
        return []
    from scipy.stats import qmc  # takes half a second

    seed = int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest())
    # Their balance is that of a power of two; the first ones of it are the next best.
    points = qmc.Sobol(dimensions, rng=np.random.default_rng(seed)).random_base2(math.ceil(math.log2(count)))
    chosen: list[list[float]] = points[:count].tolist()
    return chosen


def _value(values: Range | Choice, share: float) -> Any:
    if isinstance(values, Choice):
        return values.values[int(share * len(values.values))]
    low, high = math.log(values.low), math.log(values.high)
    return float(f"{math.exp(low + share * (high - low)):.4g}")  # digits that one can read and type


def best(results: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the best setting: by the primary metric on validation rows, then by the NLL"
    " there."""
    return min(range(len(results)), key=lambda number: rank(results[number]))


def rank(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return what settings are ordered by; a run that diverged comes last."""
    if result.get("diverged"):
        return math.inf, math.inf
    return result["validation_loss"], result["validation_nll"]
