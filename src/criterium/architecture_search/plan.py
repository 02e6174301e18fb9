"""What an architecture search is to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from criterium._checks import at_least
from criterium.engine.setup import Setup
from criterium.objectives import build

OBJECTIVE = build("cross-entropy")
"""What networks are trained for: which of them is best under it is the question."""


@dataclass(frozen=True)
class SearchPlan:
    """Which networks are scored, and how many of them are trained."""

    setup: Setup
    space: str
    budget: int
    train: int
    train_top: int
    seed: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least("budget", self.budget, 1)
        for name in ("train", "train_top", "seed"):
            at_least(name, getattr(self, name), 0)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a search to be the continuation of an earlier one."""
        return {"space": self.space, "seed": self.seed, "data": self.setup.source.data}


def model_path(name: str) -> str:
    """Return what `model=` takes for a network of a space.

    Example:
        >>> model_path("mlp-64-32")
        'criterium.techniques.architecture:mlp-64-32'

    """
    return f"criterium.techniques.architecture:{name}"
