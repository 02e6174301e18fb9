"""What a comparison is to do, as plain values that can be written down and read back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from criterium import objectives
from criterium._checks import at_least, positive
from criterium._files import slug
from criterium.comparison.labels import is_path, parse
from criterium.engine.setup import Setup
from criterium.objectives import Objective
from criterium.statistics.looks import Look, looks
from criterium.training import Recipe
from criterium.training.seeds import derive

_RECIPE = tuple(one.name for one in dataclasses.fields(Recipe))
_TUNED = ("learning_rate", "weight_decay")
"""What of the recipe is tuned unless it is given."""
MOST = 10_000
"""Repeats, and settings to try: more are a slip of the finger."""
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a finite number", (int, float)),
    "bool": ("true or false", (bool,)),
    "str": ("a word", (str,)),
    "None": ("none", (type(None),)),
}


@dataclass(frozen=True)
class Plan:
    """Everything needed to run a comparison again.

    `objectives` are names, or names with options: ``"exact:margin=0.5"``, where options are the objective's
    own or settings of the `Recipe`; options that are given are not tuned. `seeds` are the numbers of the
    repeats; `metric` decides, on validation rows and on test rows, and `margin` is the least difference of it
    that matters, or None for the default. `study_seed` moves all that is drawn. Where `adaptive`, repeats
    are added until the verdicts are in.
    """

    setup: Setup
    model: str
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    k: int
    tune: int
    metric: str = "top1_error"
    margin: float | None = None
    study_seed: int = 0
    adaptive: bool = False
    handed: Mapping[str, Objective | None] = field(default_factory=dict)
    """By label: objectives given as objects that no label leads back to; None until they are given again."""

    def __post_init__(self) -> None:
        """Check what can be checked without the data."""
        at_least("tune", self.tune, 0)
        for name, value, most in (("tune", self.tune, MOST), ("repeats", len(self.seeds), MOST)):
            if value > most:
                raise ValueError(f"{name}: got {value}, expected at most {most:,}")
        at_least("k", self.k, 1)
        for name, values in (("objectives", self.objectives), ("repeats", self.seeds)):
            if not values:
                raise ValueError(f"{name}: got none, expected at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: got {', '.join(map(str, values))}, expected each only once")
        for seed in self.seeds:
            if at_least("repeats", seed, 0) >= 2**63:
                raise ValueError(f"repeats: got {seed}, expected numbers below 2^63")
        at_least("study_seed", self.study_seed, 0)
        if self.margin is not None:
            positive("margin", self.margin)
        for one, other in combinations(self.objectives, 2):
            # Two that share a name would share files too.
            if parse(one) == parse(other) or slug(one) == slug(other):
                raise ValueError(f"objectives: {one!r} and {other!r} are the same, expected each only once")

    def configure(self, label: str, setting: Mapping[str, Any]) -> tuple[Objective, Recipe]:
        """Return objective and recipe of `label`, with the values of `setting` where the label gives none.

        Raises:
            ValueError: for an unknown name or option, or a value of another kind.

        """
        if label in self.handed:
            return _changed(label, self.handed[label], setting, self.setup.recipe)
        return configure(label, setting, self.setup.recipe)

    @property
    def code(self) -> list[str]:
        """What the plan runs that neither criterium nor an installed package brings: paths and objects."""
        paths = [label for label in self.objectives if is_path(label) or label in self.handed]
        return [*paths, self.model] if ":" in self.model else paths

    def given(self, label: str, objective: Objective) -> set[str]:
        """Return what the user set, for this objective or for all, so that it is not tuned."""
        recipe = self.setup.recipe
        options = {*_TUNED, *objective.search, *objective.published}
        of_all = {name for name in _TUNED if getattr(recipe, name) is not None}
        of_all |= {"optimizer"} if recipe.optimizer != Recipe().optimizer else set()
        return options & (of_all | parse(label)[1].keys())

    def seed_of(self, repeat: int) -> int:
        """Return the seed of weights, batches and noise in a repeat: its number, unless the study has a"
        " seed."""
        return derive(self.study_seed, "repeat", repeat) if self.study_seed else repeat

    @property
    def looks(self) -> tuple[Look, ...]:
        """The numbers of repeats at which it may be over, each with its share of the level."""
        return looks(len(self.seeds)) if self.adaptive else (Look(len(self.seeds), 1.0),)

    @property
    def baseline(self) -> str:
        """The objective that the others are compared with: plain cross-entropy, else the first."""
        return "cross-entropy" if "cross-entropy" in self.objectives else self.objectives[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON has it."""
        values = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        values |= {"setup": self.setup.to_dict(), "handed": list(self.handed)}
        written: dict[str, Any] = json.loads(json.dumps(values))
        return written

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` wrote down."""
        try:
            return cls(
                **{
                    **values,
                    "setup": Setup.from_dict(values["setup"]),
                    "objectives": tuple(values["objectives"]),
                    "seeds": tuple(values["seeds"]),
                    "handed": dict.fromkeys(values.get("handed", ())),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"plan: a setting is missing or unknown ({error})") from error


def configure(label: str, setting: Mapping[str, Any], recipe: Recipe) -> tuple[Objective, Recipe]:
    """Return what `Plan.configure` does of an objective that its label says all of."""
    name, given = parse(label)
    own, shared = _split({**setting, **given})
    try:
        _check_kinds(Recipe, shared)
        _check_kinds(objectives.find(name), own)
        return objectives.build(name, own), dataclasses.replace(recipe, **shared)
    except ValueError as error:
        raise ValueError(str(error) if name == label else f"objective {label}: {error}") from error


def _changed(
    label: str, handed: Objective | None, setting: Mapping[str, Any], recipe: Recipe
) -> tuple[Objective, Recipe]:
    """Return the same of an object."""
    if handed is None:
        raise ValueError(f"objectives: {label} cannot be imported, expected the object itself")
    own, shared = _split(setting)
    return dataclasses.replace(handed, **own), dataclasses.replace(recipe, **shared)


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an objective's own options, and those of the recipe."""
    own = {option: value for option, value in values.items() if option not in _RECIPE}
    return own, {option: value for option, value in values.items() if option in _RECIPE}


def _check_kinds(owner: type, values: Mapping[str, Any]) -> None:
    """Check that values are of the kind that the field of the same name is annotated with."""
    for one in dataclasses.fields(owner):
        kinds = [_KINDS[kind] for kind in _annotation(one).split(" | ") if kind in _KINDS]
        if kinds and one.name in values:
            value = values[one.name]
            types = tuple(each for _, every in kinds for each in every)
            fits = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
            if not fits or (isinstance(value, float) and not math.isfinite(value)):
                expected = " or ".join(words for words, _ in kinds)
                raise ValueError(f"{one.name}: got {json.dumps(value)}, expected {expected}")


def _annotation(one: dataclasses.Field[Any]) -> str:
    """Return the annotation as it was written, whether the file postpones annotations or not."""
    return one.type.__name__ if isinstance(one.type, type) else str(one.type)
