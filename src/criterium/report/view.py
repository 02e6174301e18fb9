"""What the report needs to know of one finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from criterium.evaluation.calibration import confidences
from criterium.evaluation.predictions import Predictions

Confidences = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class RunView:
    """One run, a few numbers a row: predictions of several runs with many classes would fill the memory.

    Args:
        objective: what was trained for.
        seed: of the run.
        history: ``epoch`` and ``validation_error`` (a fraction), a number an epoch each; None where it was
            trained by other code.
        temperature: fitted on validation rows.
        before: `criterium.evaluation.calibration.confidences` of the test rows at temperature 1.
        after: the same at `temperature`.
        scores: of ``"test"`` rows and of OOD inputs, ``"ood"``.
    """

    objective: str
    seed: int
    history: Mapping[str, Sequence[float]] | None
    temperature: float
    before: Confidences
    after: Confidences
    scores: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        objective: str,
        seed: int,
        predictions: Predictions,
        history: Mapping[str, Sequence[float]] | None,
        temperature: float,
    ) -> RunView:
        """Return what the report shows of `predictions`."""
        test = predictions.where("test")
        before, after = (confidences(test.logits, test.target, t) for t in (1.0, temperature))
        scores = {"test": test.score, "ood": predictions.ood_scores()}
        return cls(objective, seed, history, temperature, before, after, scores)
