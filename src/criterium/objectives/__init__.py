"""Objectives: one file a paper. A file put into this folder is found by name, with no edit elsewhere."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from criterium._checks import choice, nearest
from criterium.objectives.base import Choice, GradientTransform, Objective, Range, Search, Task
from criterium.objectives.exact import GradientNormalizer

__all__ = [
    "OBJECTIVES",
    "Choice",
    "GradientNormalizer",
    "GradientTransform",
    "Objective",
    "Range",
    "Search",
    "Task",
    "build",
]


def _discover() -> dict[str, type[Objective]]:
    found: dict[str, type[Objective]] = {}
    for module in sorted(entry.name for entry in pkgutil.iter_modules(__path__)):
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
            # A class without a name of its own is a base of others.
            if not (isinstance(value, type) and issubclass(value, Objective) and "name" in vars(value)):
                continue
            if found.setdefault(value.name, value) is not value:
                raise ValueError(f"objective: {value.name!r} is the name of two classes")
    return found


OBJECTIVES: dict[str, type[Objective]] = _discover()


def build(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """Return the objective called `name`, with `options` in place of its published defaults.

    Raises:
        ValueError: no such objective, or no such option, with the nearest names. Values are checked by the
            criteria at the latest, when they are made.

    Example:
        >>> build("exact", {"margin": 0.5}).margin
        0.5

    """
    kind = OBJECTIVES[choice("objective", name, OBJECTIVES)]
    known = [field.name for field in dataclasses.fields(kind)]
    for option in options or {}:
        if option not in known:
            has = f"has the options {', '.join(known)}" if known else "has no options"
            raise ValueError(f"objective {name}: got option {option!r}, but it {has}{nearest(option, known)}")
    return kind(**(options or {}))
