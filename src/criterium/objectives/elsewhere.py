"""Objectives that other packages bring: by an entry point, or by a Python path."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

from criterium._code import imported
from criterium.objectives.base import Objective

GROUP = "criterium.objectives"
"""The group of entry points: ``name = "pkg.module:Class"``, with the name that the class has."""


def installed() -> dict[str, str]:
    """Return, by name, the Python paths of objectives that installed packages bring; nothing is imported."""
    return {entry.name: entry.value.partition("[")[0].strip() for entry in entry_points(group=GROUP)}


def kind_at(path: str, name: str | None = None) -> type[Objective]:
    """Return the objective that ``"pkg.module:Class"`` names, which calls itself `name` if that is given.

    Raises:
        ValueError: there is none, or it is no objective.

    """
    found = imported("objective", path, "pkg.module:Class")
    if not (isinstance(found, type) and issubclass(found, Objective)):
        raise ValueError(
            f"objective: {path} is {found!r}, expected a subclass of criterium.objectives.Objective"
        )
    check_name(found, path)
    if name not in (None, found.name):
        raise ValueError(f"objective: {name} is installed as {path}, which calls itself {found.name!r}")
    return found


def check_name(kind: type[Objective], what: str) -> None:
    """Raise a `ValueError` if an objective has no name that one can type."""
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            f'objective: {what} has the name {name!r}, expected name = "..." in the class, of letters, digits'
            " and hyphens"
        )
