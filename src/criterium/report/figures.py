"""The figures of the report, each from the table or the runs to an ``<svg>`` element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from criterium.evaluation.calibration import in_bins
from criterium.evaluation.metrics import metric as meaning
from criterium.report.style import GREY, INK, look, svg
from criterium.report.view import Confidences, RunView
from criterium.statistics import Estimate, Table
from criterium.statistics.formats import MARKS, heading, interval, p_value, scale, title
from criterium.statistics.paired import estimate

WIDTH = 9.0
"""Inches, of 72 units of the SVG each."""

COLUMNS = 3
"""Panels side by side, where there is one for each objective or metric."""

ERRORS = ("top1_error", "topk_error")


@svg
def errors(table: Table) -> Figure:
    """Mean error of each objective with its interval, its seeds faint, the baseline's interval as a band."""
    metrics = [metric for metric in ERRORS if metric in table.metrics]
    figure = Figure((WIDTH, 1.0 + 0.36 * len(table.objectives)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        base = table.cells[table.baseline][metric]
        if not math.isnan(base.half_width):
            panel.axvspan(base.low * 100, base.high * 100, color=GREY, alpha=0.18, linewidth=0)
        for row, name in enumerate(table.objectives):
            of, colour = table.cells[name][metric], look(row)[0]
            if len(of.values) > 1:
                x = [value * 100 for value in of.values]
                panel.plot(x, [row + 0.25] * len(x), ".", color=colour, alpha=0.5)
            _dot(panel, of, metric, row, row)
        panel.set_title(title(metric, table.k))
        panel.set_xlabel(f"{heading(metric, table.k)} (lower is better)")
        _rows(panel, table.objectives)
    return figure


@svg
def differences(table: Table) -> Figure:
    """Difference of each objective from the baseline with its interval, one panel a metric."""
    rows = table.objectives[1:]
    metrics = list(table.differences[rows[0]])
    figure, panels = _panels(len(metrics), 0.9 + 0.3 * len(rows), sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        panel.axvline(0, color=INK, linewidth=0.8)
        for row, name in enumerate(rows):
            of = table.differences[name][metric]
            _dot(panel, of, metric, row, row + 1)
            said = f"{p_value(of.p_corrected)} {MARKS.get(of.verdict, '')}"
            panel.text(1.02, row, said, transform=panel.get_yaxis_transform(), va="center", fontsize=8)
        panel.set_title(f"{title(metric, table.k)} ({meaning(metric).better} is better)")
        unit = meaning(metric).unit
        panel.set_xlabel(f"difference, {'points' if unit == '%' else unit}")
        _rows(panel, rows)
    return figure


@svg
def reliability_diagrams(table: Table, runs: Sequence[RunView]) -> Figure:
    """Accuracy against confidence on the test rows of all seeds, before and after temperature."""
    figure, panels = _panels(len(table.objectives), 2.7, sharex=True, sharey=True)
    for position, (panel, name) in enumerate(zip(panels, table.objectives, strict=True)):
        mine = [run for run in runs if run.objective == name]
        colour, marker = look(position)
        panel.plot([0, 100], [0, 100], color=INK, linewidth=0.6)
        _reliability(panel, [run.before for run in mine], GREY, "o", ":")
        _reliability(panel, [run.after for run in mine], colour, marker, "-")
        panel.set_title(f"{name}\ntemperature {_range([run.temperature for run in mine])}")
        panel.set_box_aspect(1)
    _label(panels, "confidence, %", "accuracy, %")
    return figure


@svg
def score_histograms(table: Table, runs: Sequence[RunView]) -> Figure:
    """Scores of test rows and of OOD inputs, over all seeds."""
    figure, panels = _panels(len(table.objectives), 2.0)
    for position, (panel, name) in enumerate(zip(panels, table.objectives, strict=True)):
        mine = [run.scores for run in runs if run.objective == name]
        known, ood = (np.concatenate([scores[split] for scores in mine]) for split in ("test", "ood"))
        # A few far scores would squeeze the rest into one bar.
        low, high = np.percentile(np.concatenate([known, ood]), [0.5, 99.5]).tolist()
        bins = np.linspace(low, high, 31).tolist() if high > low else [low - 0.5, low + 0.5]
        colour = look(position)[0]
        panel.hist(known, bins, density=True, histtype="stepfilled", color=colour, alpha=0.55)
        panel.hist(ood, bins, density=True, histtype="step", color=INK, linewidth=1.2)
        panel.set_title(f"{name}\nAUROC {interval(table, 'auroc', table.cells[name]['auroc'])} %")
        panel.set_yticks([])
    _label(panels, "score", "density")
    return figure


@svg
def training_curves(table: Table, runs: Sequence[RunView]) -> Figure:
    """Validation error by epoch, mean over seeds with its interval; the baseline's again in every panel."""
    figure, panels = _panels(len(table.objectives), 2.0, sharex=True, sharey=True)
    for position, (panel, name) in enumerate(zip(panels, table.objectives, strict=True)):
        for who, colour in {table.baseline: GREY, name: look(position)[0]}.items():
            mine = [run.history for run in runs if run.objective == who and run.history is not None]
            epoch = mine[0]["epoch"]
            means = [
                estimate([100 * value for value in values])
                for values in zip(*(history["validation_error"] for history in mine), strict=True)
            ]
            panel.plot(epoch, [of.mean for of in means], color=colour, linewidth=1.4)
            if len(mine) > 1:
                low, high = ([of.low for of in means], [of.high for of in means])
                panel.fill_between(epoch, low, high, color=colour, alpha=0.25, linewidth=0)
        panel.set_title(name)
    panels[0].set_ylim(bottom=0)
    _label(panels, "epoch", "validation error, %")
    return figure


@svg
def cost_against_error(table: Table) -> Figure:
    """Mean top-1 error with its interval against the time of a training step."""
    figure = Figure((WIDTH, 3.4), layout="constrained")
    panel = figure.subplots()
    for position, name in enumerate(table.objectives):
        if name not in table.cost:
            continue
        of = table.cells[name]["top1_error"]
        colour, marker = look(position)
        spread = None if math.isnan(of.half_width) else of.half_width * 100
        panel.errorbar(
            table.cost[name],
            of.mean * 100,
            spread,
            fmt=marker,
            color=colour,
            markersize=7,
            capsize=3,
            label=name,
        )
    panel.set_xlabel(f"time of a training step, times that of {table.baseline}")
    panel.set_ylabel(heading("top1_error", table.k))
    figure.legend(loc="outside right upper")
    return figure


def _panels(
    count: int, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with that many panels, each of that height in inches."""
    rows = math.ceil(count / COLUMNS)
    figure = Figure((WIDTH, 0.4 + height * rows), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12))
    panels = list(figure.subplots(rows, COLUMNS, sharex=sharex, sharey=sharey, squeeze=False).flat)
    for spare in panels[count:]:
        spare.set_visible(False)
    return figure, panels[:count]


def _label(panels: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes at the left and wherever no panel is below."""
    for panel in panels[::COLUMNS]:
        panel.set_ylabel(y)
    for panel in panels[-COLUMNS:]:
        panel.set_xlabel(x)
        panel.tick_params(labelbottom=True)


def _reliability(panel: Axes, runs: Sequence[Confidences], colour: str, marker: str, line: str) -> None:
    """Draw the bins that hold rows, the larger the more; open where the line is dotted."""
    confidence, right = (np.concatenate(values) for values in zip(*runs, strict=True))
    bins = in_bins(confidence, right)
    used = bins.count > 0
    x, y = 100 * bins.confidence[used], 100 * bins.accuracy[used]
    area = 3 + 60 * np.sqrt(bins.count[used] / bins.count.sum())
    face = "none" if line == ":" else colour
    panel.plot(x, y, line, color=colour, linewidth=1, alpha=0.5)
    panel.scatter(x, y, area, marker=marker, facecolor=face, edgecolor=colour)


def _dot(panel: Axes, of: Estimate, metric: str, row: int, position: int) -> None:
    """Draw a mean with its interval, where it has one, on a row."""
    colour, marker = look(position)
    spread = None if math.isnan(of.half_width) else of.half_width * scale(metric)
    panel.errorbar(
        of.mean * scale(metric), row, xerr=spread, fmt=marker, color=colour, markersize=6, capsize=3
    )


def _rows(panel: Axes, names: Sequence[str]) -> None:
    """Name the rows, the first on top."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
