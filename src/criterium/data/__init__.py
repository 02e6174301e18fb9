"""Data: sources of labelled inputs, and their split into training, validation, test and elsewhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from criterium.data.catalogue import SOURCES

if TYPE_CHECKING:
    from criterium.data.dataset import Dataset, Split
    from criterium.data.sources import load

__all__ = ["SOURCES", "Dataset", "Split", "load"]

_HOMES = {
    "Dataset": "criterium.data.dataset",
    "Split": "criterium.data.dataset",
    "load": "criterium.data.sources",
}


def __getattr__(name: str) -> Any:
    # The command line lists the sources by name; only loading one needs torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
