"""Architectures judged before training, and spaces to search for them.

A network of a space can be named wherever criterium takes a Python path to a model:
``--model criterium.techniques.architecture:mlp-64-32``.
"""

from __future__ import annotations

from typing import Any

from criterium.techniques.architecture.scoring import ArchitectureScore, score_architecture
from criterium.techniques.architecture.spaces import SPACES, body, draw, factory

__all__ = ["SPACES", "ArchitectureScore", "body", "draw", "score_architecture"]


def __getattr__(name: str) -> Any:
    """Return the function from the shape of an input to the network called `name`."""
    try:
        return factory(name)
    except ValueError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
