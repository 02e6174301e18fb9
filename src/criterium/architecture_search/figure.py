"""The figure of a search: trained networks by each measure, or the measures against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from criterium.architecture_search.ranking import MEASURES, Row, agreement, finished, kendall, signed
from criterium.report.figures import WIDTH
from criterium.report.style import COLOURS, svg

_LARGE = ("parameters", "flops")


def write_scatter(rows: Sequence[Row]) -> str:
    """Return an SVG document, on white so that it can be read on any page."""
    drawn = against_error(rows) if len(finished(rows)) > 1 else against_naswot(rows)
    return drawn.replace("<svg ", '<svg style="background: #ffffff; color: #222222" ', 1)


@svg
def against_error(rows: Sequence[Row]) -> Figure:
    """Validation error of the trained networks against each measure, with Kendall's tau for accuracy."""
    trained = finished(rows)
    figure = Figure((WIDTH, 3.0), layout="constrained")
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for panel, (measure, words) in zip(panels, MEASURES.items(), strict=True):
        errors = [100 * row["validation_error"] for row in trained]
        _points(panel, [row[measure] for row in trained], errors, measure)
        found = agreement(rows, measure)
        panel.set_title(f"{words}\ntau {signed(found.tau)}{_interval(found.low, found.high)}")
    panels[0].set_ylabel("validation error, %")
    return figure


@svg
def against_naswot(rows: Sequence[Row]) -> Figure:
    """NASWOT of all networks against each other measure."""
    others = {measure: words for measure, words in MEASURES.items() if measure != "naswot"}
    figure = Figure((WIDTH, 3.0), layout="constrained")
    panels = figure.subplots(1, len(others), sharey=True)
    regular = [row for row in rows if math.isfinite(row["naswot"])]
    for panel, (measure, words) in zip(panels, others.items(), strict=True):
        scores = [row["naswot"] for row in regular]
        values = [row[measure] for row in regular]
        _points(panel, values, scores, measure)
        panel.set_title(f"{words}\ntau {signed(kendall(values, scores).tau)}")
    panels[0].set_ylabel("NASWOT")
    return figure


def _points(panel: Axes, x: Sequence[float], y: Sequence[float], measure: str) -> None:
    """Draw a point a network; one whose value is not finite stands at the left edge, open."""
    inside = [(value, height) for value, height in zip(x, y, strict=True) if math.isfinite(value)]
    if inside:
        along, up = zip(*inside, strict=True)
        panel.scatter(along, up, 18, COLOURS[0], alpha=0.75)
    edge = [height for value, height in zip(x, y, strict=True) if not math.isfinite(value)]
    if edge:
        across = panel.get_yaxis_transform()
        panel.scatter(
            [0.0] * len(edge),
            edge,
            s=22,
            facecolor="none",
            edgecolor=COLOURS[1],
            transform=across,
            clip_on=False,
        )
    panel.xaxis.set_major_locator(MaxNLocator(3))
    if measure in _LARGE and inside:
        _large(panel, [value for value, _ in inside])
    panel.set_xlabel(f"{MEASURES[measure]}{' (open: −∞)' if edge else ''}")


def _large(panel: Axes, values: Sequence[float]) -> None:
    """Write thousands as 1k, and spread values that differ by more than ten times evenly by magnitude."""
    range_ = max(values) / min(values)
    if range_ > 10:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if range_ > 100 else (1.0, 3.0)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({signed(low)} to {signed(high)})"
