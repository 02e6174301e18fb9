"""Data: sources of labelled inputs, and their split into training, validation, test and OOD.

`read` gives the `Contents` of a source, read once; its ``split(repeat)`` gives the `Dataset` of a repeat.
`load` is both at once, for repeat 0. What is read and how is a `Source`, plain values to be written down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from criterium._lazy import lazily
from criterium.data.catalogue import SOURCES

if TYPE_CHECKING:
    from criterium.data.contents import Contents
    from criterium.data.dataset import Dataset, Split
    from criterium.data.sources import Source, load, read

__all__ = ["SOURCES", "Contents", "Dataset", "Source", "Split", "load", "read"]

_HOMES = {
    "Contents": "criterium.data.contents",
    "Dataset": "criterium.data.dataset",
    "Split": "criterium.data.dataset",
    "Source": "criterium.data.sources",
    "load": "criterium.data.sources",
    "read": "criterium.data.sources",
}

# The command line lists the sources by name; only loading one needs torch.
if not TYPE_CHECKING:
    __getattr__ = lazily(__name__, _HOMES)
