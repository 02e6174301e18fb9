"""Models: backbones that map raw inputs to features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criterium._lazy import lazily
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

# The command line lists the models by name; only building one needs torch.
if not TYPE_CHECKING:
    __getattr__ = lazily(__name__, _HOMES)
