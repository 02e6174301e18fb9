"""Who takes part in a race: objectives by name, by Python path or as objects."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from criterium.comparison.labels import is_path, label_of, parse
from criterium.comparison.plan import Plan
from criterium.objectives import Objective

Entrant = str | Objective | type[Objective]
"""A name, also with options, or ``"pkg.module:Class"``; an objective; or its class, for one as published."""


def entered(given: Entrant | Sequence[Entrant]) -> tuple[tuple[str, ...], dict[str, Objective | None]]:
    """Return the labels of objectives, and by label those objects that their labels do not lead back to.

    Raises:
        ValueError: what is given is no objective, or one that cannot be written down.

    """
    labels: list[str] = []
    handed: dict[str, Objective | None] = {}
    for one in [given] if isinstance(given, str | Objective | type) else given:
        label, found = _known(one)
        labels.append(label)
        if found is not None:
            handed[label] = found
    return tuple(labels), handed


def _known(one: Entrant) -> tuple[str, Objective | None]:
    if isinstance(one, str):
        return one, None
    made = one() if isinstance(one, type) and issubclass(one, Objective) else one
    if not isinstance(made, Objective):
        raise ValueError(
            f"objectives: got {made!r}, expected names, or objects of criterium.objectives.Objective"
        )
    label, enough = label_of(made)
    return label, None if enough else made


def named_again(plan: Plan, given: Entrant | Sequence[Entrant], root: Path, model: str | None = None) -> Plan:
    """Return `plan` as it was written down in `root`, with the code that is not criterium's own.

    A folder may come from anybody. What it names by a Python path is imported only if it is `given` again,
    with its options or without, and so is the `model`; what cannot be imported must be given as an object.

    Raises:
        ValueError: something is missing, or was not in the race.

    """
    if model is not None and model != plan.model:
        raise ValueError(f"model: got {model}, expected {plan.model}, as in {root}")
    if ":" in plan.model and model is None:
        raise ValueError(
            f"model: {root} names code to run, {plan.model}; if you trust it, name it again:"
            f" {how_to_go_on(root, plan)}"
        )
    labels, handed = entered(given)
    wanted = [label for label in plan.objectives if is_path(label) or label in plan.handed]
    for label in labels:
        if not any(_names(label, one) for one in wanted):
            expected = ", ".join(wanted) or "none: all of them are known by name"
            raise ValueError(f"objectives: got {label}, expected {expected}")
    for label in wanted:
        if label in plan.handed and handed.get(label) is None:
            raise ValueError(
                f"objectives: {label} cannot be imported, expected the object itself, in Python:"
                f" criterium.resume({str(root)!r}, objectives=[...])"
            )
        if label not in plan.handed and not any(_names(one, label) for one in labels):
            raise ValueError(
                f"objectives: {root} names code to run, {label}; if you trust it, name it again:"
                f" {how_to_go_on(root, plan)}"
            )
    return replace(plan, handed={label: handed[label] for label in plan.handed})


def _names(given: str, label: str) -> bool:
    """Return whether `given` is `label`, or the path in it."""
    return parse(given) == parse(label) or (is_path(label) and given == parse(label)[0])


def how_to_go_on(root: Path, plan: Plan) -> str:
    """Return what to type, or to call, to go on with a race."""
    if plan.handed:
        model = f", model={plan.model!r}" if ":" in plan.model else ""
        return f"criterium.resume({str(root)!r}, objectives=[{', '.join(plan.handed)}]{model}) in Python"
    paths = dict.fromkeys(parse(label)[0] for label in plan.objectives if is_path(label))
    named = [word for path in paths for word in ("--objective", path)]
    named += ["--model", plan.model] if ":" in plan.model else []
    return shlex.join(["criterium", "resume", str(root), *named])


def notes_on_handed(handed: Mapping[str, object], root: Path) -> list[str]:
    """Return a line for each objective that cannot be imported."""
    return [
        f"{label} cannot be imported (it was made in a notebook, a script or a function): should the race be"
        f" interrupted, hand it over again: criterium.resume({str(root)!r}, objectives=[...])"
        for label in handed
    ]
