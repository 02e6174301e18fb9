"""The page of a finished comparison: one HTML file that needs no others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from criterium._files import whole
from criterium.report.protocol import sections
from criterium.report.view import RunView
from criterium.statistics import Table, formats
from criterium.statistics.render import html_table


@dataclass(frozen=True)
class _Figure:
    title: str
    caption: str
    svg: str


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    config: Mapping[str, object],
    table: Table,
    runs: Sequence[RunView],
) -> None:
    """Write the page, which appears under its name only once it is whole.

    Args:
        path: the file to write.
        title: the page's heading.
        config: the settings of the comparison, shown as short tables and once more as JSON; a setting that
            holds others (splits, versions, what was tuned) becomes a table of its own.
        table: from `criterium.statistics.judge`.
        runs: the finished runs, of every objective of the table at least one; none where only classes are
            known.
    """
    page = render_page(title=title, config=config, table=table, runs=runs)
    with whole(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")


def render_page(*, title: str, config: Mapping[str, object], table: Table, runs: Sequence[RunView]) -> str:
    """Return the page as `write_report` writes it."""
    import jinja2

    # Predicted classes alone have no confidences to show.
    if runs and (missing := sorted(set(table.objectives) - {run.objective for run in runs})):
        raise ValueError(
            f"runs: got none of {', '.join(missing)}, expected at least one of each in the table"
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("criterium.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        table=table,
        table_html=html_table(table),
        figures=_figures(table, runs),
        sections=sections(config),
        config=json.dumps(config, indent=2, ensure_ascii=False, default=str),
    )


def _figures(table: Table, runs: Sequence[RunView]) -> list[_Figure]:
    """Return the figures that the comparison has numbers for."""
    # Matplotlib takes half a second to import, and only here is it needed.
    from criterium.report import figures

    several = len(table.seeds) > 1
    bars = " Bars are 95 % intervals over repeats." if several else ""
    found = []
    if any(metric in table.metrics for metric in figures.ERRORS):
        caption = f"Mean error on the test rows.{bars}"
        if several:
            caption += f" Faint dots are the repeats, the band is the interval of {table.baseline}."
        found.append(_Figure("Error", caption, figures.errors(table)))
    if table.differences:
        caption = f"Difference from {table.baseline}, paired by repeat.{bars}"
        caption += (
            f" Tested is {formats.title(table.judgement.metric, table.k)} alone: p is Holm-corrected, the"
            " intervals are not; ▲ better, ▼ worse, ≈ as good. The other panels are secondary."
        )
        found.append(_Figure("Differences", caption, figures.differences(table)))
    if table.differences and table.cost and "top1_error" in table.metrics:
        caption = f"Top-1 error against the time of a training step: best is bottom left.{bars}"
        found.append(_Figure("Cost against error", caption, figures.cost_against_error(table)))
    if not runs:
        return found
    caption = (
        "Accuracy against confidence on the test rows of all repeats, in 15 bins: dotted before and solid"
        " after"
        " the temperature that was fitted on validation rows. The diagonal is perfect calibration, and larger"
        " marks hold more rows."
    )
    found.append(_Figure("Reliability", caption, figures.reliability_diagrams(table, runs)))
    if "auroc" in table.metrics:
        caption = "Scores of test rows (filled) and of OOD inputs (line), all seeds together."
        found.append(
            _Figure("Scores of known inputs and of others", caption, figures.score_histograms(table, runs))
        )
    if {run.objective for run in runs if run.history is not None} >= set(table.objectives):
        caption = f"Error on validation rows by epoch, mean over repeats; grey is {table.baseline}."
        if several:
            caption += " Bands are 95 % t-intervals over repeats."
        found.append(_Figure("Training", caption, figures.training_curves(table, runs)))
    return found
