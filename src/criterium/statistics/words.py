"""What verdicts say in plain English, and no more than they say."""

from __future__ import annotations

import math
from collections.abc import Iterable

from criterium.evaluation.metrics import metric as meaning
from criterium.statistics.findings import Findings, Judgement
from criterium.statistics.formats import margin, p_value, scale, title
from criterium.statistics.verdicts import Answer, Assessment


def sentences(table: Findings) -> tuple[str, ...]:
    """Return the summary of all verdicts, then a few sentences on each objective other than the baseline."""
    judgement = table.judgement
    each = (_objective(table, judgement, name, of) for name, of in judgement.assessments.items())
    control = [f"Note that {flag.words}." for flag in judgement.flags.get(table.baseline, ())]
    of_control = [" ".join([f"{table.baseline}, the control.", *control])] if control else []
    return (_summary(table, judgement), *of_control, *each)


def _summary(table: Findings, judgement: Judgement) -> str:
    found = judgement.assessments
    base = table.baseline
    if not found:
        return f"Only {base} ran, so there is nothing to compare it with."
    within = margin(judgement.metric, judgement.margin)
    endings: dict[Answer, str] = {
        "better": "better",
        "as good": f"as good within {within}",
        "worse": "worse",
    }
    said = []
    for answer, ending in endings.items():
        names = [name for name, of in found.items() if of.answer == answer]
        if names:
            said.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {ending}")
    if open_ := [name for name, of in found.items() if of.answer == "cannot tell"]:
        said.append(f"of {listed(open_)} {_these(table)} cannot tell")
    compared = f"Compared with {base} on {title(judgement.metric, table.k)}: {'; '.join(said)}"
    return f"{compared}{_reach(table, judgement)}."


def _these(table: Findings) -> str:
    return "one repeat" if len(table.seeds) == 1 else f"these {len(table.seeds)} repeats"


def _reach(table: Findings, judgement: Judgement) -> str:
    """Return what the verdicts hold for."""
    if len(table.seeds) == 1:
        test = judgement.design
        if all(math.isnan(of.spread.error) for of in judgement.assessments.values()):
            return " (one repeat: nothing could be tested)"
        return (
            f" (one repeat, {test.test:,} test {test.units}): this is about these models, not the methods,"
            " which other weights and data may rank otherwise"
        )
    if judgement.design.own_test:
        return f" ({len(table.seeds)} repeats, each with a split of its own)"
    return f" ({len(table.seeds)} repeats on the same test {judgement.design.units}), for these training rows"


def _objective(table: Findings, judgement: Judgement, name: str, of: Assessment) -> str:
    said = [f"{name}: {_answer(table, judgement, of)}.", _evidence(table, judgement, name, of)]
    said += _more(table, judgement, of)
    said += [f"Note that {flag.words}." for flag in judgement.flags.get(name, ())]
    if not math.isnan(cost := table.cost.get(name, math.nan)):
        said.append(f"A training step takes {cost:.2f} times as long.")
    return " ".join(said)


def _answer(table: Findings, judgement: Judgement, of: Assessment) -> str:
    within = margin(judgement.metric, judgement.margin)
    if of.answer == "as good":
        if not of.significant:
            return f"as good as {table.baseline} within {within}"
        side = "better" if (of.spread.mean < 0) == (meaning(judgement.metric).better == "lower") else "worse"
        return f"{side} than {table.baseline}, but by less than {within}"
    if of.answer == "cannot tell":
        return "cannot tell yet"
    return f"{of.answer} than {table.baseline}"


def _evidence(table: Findings, judgement: Judgement, name: str, of: Assessment) -> str:
    metric = judgement.metric
    digits = _decimals(metric, (of.high - of.low) / 2)
    mine, base = (_number(metric, table.cells[who][metric].mean, digits) for who in (name, table.baseline))
    unit = f" {meaning(metric).unit}".rstrip()
    points = " points" if unit == " %" else unit
    title_ = title(metric, table.k)
    head = f"{title_[0].upper()}{title_[1:]} {mine} against {base}{unit}"
    difference = _number(metric, of.spread.mean, digits, signed=True)
    if math.isnan(of.spread.error):
        return f"{head}, a difference of {difference}{points} that could not be tested."
    low, high = (_number(metric, bound, digits, signed=True) for bound in (of.low, of.high))
    p = p_value(of.p)
    return f"{head}, a difference of {difference}{points} (95 % interval {low} to {high}, {p})."


def _more(table: Findings, judgement: Judgement, of: Assessment) -> list[str]:
    """Return what a smaller margin would have given, and what more repeats would."""
    metric = judgement.metric
    if math.isnan(of.spread.error):
        return ["Two repeats are the least that tell anything of a method, and ten are better."]
    least = f"The smallest margin that would have given “as good” is {margin(metric, of.smallest_margin)}."
    if of.answer != "cannot tell":
        return [least]
    return [_needed(table, judgement, of), least]


def _needed(table: Findings, judgement: Judgement, of: Assessment) -> str:
    metric, repeats = judgement.metric, len(table.seeds)
    wanted = f"a difference of {margin(metric, judgement.margin)}, or that there is none,"
    if repeats == 1:
        return f"Other test {judgement.design.units} may tell these models apart; the methods take repeats."
    if of.beyond > judgement.margin:
        design = judgement.design
        rows = design.test + design.other if design.own_test else design.test
        these = f"of these {rows:,} {'' if design.own_test else 'test '}{design.units}"
        least = margin(metric, of.beyond)
        return f"More repeats {these} will not tell; differences under {least} are beyond them."
    if of.repeats_needed is None:
        return f"More than 200 repeats would be needed to tell {wanted} in four of five studies."
    if of.repeats_needed <= repeats:
        near = "the true difference may lie near the margin"
        return f"So many repeats tell {wanted} in four of five studies; {near}."
    more = of.repeats_needed - repeats
    return f"About {more} more repeat{'s' * (more > 1)} would tell {wanted} in four of five studies."


def _decimals(metric: str, half_width: float) -> int:
    """Return how many decimals show two digits of an interval, at most two of a percentage."""
    most = 2 if scale(metric) == 100 else 4
    width = half_width * scale(metric)
    return min(most, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else most


def _number(metric: str, value: float, digits: int, *, signed: bool = False) -> str:
    shown = round(value * scale(metric), digits) + 0.0
    return f"{shown:{'+' if signed and shown else ''}.{digits}f}".replace("-", "−")


def listed(words: Iterable[str]) -> str:
    """Return words with commas, and "and" before the last.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
