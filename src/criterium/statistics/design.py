"""What the repeats of a study share, which decides how far its verdicts reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from criterium.evaluation.measures import RowSample
from criterium.statistics.spread import Spread, resampled, shared

Samples = Mapping[str, RowSample]
"""By objective: what the mean over repeats of one metric owes to the test rows."""


@dataclass(frozen=True)
class Design:
    """How test rows were drawn.

    `own_test` says whether each repeat has test rows of its own, from a split of its own; else all are
    measured on the same ones. `test` and `other` count test rows and all other rows of a repeat, or groups of
    them (`units` is "rows" or "groups").
    """

    own_test: bool
    test: int
    other: int = 0
    units: str = "rows"

    @property
    def ratio(self) -> float:
        """Test rows over all other rows: validation belongs to the procedure."""
        return self.test / self.other if self.own_test and self.other else 0.0

    def spread(self, values: Sequence[float], sample: RowSample | None = None) -> Spread:
        """Return the spread of a mean over repeats, or of a mean difference."""
        if sample is not None and (not self.own_test or len(values) == 1):
            return shared(values, sample.variance, sample.rows)
        return resampled(values, self.ratio)
