"""From the numbers of runs to a table with verdicts on one metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from criterium._checks import at_least, choice
from criterium.evaluation.measures import RowSample
from criterium.evaluation.metrics import metric as meaning
from criterium.statistics.answers import difference_p, interval
from criterium.statistics.design import Design
from criterium.statistics.findings import Differences, Judgement
from criterium.statistics.flags import Flags
from criterium.statistics.paired import Difference, Estimate, Verdict
from criterium.statistics.spread import Spread
from criterium.statistics.table import Table
from criterium.statistics.verdicts import assess

Sample = Callable[[str, str], RowSample]
"""Of an objective and a metric: what its mean over repeats owes to the test rows."""


def judge(
    results: Sequence[Mapping[str, object]],
    *,
    metric: str,
    metrics: Sequence[str],
    baseline: str,
    k: int,
    margin: float,
    design: Design,
    sample: Sample | None = None,
    flags: Mapping[str, Flags] | None = None,
    cost: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    why: str = "",
    looks: Sequence[tuple[int, float]] = (),
) -> Table:
    """Compare every objective with the baseline, repeat by repeat, and give a verdict on one metric.

    Args:
        results: one mapping a run, with ``objective``, ``seed`` (the number of its repeat) and a number for
            each of `metrics`; every objective in every repeat. A metric that no run has gets no column.
        metric: the one that decides, among `metrics`.
        metrics: the columns of the table; those besides `metric` are secondary and not tested.
        baseline: the objective that the others are compared with.
        k: what the k in ``topk_error`` was.
        margin: the least difference of `metric` that matters.
        design: what the repeats share.
        sample: needed where all repeats share their test rows, and for one repeat.
        flags: by objective, what speaks against a fair chance.
        cost: time of a training step relative to the baseline's, by objective.
        notes: what the reader must know, shown below the table.
        why: why this metric decides, where nobody asked for it.
        looks: where repeats were added as needed, the number of repeats at each look and its share of the
            level; the last is all of them.

    Returns:
        A `Table` with `verdicts`: intervals and tests from the standard error that the design calls for.

    Raises:
        ValueError: for results that do not fit, in one line.
    """
    at_least("k", k, 1)
    asked = [meaning(name).name for name in dict.fromkeys((metric, *metrics))]
    if k == 1:
        asked = [name for name in asked if name != "topk_error"]  # the same number as the top-1 error
    values = _by_metric(results, asked)
    choice("metric", metric, values)
    names = dict.fromkeys(str(run["objective"]) for run in results)
    objectives = (choice("baseline", baseline, names), *(name for name in names if name != baseline))
    table = {
        name: {of: [value for (who, _), value in runs.items() if who == name] for of, runs in values.items()}
        for name in objectives
    }
    repeats = sorted({repeat for _, repeat in values[metric]})
    for name in objectives:
        if len(table[name][metric]) != len(repeats):
            got = len(table[name][metric])
            raise ValueError(f"results: got {got} repeats of {name}, expected {len(repeats)}, all there are")

    def alone(name: str, of: str) -> Spread:
        return design.spread(table[name][of], sample(name, of) if sample else None)

    def paired(name: str, of: str) -> list[float]:
        return [mine - base for mine, base in zip(table[name][of], table[baseline][of], strict=True)]

    def apart(name: str, of: str, count: int) -> Spread:
        rows = sample(name, of).less(sample(baseline, of)) if sample else None
        return design.spread(paired(name, of)[:count], rows)

    counts = [count for count, _ in looks] or [len(repeats)]
    spreads = [{name: apart(name, metric, count) for name in objectives[1:]} for count in counts]
    assessments = assess(
        spreads[-1],
        better=meaning(metric).better,
        margin=margin,
        earlier=spreads[:-1],
        shares=[share for _, share in looks] or [1.0],
    )
    differences: Differences = {name: {} for name in objectives[1:]}
    for name, row in differences.items():
        tested = assessments[name]
        row[metric] = _difference(
            paired(name, metric), tested.spread, difference_p(tested.spread), tested.p, tested.answer
        )
        for of in values:
            if of != metric and meaning(of).compared:
                row[of] = _difference(paired(name, of), apart(name, of, len(repeats)))
    return Table(
        objectives=objectives,
        metrics=tuple(values),
        baseline=baseline,
        k=k,
        seeds=tuple(repeats),
        cells={
            name: {of: _estimate(table[name][of], alone(name, of)) for of in values} for name in objectives
        },
        differences=differences,
        cost={name: float(cost[name]) for name in objectives if name in cost} if cost else {},
        notes=(*filter(None, [why]), *notes),
        judgement=Judgement(metric, margin, design, assessments, dict(flags or {})),
    )


def _estimate(values: Sequence[float], of: Spread) -> Estimate:
    return Estimate(tuple(values), of.mean, *interval(of))


def _difference(
    values: Sequence[float],
    of: Spread,
    p: float = math.nan,
    corrected: float = math.nan,
    verdict: Verdict = "secondary",
) -> Difference:
    return Difference(tuple(values), of.mean, *interval(of), p, corrected, verdict)


Values = dict[tuple[str, int], float]


def _by_metric(results: Sequence[Mapping[str, object]], metrics: Sequence[str]) -> dict[str, Values]:
    """Return metric -> (objective, repeat) -> value, without the metrics that no run has."""
    if not results:
        raise ValueError("results: got none, expected at least one run")
    found: dict[str, Values] = {}
    for metric in metrics:
        values: Values = {}
        for run in results:
            key = (str(run["objective"]), _seed(run))
            if key in values:
                raise ValueError(f"results: got {key[0]} in repeat {key[1]} twice, expected each run once")
            values[key] = float(run.get(metric, math.nan))  # type: ignore[arg-type]  # float() says if not
        missing = sum(not math.isfinite(value) for value in values.values())
        if missing == len(values) and all(map(math.isnan, values.values())):
            continue
        if missing:
            raise ValueError(f"results: {metric} is not finite in {missing} of {len(values)} runs")
        # Sums over repeats are then the same to the bit in whichever order the runs came.
        found[metric] = dict(sorted(values.items()))
    if not any(meaning(metric).compared for metric in found):
        got = ", ".join(metrics) or "none"
        raise ValueError(f"metrics: got {got}, expected one to compare that the runs have a number for")
    return found


def _seed(run: Mapping[str, object]) -> int:
    return int(run["seed"])  # type: ignore[call-overload, no-any-return]
