"""Several finished comparisons as one: which objective is better over data sets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criterium._checks import choice, positive
from criterium._files import page_at, whole
from criterium.evaluation.metrics import asked_metric
from criterium.evaluation.metrics import metric as meaning
from criterium.statistics import Table
from criterium.statistics.datasets import Posterior, mean_ranks, probability_of_improvement, signed_rank
from criterium.statistics.formats import margin as in_words
from criterium.statistics.formats import scale, title
from criterium.statistics.margins import default_margin

FEW = 5
"""Data sets below which the signed-rank test leans on its prior."""


@dataclass(frozen=True)
class Across:
    """An objective against the control over data sets; `differences` are means, one a data set."""

    objective: str
    differences: tuple[float, ...]
    better: int
    as_good: int
    worse: int
    rank: float
    improvement: float
    posterior: Posterior


@dataclass(frozen=True)
class Summary:
    """What several comparisons say together, on one metric."""

    datasets: tuple[str, ...]
    metric: str
    k: int
    margin: float
    control: str
    control_rank: float
    rows: tuple[Across, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Plain English, one sentence an objective."""
        return (*(self._sentence(row) for row in self.rows), *self._caution())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON has it."""
        return {**dataclasses.asdict(self), "sentences": self.sentences}

    def figure(self, path: str | os.PathLike[str]) -> Path:
        """Draw the differences on all data sets and the chances, as SVG."""
        from criterium.report.across import across

        target = page_at(path)
        with whole(target) as partial:
            partial.write_text(across(self.rows, self.metric, self.k, self.margin), encoding="utf-8")
        return target

    def __str__(self) -> str:
        """Return a line for each objective, and the sentences."""
        width = max(len(row.objective) for row in self.rows)
        name = title(self.metric, self.k)
        lines = [f"{len(self.datasets)} data sets: {', '.join(self.datasets)}", ""]
        lines.append(f"{'objective':<{max(width, 9)}}  better  as good  worse  mean rank  {name} by data set")
        for row in self.rows:
            shown = "  ".join(f"{value * scale(self.metric):+.2f}" for value in row.differences)
            counts = f"{row.better:>6}  {row.as_good:>7}  {row.worse:>5}  {row.rank:>9.2f}"
            lines.append(f"{row.objective:<{max(width, 9)}}  {counts}  {shown}".replace("-", "−"))
        return "\n".join([*lines, "", *(f"- {sentence}" for sentence in self.sentences)])

    def _sentence(self, row: Across) -> str:
        within = in_words(self.metric, self.margin)
        chances = row.posterior
        return (
            f"{row.objective} against {self.control} on {title(self.metric, self.k)}: better by more than"
            f" {within} on {row.better} of {len(self.datasets)} data sets, worse on {row.worse}; mean rank"
            f" {row.rank:.2f} ({self.control} {self.control_rank:.2f}); one repeat beats one of the other in"
            f" {row.improvement:.0%} of cases; on another data set of this kind it is better with probability"
            f" {chances.better:.2f}, as good within {within} with {chances.as_good:.2f}, worse with"
            f" {chances.worse:.2f} (signed-rank test)."
        ).replace("%", " %")

    def _caution(self) -> tuple[str, ...]:
        if len(self.datasets) >= FEW:
            return ()
        return (f"{len(self.datasets)} data sets are few: what holds on them may not hold on others.",)


def summarise(
    tables: Mapping[str, Table], *, metric: str | None = None, margin: float | None = None
) -> Summary:
    """Compare objectives over several data sets, each of which counts alike.

    Args:
        tables: by data set, the table of a finished comparison; all with the same control.
        metric: what decides, as ``"top1-error"``; by default what the first comparison decided by.
        margin: the least difference that matters: of percentages in points, of others in their unit.

    Returns:
        A `Summary` of the objectives that are in all of them.

    Raises:
        ValueError: for fewer than two data sets, other controls or k, or a metric that one lacks.
    """
    if len(tables) < 2:
        raise ValueError(f"runs: got {len(tables)}, expected at least two data sets")
    (first_name, first), *others = tables.items()
    name, _ = asked_metric(metric) if metric else (first.judgement.metric, None)
    for dataset, table in others:
        if table.baseline != first.baseline:
            wanted = f"expected {first.baseline}, as {first_name}"
            raise ValueError(f"runs: {dataset} has control {table.baseline}, {wanted}")
        if name == "topk_error" and table.k != first.k:
            raise ValueError(f"runs: {dataset} has k = {table.k}, expected {first.k}, as {first_name}")
    for table in tables.values():
        choice("metric", name, table.metrics)
    shared = [each for each in first.objectives if all(each in table.objectives for table in tables.values())]
    if len(shared) < 2:
        raise ValueError(f"runs: share no objective besides {first.baseline}, expected at least one")
    better = meaning(name).better
    least = default_margin(name) if margin is None else positive("margin", margin) / scale(name)
    means = [[table.cells[each][name].mean for each in shared] for table in tables.values()]
    ranks = mean_ranks(means, better)
    sign = 1 if better == "lower" else -1
    rows = []
    for place, each in enumerate(shared[1:], 1):
        differences = tuple(row[place] - row[0] for row in means)
        signed = [sign * value for value in differences]
        wins, losses = sum(value < -least for value in signed), sum(value > least for value in signed)
        rows.append(
            Across(
                objective=each,
                differences=differences,
                better=wins,
                as_good=len(signed) - wins - losses,
                worse=losses,
                rank=ranks[place],
                improvement=probability_of_improvement(
                    [table.cells[each][name].values for table in tables.values()],
                    [table.cells[shared[0]][name].values for table in tables.values()],
                    better,
                ),
                posterior=signed_rank(differences, least, better),
            )
        )
    return Summary(tuple(tables), name, first.k, least, shared[0], ranks[0], tuple(rows))
