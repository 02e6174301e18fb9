"""Several data sets in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

from criterium.evaluation.metrics import metric as meaning
from criterium.report.style import GREY, INK, look, svg
from criterium.statistics.datasets import Posterior
from criterium.statistics.formats import scale, title


class Row(Protocol):
    """What the figure shows of an objective."""

    @property
    def objective(self) -> str:
        """Its name."""

    @property
    def differences(self) -> Sequence[float]:
        """From the control, one a data set."""

    @property
    def posterior(self) -> Posterior:
        """What to expect on another data set."""


@svg
def across(rows: Sequence[Row], metric: str, k: int, margin: float) -> Figure:
    """Differences on every data set beside the margin, and what to expect on another one."""
    figure = Figure((9.0, 1.2 + 0.4 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.axvspan(-margin * scale(metric), margin * scale(metric), color=GREY, alpha=0.18, linewidth=0)
    left.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(rows):
        colour, marker = look(place + 1)
        x = [value * scale(metric) for value in row.differences]
        left.plot(x, [place] * len(x), marker, color=colour, alpha=0.7)
        start = 0.0
        for chance, shade in (
            (row.posterior.better, colour),
            (row.posterior.as_good, GREY),
            (row.posterior.worse, INK),
        ):
            right.barh(place, chance, 0.6, start, color=shade, alpha=0.8)
            start += chance
    left.set_yticks(range(len(rows)), [row.objective for row in rows])
    left.invert_yaxis()
    unit = "points" if meaning(metric).unit == "%" else meaning(metric).unit
    left.set_xlabel(f"difference in {title(metric, k)}, {unit} ({meaning(metric).better} is better)")
    right.set_xlabel("chance on another data set: better, as good (grey), worse (dark)")
    right.set_xlim(0, 1)
    return figure
