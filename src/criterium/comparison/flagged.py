"""Flags of a race: what its runs recorded, put to the tests of `criterium.statistics.flags`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from criterium.comparison.plan import Plan
from criterium.evaluation.metrics import metric as meaning
from criterium.statistics import flags
from criterium.statistics.flags import Flags

Results = Sequence[Mapping[str, Any]]


def flags_of(plan: Plan, results: Results, margin: float) -> dict[str, Flags]:
    """Return the flags of every objective.

    Args:
        plan: what was done.
        results: what the runs found, with ``metrics``, whether they ``collapsed``, and what ``commonest``
            class alone would have given.
        margin: the least difference of the metric that matters.
    """
    by_label = {label: [row for row in results if row["objective"] == label] for label in plan.objectives}
    control = by_label[plan.baseline]
    return {
        label: (
            *_of_one(plan, rows, margin),
            *(
                ()
                if label == plan.baseline
                else (
                    *flags.identical([row["metrics"] for row in rows], [row["metrics"] for row in control]),
                    *flags.unstable(_values(plan, rows), _values(plan, control), margin),
                )
            ),
        )
        for label, rows in by_label.items()
    }


def _of_one(plan: Plan, rows: Results, margin: float) -> Flags:
    better = meaning(plan.metric).better
    trained = [row["history"] for row in rows if "history" in row]
    return (
        *flags.failed_repeats(["diverged" in row for row in rows], [bool(row["collapsed"]) for row in rows]),
        *flags.no_better_than_commonest(_values(plan, rows), [row["commonest"] for row in rows], better),
        *flags.constant_loss([history["train_loss"] for history in trained]),
        *flags.unfit_head(
            all(row.get("prototypes", False) for row in rows), all(row.get("raw", False) for row in rows)
        ),
        *flags.not_converged([history["validation_error"] for history in trained], margin),
        *(_at_the_edge(rows) if plan.tune > 1 else ()),
    )


def _values(plan: Plan, rows: Results) -> list[float]:
    return [row["metrics"][plan.metric] for row in rows]


def _at_the_edge(rows: Results) -> Flags:
    """Flag ranges whose end won; a learning rate counts beside those that were drawn from the same range."""
    chosen = [row.get("searched", {}) for row in rows]
    ranges = {}
    for option in {option: None for one in chosen for option in one}:
        ends = Counter((one[option]["low"], one[option]["high"]) for one in chosen if option in one)
        ranges[option] = ends.most_common(1)[0][0]
    values = [
        {name: found["value"] for name, found in one.items() if (found["low"], found["high"]) == ranges[name]}
        for one in chosen
    ]
    return flags.edge_of_range(values, ranges)
