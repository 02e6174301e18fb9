"""What the table says, in plain English."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from criterium.evaluation.metrics import metric as meaning
from criterium.statistics import verdict_words
from criterium.statistics.findings import Findings
from criterium.statistics.formats import number, p_value, scale, title
from criterium.statistics.paired import LEVEL, Difference


def sentences(table: Findings) -> tuple[str, ...]:
    """Return the summary of the whole table, then one sentence an objective other than the baseline."""
    if table.judgement is not None:
        return verdict_words.sentences(table, table.judgement)
    return (_summary(table), *(_objective(table, name) for name in table.objectives[1:]))


def _summary(table: Findings) -> str:
    base = table.baseline
    if not table.differences:
        return f"Only {base} ran, so there is nothing to compare it with."
    if len(table.seeds) == 1:
        return (
            f"One seed cannot tell a better objective from a lucky one: nothing here shows that any"
            f" differs from {base}. Run at least three seeds, better five."
        )
    tested = [of for row in table.differences.values() for of in row.values() if of.verdict != "untested"]
    if not tested:
        return f"No objective shares two seeds with {base}, so no difference could be tested."
    comparisons = f"{len(tested)} comparison{'s' * (len(tested) > 1)}"
    how = f"{_seeds(tested)}, {comparisons}, 5 % level after Holm's correction"
    shown = [name for name in table.differences if _metrics(table, name, "better", "worse")]
    if not shown:
        return (
            f"No objective is shown to differ from {base} on any metric ({how}). That is no proof that they"
            f" do as well as each other: the intervals say how large a difference may still be."
        )
    said = [f"{name} is {_verdicts(table, name)}" for name in shown]
    rest = [name for name in table.differences if name not in shown]
    if rest:
        said.append(f"{_list(rest)} {'is' if len(rest) == 1 else 'are'} not shown to differ on any metric")
    return f"Compared with {base}: {'; '.join(said)} ({how})."


def _objective(table: Findings, name: str) -> str:
    pairs = len(_first(table, name)[1].values)
    if pairs < 2:
        said = _untested(table, name)
    elif _metrics(table, name, "better", "worse"):
        said = _shown(table, name)
    else:
        said = _not_shown(table, name)
    said += _hint(table, name)
    if not math.isnan(cost := table.cost.get(name, math.nan)):
        said += f"; a training step takes {cost:.2f} times as long"
    return f"{name} ({pairs} seed{'s' * (pairs != 1)}): {said}."


def _shown(table: Findings, name: str) -> str:
    parts = []
    for verdict in ("better", "worse"):
        found = [_evidence(table, name, metric) for metric in _metrics(table, name, verdict)]
        parts += [f"{verdict} than {table.baseline} on {_list(found)}"] if found else []
    if rest := _metrics(table, name, "not shown"):
        parts.append(f"not shown to differ on {_titles(table, rest)}")
    return "; ".join(parts)


def _not_shown(table: Findings, name: str) -> str:
    row = table.differences[name]
    least = min(row, key=lambda metric: row[metric].p_corrected)
    first, of = _first(table, name)
    low, high = (number(table, first, bound, signed=True) for bound in (of.low, of.high))
    smallest = f"{p_value(row[least].p_corrected)}, on {title(least, table.k)}"
    return (
        f"not shown to differ from {table.baseline} on any metric (smallest corrected {smallest}); the"
        f" uncorrected 95 % interval of its difference in {title(first, table.k)} runs from {low} to"
        f" {high}{_unit(first, difference=True)}"
    )


def _hint(table: Findings, name: str) -> str:
    """Return what only the correction for many comparisons keeps from being shown."""
    found: dict[str, list[str]] = {"better": [], "worse": []}
    for metric, of in table.differences[name].items():
        if of.verdict == "not shown" and of.p < LEVEL:
            improves = (of.mean < 0) == (meaning(metric).better == "lower")
            found["better" if improves else "worse"].append(metric)
    said = [f"{verdict} on {_titles(table, metrics)}" for verdict, metrics in found.items() if metrics]
    return f"; before correction it looks {' but '.join(said)}, which more seeds can tell" if said else ""


def _untested(table: Findings, name: str) -> str:
    first, of = _first(table, name)
    if not of.values:
        return f"shares no seed with {table.baseline}, so nothing can be said about a difference"
    values = (number(table, first, table.cells[who][first].mean) for who in (name, table.baseline))
    return f"{title(first, table.k)} {' against '.join(values)}{_unit(first)}, but one seed cannot tell"


def _evidence(table: Findings, name: str, metric: str) -> str:
    """Return a metric with its means and its p, as ``top-1 error (4.2 against 5.4 %, p = 0.012)``."""
    mine, base = (number(table, metric, table.cells[who][metric].mean) for who in (name, table.baseline))
    corrected = p_value(table.differences[name][metric].p_corrected)
    return f"{title(metric, table.k)} ({mine} against {base}{_unit(metric)}, {corrected})"


def _unit(metric: str, *, difference: bool = False) -> str:
    if scale(metric) == 100:
        return " points" if difference else " %"
    return f" {meaning(metric).unit}"


def _verdicts(table: Findings, name: str) -> str:
    found = {verdict: _metrics(table, name, verdict) for verdict in ("better", "worse")}
    return " but ".join(
        f"{verdict} on {_titles(table, metrics)}" for verdict, metrics in found.items() if metrics
    )


def _first(table: Findings, name: str) -> tuple[str, Difference]:
    """Return the metric that was asked for first, and the difference in it."""
    return next(iter(table.differences[name].items()))


def _metrics(table: Findings, name: str, *verdicts: str) -> list[str]:
    return [metric for metric, of in table.differences[name].items() if of.verdict in verdicts]


def _seeds(tested: Sequence[Difference]) -> str:
    counts = sorted({len(of.values) for of in tested})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _titles(table: Findings, metrics: Iterable[str]) -> str:
    return _list(title(metric, table.k) for metric in metrics)


def _list(words: Iterable[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
