"""How numbers of the table are written: units, decimals, signs and marks, the same in every output."""

from __future__ import annotations

import math

import numpy as np

from criterium.evaluation.metrics import metric as meaning
from criterium.statistics.findings import Findings, Judgement
from criterium.statistics.paired import Difference, Estimate

MARKS = {"better": "▲", "worse": "▼", "as good": "≈"}


def title(metric: str, k: int) -> str:
    """Return what a metric is called, with the number in place of the k of top-k."""
    return meaning(metric).title.replace("top-k", f"top-{k}")


def heading(metric: str, k: int) -> str:
    """Return the title with its unit."""
    return ", ".join(filter(None, (title(metric, k), meaning(metric).unit)))


def scale(metric: str) -> float:
    """Return what a stored number is multiplied by to be shown: 100 for fractions in percent."""
    return 100.0 if meaning(metric).unit == "%" else 1.0


def decimals(table: Findings, metric: str) -> int:
    """Return how many decimals show two digits of the typical interval, the same in a whole column.

    More than two of a percentage, or four of another number, would only make the table wide.
    """
    percent = meaning(metric).unit == "%"
    widths = [row[metric].half_width * scale(metric) for row in table.cells.values()]
    widths = [width for width in widths if width > 0]  # NaN, of one seed, is not above 0
    if not widths:
        return 1 if percent else 3
    return min(2 if percent else 4, max(0, 1 - math.floor(math.log10(float(np.median(widths))))))


def number(table: Findings, metric: str, value: float, *, signed: bool = False) -> str:
    """Return a value of a metric in its unit, without the unit's name; a difference with its sign."""
    # Adding zero turns a negative zero into a plain one.
    shown = round(value * scale(metric), decimals(table, metric)) + 0.0
    sign = "+" if signed and shown else ""
    return f"{shown:{sign}.{decimals(table, metric)}f}".replace("-", "−")


def interval(table: Findings, metric: str, of: Estimate) -> str:
    """Return ``4.21 ± 0.62``, the mean alone for one seed, and a dash for no seed."""
    if math.isnan(of.mean):
        return "–"
    mean = number(table, metric, of.mean, signed=isinstance(of, Difference))
    return mean if math.isnan(of.half_width) else f"{mean} ± {number(table, metric, of.half_width)}"


def p_value(p: float) -> str:
    """Return ``p = 0.012``, or ``p < 0.001``; nothing where there was no test."""
    if math.isnan(p):
        return ""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def mark(table: Findings, objective: str, metric: str) -> str:
    """Return the sign of a difference that was shown; nothing for the baseline and for the others."""
    of = table.differences.get(objective, {}).get(metric)
    return MARKS.get(of.verdict, "") if of else ""


def cost(table: Findings, objective: str) -> str:
    """Return the cost of a step relative to the baseline's, as ``1.31×``."""
    return f"{table.cost[objective]:.2f}×" if objective in table.cost else "–"


def legend(table: Findings) -> list[str]:
    """Return what the reader of the table must know to read it."""
    lines = _judged(table, table.judgement)
    if any(metric.endswith("_uncalibrated") for metric in table.metrics):
        lines.append("before scaling: at temperature 1; the others at the temperature fitted on validation")
    if table.cost:
        lines.append(f"cost: time of a training step relative to {table.baseline}")
    return lines


def margin(metric: str, value: float) -> str:
    """Return a difference that matters with its unit, as ``1 point`` or ``0.02 nats``."""
    shown = f"{value * scale(metric):.2g}"
    if meaning(metric).unit == "%":
        return f"{shown} point{'s' * (shown != '1')}"
    return f"{shown} {meaning(metric).unit}".rstrip()


def _judged(table: Findings, judgement: Judgement) -> list[str]:
    design, repeats = judgement.design, len(table.seeds)
    if all(math.isnan(of.half_width) for row in table.cells.values() for of in row.values()):
        return ["one repeat: no intervals, no tests"]
    if repeats == 1:
        over = f"over the {design.test:,} test {design.units} of one repeat"
    elif design.own_test:
        over = f"over {repeats} repeats with a split each, corrected for the {design.units} they share"
    else:
        over = f"over {repeats} repeats and the {design.test:,} test {design.units} they share"
    lines = [f"mean ± half of the 95 % interval {over}"]
    tests = len(judgement.assessments)
    if tests:
        name = title(judgement.metric, table.k)
        corrected = f", p corrected by Holm's method for {tests} objectives" if tests > 1 else ""
        lines.append(
            f"▲ better, ▼ worse, ≈ as good as {table.baseline} within"
            f" {margin(judgement.metric, judgement.margin)} of {name}, each at the 5 % level{corrected};"
            " the other metrics are secondary and not tested"
        )
    return lines
