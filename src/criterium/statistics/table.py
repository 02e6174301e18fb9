"""The comparison of objectives as one table of plain values, made from the results of runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from criterium._checks import at_least, choice
from criterium.evaluation.metrics import metric as meaning
from criterium.statistics import render, words
from criterium.statistics.findings import Differences, Findings
from criterium.statistics.paired import LEVEL, Difference, estimate, holm, paired_p
from criterium.statistics.paired import Verdict as Answer
from criterium.statistics.verdicts import Verdict


@dataclass(frozen=True)
class Table(Findings):
    """What `summarise` found; printed, it is a text table with its sentences below."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """Plain English: first what the whole table says, then one sentence an objective."""
        return words.sentences(self)

    @property
    def verdicts(self) -> list[Verdict]:
        """What was concluded of each objective other than the baseline; none where nothing was judged."""
        judgement = self.judgement
        if judgement is None:
            return []
        return [
            Verdict(
                objective=name,
                metric=judgement.metric,
                verdict=of.answer,
                difference=of.spread.mean,
                low=of.low,
                high=of.high,
                p=of.p,
                repeats_needed=of.repeats_needed,
                flags=tuple(flag.name for flag in judgement.flags.get(name, ())),
            )
            for name, of in judgement.assessments.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON has it: NaN is None."""
        verdicts = [dataclasses.asdict(verdict) for verdict in self.verdicts]
        found: dict[str, Any] = _json(
            {**dataclasses.asdict(self), "verdicts": verdicts, "sentences": self.sentences}
        )
        return found

    def to_text(self, width: int | None = None) -> str:
        """Return the table, the differences and the sentences in plain text, at most `width` wide."""
        return render.text(self, width)

    def to_markdown(self) -> str:
        """Return the table, the differences and the sentences in Markdown."""
        return render.markdown(self)

    def __str__(self) -> str:
        """Return `to_text` in full width."""
        return self.to_text()

    def _repr_html_(self) -> str:
        return render.html(self)


def summarise(
    results: Sequence[Mapping[str, object]],
    *,
    metrics: Sequence[str],
    baseline: str,
    k: int,
    cost: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Compare every objective with the baseline, seed by seed.

    Args:
        results: one mapping a run, with ``objective``, ``seed`` and a number for each of `metrics`. A metric
            that is NaN in every run, as ``auroc`` is without inputs from elsewhere, gets no column.
        metrics: names that `criterium.evaluation.metrics.metric` knows; one that is marked there as
            background is shown and not compared. For k = 1 ``topk_error`` is left out beside ``top1_error``.
        baseline: the objective that the others are compared with.
        k: what the k in ``topk_error`` was.
        cost: time of a training step relative to the baseline's, by objective.
        notes: what the reader must know, shown below the table.

    Returns:
        A `Table`: means with 95 % t-intervals over seeds; differences over the seeds that an objective
        shares with the baseline, with p-values of the paired t-test, corrected together by Holm's method.

    Raises:
        ValueError: for no results, a run given twice, a baseline that did not run, or a number that is
            missing or not finite.

    >>> runs = [{"objective": name, "seed": seed, "top1_error": error + seed / 100}
    ...         for name, error in (("cross-entropy", 0.1), ("exact", 0.08)) for seed in range(3)]
    >>> table = summarise(runs, metrics=["top1_error"], baseline="cross-entropy", k=3)
    >>> round(table.differences["exact"]["top1_error"].mean, 9), table.differences["exact"]["top1_error"].p
    (-0.02, 0.25)
    """
    at_least("k", k, 1)
    asked = [meaning(name).name for name in metrics]
    if k == 1 and "top1_error" in asked:
        # The same number twice would be two comparisons where there is one.
        asked = [name for name in asked if name != "topk_error"]
    values = by_metric(results, asked)
    # In the order they first ran, the baseline on top.
    names = dict.fromkeys(str(run["objective"]) for run in results)
    objectives = (choice("baseline", baseline, names), *(name for name in names if name != baseline))
    kept = tuple(values)
    cells = {
        name: {metric: estimate(list(_seeds(values[metric], name).values())) for metric in kept}
        for name in objectives
    }
    return Table(
        objectives=objectives,
        metrics=kept,
        baseline=baseline,
        k=k,
        seeds=tuple(sorted({_seed(run) for run in results})),
        cells=cells,
        differences=_differences(values, baseline, objectives[1:]),
        cost={name: float(cost[name]) for name in objectives if name in cost} if cost else {},
        notes=tuple(notes),
    )


Values = dict[tuple[str, int], float]


def by_metric(results: Sequence[Mapping[str, object]], metrics: Sequence[str]) -> dict[str, Values]:
    """Return metric -> (objective, seed) -> value, without the metrics that no run has."""
    if not results:
        raise ValueError("results: got none, expected at least one run")
    found: dict[str, Values] = {}
    for metric in metrics:
        values: Values = {}
        for run in results:
            key = (str(run["objective"]), _seed(run))
            if key in values:
                raise ValueError(f"results: got {key[0]} with seed {key[1]} twice, expected each run once")
            values[key] = float(run.get(metric, math.nan))  # type: ignore[arg-type]  # float() says if not
        missing = sum(not math.isfinite(value) for value in values.values())
        if missing == len(values) and all(map(math.isnan, values.values())):
            continue
        if missing:
            raise ValueError(f"results: {metric} is not finite in {missing} of {len(values)} runs")
        # Sums over seeds are then the same to the bit in whichever order the runs came.
        found[metric] = dict(sorted(values.items()))
    if not any(meaning(metric).compared for metric in found):
        got = ", ".join(metrics) or "none"
        raise ValueError(f"metrics: got {got}, expected one to compare that the runs have a number for")
    return found


def _seed(run: Mapping[str, object]) -> int:
    return int(run["seed"])  # type: ignore[call-overload, no-any-return]


def _seeds(values: Values, objective: str) -> dict[int, float]:
    return {seed: value for (name, seed), value in values.items() if name == objective}


def _differences(values: dict[str, Values], baseline: str, objectives: Sequence[str]) -> Differences:
    """Return objective -> metric -> paired difference, corrected over all of them together."""
    paired: dict[tuple[str, str], list[float]] = {}
    for objective in objectives:
        for metric, by_run in values.items():
            if not meaning(metric).compared:
                continue
            base = _seeds(by_run, baseline)
            mine = _seeds(by_run, objective)
            paired[objective, metric] = [mine[seed] - base[seed] for seed in mine if seed in base]
    p = [paired_p(differences) for differences in paired.values()]
    found: Differences = {objective: {} for objective in objectives}
    for (key, differences), raw, corrected in zip(paired.items(), p, holm(p), strict=True):
        objective, metric = key
        of = estimate(differences)
        verdict = _verdict(of.mean, corrected, meaning(metric).better)
        found[objective][metric] = Difference(of.values, of.mean, of.low, of.high, raw, corrected, verdict)
    return found


def _verdict(mean: float, p: float, better: str) -> Answer:
    if math.isnan(p):
        return "untested"
    if p > LEVEL:
        return "not shown"
    return "better" if (mean < 0) == (better == "lower") else "worse"


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
