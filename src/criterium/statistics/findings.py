"""What a comparison found, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from criterium.statistics.design import Design
from criterium.statistics.flags import Flags
from criterium.statistics.paired import Difference, Estimate
from criterium.statistics.verdicts import Assessment

Cells = dict[str, dict[str, Estimate]]
Differences = dict[str, dict[str, Difference]]


@dataclass(frozen=True)
class Judgement:
    """What was concluded of each objective other than the baseline, on the one metric that decides.

    `margin` is the least difference that matters.
    """

    metric: str
    margin: float
    design: Design
    assessments: dict[str, Assessment]
    flags: dict[str, Flags]


@dataclass(frozen=True)
class Findings:
    """Objectives by metrics, and how they differ from the baseline.

    `cells` and `differences` are read as ``cells[objective][metric]``; `differences` has no row for the
    baseline, and only the metrics that are compared. `cost` is the time of a training step relative to the
    baseline's, by objective. Only the metric of the `judgement` is tested. `seeds` are the numbers of the
    repeats.
    """

    objectives: tuple[str, ...]
    metrics: tuple[str, ...]
    baseline: str
    k: int
    seeds: tuple[int, ...]
    cells: Cells
    differences: Differences
    cost: dict[str, float]
    notes: tuple[str, ...]
    judgement: Judgement
