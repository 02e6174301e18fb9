"""What the report needs to know of one finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from criterium.evaluation.predictions import Predictions


@dataclass(frozen=True)
class RunView:
    """One run: `history` has ``epoch`` and ``validation_error`` (a fraction), a number an epoch each."""

    objective: str
    seed: int
    predictions: Predictions
    history: Mapping[str, Sequence[float]]
    temperature: float
