"""Objectives: one file a paper. A file put into this folder is found by its objective's name."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from criterium._checks import choice, nearest
from criterium.objectives.base import Choice, GradientTransform, Objective, Range, Search, Task
from criterium.objectives.complement import ComplementObjective
from criterium.objectives.cross_entropy import CrossEntropy
from criterium.objectives.dismax import DisMax
from criterium.objectives.elsewhere import installed, kind_at
from criterium.objectives.exact import Exact, GradientNormalizer
from criterium.objectives.focal import Focal
from criterium.objectives.guided_complement import GuidedComplement
from criterium.objectives.hierarchical_complement import HierarchicalComplement
from criterium.objectives.hinge import Hinge
from criterium.objectives.isomax import IsoMax, IsoMaxPlus
from criterium.objectives.label_smoothing import LabelSmoothing
from criterium.objectives.ldam import LDAM
from criterium.objectives.logit_adjustment import LogitAdjusted
from criterium.objectives.maxsup import MaxSup
from criterium.objectives.noised_topk import NoisedTopK, NoisedTopKImbalanced
from criterium.objectives.poly1 import Poly1
from criterium.objectives.smooth_topk_svm import SmoothTopKSVM, TopKSVM
from criterium.objectives.topk import TopK
from criterium.objectives.zero_one import ZeroOne

__all__ = [
    "LDAM",
    "OBJECTIVES",
    "Choice",
    "ComplementObjective",
    "CrossEntropy",
    "DisMax",
    "Exact",
    "Focal",
    "GradientNormalizer",
    "GradientTransform",
    "GuidedComplement",
    "HierarchicalComplement",
    "Hinge",
    "IsoMax",
    "IsoMaxPlus",
    "LabelSmoothing",
    "LogitAdjusted",
    "MaxSup",
    "NoisedTopK",
    "NoisedTopKImbalanced",
    "Objective",
    "Poly1",
    "Range",
    "Search",
    "SmoothTopKSVM",
    "Task",
    "TopK",
    "TopKSVM",
    "ZeroOne",
    "build",
    "find",
    "installed",
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


def find(name: str) -> type[Objective]:
    """Return the class of an objective: one of `OBJECTIVES`, another package's, or ``"pkg.module:Class"``.

    An installed package brings objectives by the entry-point group ``criterium.objectives``.

    Raises:
        ValueError: there is none, with the nearest names.

    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if ":" in name:
        return kind_at(name)
    others = installed()
    return kind_at(others[choice("objective", name, [*OBJECTIVES, *others])], name)


def build(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """Return the objective that `find` finds, with `options` in place of its published defaults.

    Raises:
        ValueError: no such objective, or no such option, with the nearest names. Values are checked by the
            criteria at the latest, when they are made.

    Example:
        >>> build("exact", {"margin": 0.5}).margin
        0.5

    """
    kind = find(name)
    known = [field.name for field in dataclasses.fields(kind)]
    for option in options or {}:
        if option not in known:
            has = f"has the options {', '.join(known)}" if known else "has no options"
            raise ValueError(f"objective {name}: got option {option!r}, but it {has}{nearest(option, known)}")
    return kind(**(options or {}))
