"""Models: backbones that map raw inputs to features."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from criterium.models.catalogue import MODELS

if TYPE_CHECKING:
    from criterium.models.backbone import Backbone, Standardize
    from criterium.models.builder import build

__all__ = ["MODELS", "Backbone", "Standardize", "build"]

_HOMES = {
    "Backbone": "criterium.models.backbone",
    "Standardize": "criterium.models.backbone",
    "build": "criterium.models.builder",
}


def __getattr__(name: str) -> Any:
    # The command line lists the models by name; only building one needs torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
