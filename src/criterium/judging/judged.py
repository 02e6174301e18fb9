"""Predictions that other code made, compared as a race compares its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from criterium._checks import at_least, choice, positive
from criterium._files import page_at
from criterium.evaluation.calibration import fit_temperature
from criterium.evaluation.measures import RowSample, mean_sample, measure, row_sample
from criterium.evaluation.metrics import asked_metric, default_metric
from criterium.evaluation.predictions import Predictions
from criterium.judging.inputs import Kind, as_predictions, repeats_of, targets_of
from criterium.report import RunView, write_report
from criterium.statistics import Design, Table, Verdict, judge
from criterium.statistics.flags import identical
from criterium.statistics.formats import scale
from criterium.statistics.margins import default_margin

OF_CLASSES = ("top1_error", "class_mean_error")
"""What predicted classes alone can tell."""

SHOWN = (
    *("top1_error", "topk_error", "class_mean_error"),
    *("nll", "brier", "calibration_error", "risk_coverage_area"),
)
OF_OOD = ("auroc", "fpr95", "aupr")

Runs = Mapping[str, Sequence[Predictions]]
"""By name, the predictions of each repeat."""


@dataclass(frozen=True)
class Judged:
    """What `compare_predictions` found; printed, it is the table with its sentences below."""

    table: Table
    runs: tuple[RunView, ...]
    settings: dict[str, Any]

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdict on each name other than the control."""
        return self.table.verdicts

    @property
    def sentences(self) -> tuple[str, ...]:
        """Plain English: first what the whole table says, then a few sentences on each name."""
        return self.table.sentences

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the HTML page, to ``report.html`` in the working directory unless `path` says otherwise."""
        target = page_at("report.html" if path is None else path)
        title = f"{len(self.table.objectives)} predictions compared"
        write_report(target, title=title, config=self.settings, table=self.table, runs=self.runs)
        return target

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON has it."""
        return self.table.to_dict()

    def __str__(self) -> str:
        """Return the table and its sentences."""
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def compare_predictions(
    predictions: Mapping[str, Any],
    targets: Any,
    *,
    kind: Kind = "logits",
    train_rows: int | None = None,
    metric: str | None = None,
    margin: float | None = None,
    k: int | None = None,
    control: str | None = None,
) -> Judged:
    """Compare what models predicted on the same rows: better, as good, worse, or cannot tell.

    Args:
        predictions: by name, an array or a list with one array for each repeat, another training of the
            same method. Repeats are paired in their order, rows in theirs.
        targets: (N,) class indices of the rows; or a list with one such array for each repeat, where each
            repeat has test rows of its own.
        kind: what the arrays are: ``"logits"`` (N, C), ``"probabilities"`` (N, C) or ``"classes"`` (N,).
            It is never guessed from their values.
        train_rows: how many rows the models of a repeat were trained and chosen on, validation rows
            included; needed where each repeat has test rows of its own, since these overlap other repeats'
            training rows.
        metric: what decides, as ``"top1-error"``, ``"top5-error"`` or ``"nll"``; by default the top-1 error,
            or the class-mean error where the class counts of `targets` differ by more than ten times.
        margin: the least difference that matters: of errors and other percentages in points, of other
            metrics in their unit. By default 1 point of an error.
        k: of the top-k error; by default 3, or fewer where classes are few.
        control: the name that the others are compared with; by default the first.

    Returns:
        A `Judged`, with `verdicts`, `sentences` and `report()`.

    Raises:
        ValueError: in one line, for arrays that do not fit together.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> target = rng.integers(0, 3, 500)
        >>> good, poor = (np.eye(3)[target] * size + rng.normal(size=(500, 3)) for size in (4.0, 1.0))
        >>> compare_predictions({"good": good, "poor": poor}, target, kind="logits").verdicts[0].verdict
        'worse'

    Reference: Nadeau and Bengio 2003 and Schuirmann 1987, by way of `criterium.statistics`.
    """
    arrays = repeats_of(predictions, kind)
    count = len(next(iter(arrays.values())))
    target, each = targets_of(targets, count)
    classes = 2
    if kind == "classes":
        everything = [*target, *(part for parts in arrays.values() for part in parts)]
        classes = max(2, 1 + max(int(part.max()) for part in everything if part.size))
    runs = {
        name: [
            as_predictions(_label(name, repeat, count), part, target[repeat], kind, classes)
            for repeat, part in enumerate(parts)
        ]
        for name, parts in arrays.items()
    }
    own_test = each and count > 1 and _need_train_rows(target, train_rows)
    return judge_runs(
        runs,
        kind=kind,
        own_test=own_test,
        train_rows=train_rows,
        metric=metric,
        margin=margin,
        k=k,
        control=control,
    )


def judge_runs(
    runs: Runs,
    *,
    kind: Kind,
    own_test: bool,
    train_rows: int | None = None,
    metric: str | None = None,
    margin: float | None = None,
    k: int | None = None,
    control: str | None = None,
) -> Judged:
    """Compare runs whose predictions are read and paired; see `compare_predictions`."""
    names = list(runs)
    baseline = names[0] if control is None else choice("control", control, names)
    first = runs[baseline][0].where("test")
    name, asked_k, why = _metric(metric, first)
    classes = first.logits.shape[1]
    k = _checked_k(asked_k or k, classes)
    _same_classes(runs, classes)
    shown = OF_CLASSES if kind == "classes" else (*SHOWN, *OF_OOD)
    if name not in shown:
        raise ValueError(f"metric: got {metric}, expected one of {', '.join(shown)}, as kind is {kind}")
    temperatures = {who: [_temperature(run) for run in parts] for who, parts in runs.items()}
    results = [
        {"objective": who, "seed": repeat, **measure(run, k=k, temperature=temperatures[who][repeat])}
        for who, parts in runs.items()
        for repeat, run in enumerate(parts)
    ]
    repeats = len(runs[baseline])
    tested = [len(run.where("test")) for run in runs[baseline]]
    design = Design(own_test, round(float(np.mean(tested))), train_rows or 0)
    validation = runs[baseline][0].where("validation")
    table = judge(
        results,
        metric=name,
        metrics=shown,
        baseline=baseline,
        k=k,
        margin=_margin(name, margin, validation, k),
        design=design,
        sample=None if own_test and repeats > 1 else _sampler(runs, k, temperatures),
        flags={who: identical(_of(results, who), _of(results, baseline)) for who in names if who != baseline},
        notes=() if kind == "classes" or len(validation) else (_AS_GIVEN,),
        why=why,
    )
    settings = {
        "kind": kind,
        "test rows": tested[0] if len(set(tested)) == 1 else tested,
        "repeats": repeats,
        "test rows of its own in each repeat": own_test,
        "training rows": train_rows,
    }
    views = () if kind == "classes" else tuple(_views(runs, temperatures))
    return Judged(table, views, settings)


_AS_GIVEN = "Probabilities are judged as they are: without validation rows no temperature is fitted."


def _sampler(
    runs: Runs, k: int, temperatures: Mapping[str, Sequence[float]]
) -> Callable[[str, str], RowSample]:
    known: dict[tuple[str, str], RowSample] = {}

    def sample(who: str, metric: str) -> RowSample:
        if (who, metric) not in known:
            known[who, metric] = mean_sample(
                [
                    row_sample(run, metric, k=k, temperature=temperature)
                    for run, temperature in zip(runs[who], temperatures[who], strict=True)
                ]
            )
        return known[who, metric]

    return sample


def _views(runs: Runs, temperatures: Mapping[str, Sequence[float]]) -> list[RunView]:
    return [
        RunView.of(who, repeat, run, None, temperatures[who][repeat])
        for who, parts in runs.items()
        for repeat, run in enumerate(parts)
    ]


def _of(results: Sequence[Mapping[str, Any]], who: str) -> list[dict[str, float]]:
    left_out = ("objective", "seed")
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in results
        if row["objective"] == who
    ]


def _temperature(run: Predictions) -> float:
    validation = run.where("validation")
    return fit_temperature(validation.logits, validation.target) if len(validation) else 1.0


def _metric(metric: str | None, test: Predictions) -> tuple[str, int | None, str]:
    if metric is not None:
        return *asked_metric(metric), ""
    counts = np.bincount(test.target)
    name, why = default_metric(counts.tolist(), "test")
    return name, None, why


def _margin(name: str, margin: float | None, validation: Predictions, k: int) -> float:
    if margin is not None:
        return positive("margin", margin) / scale(name)
    if not len(validation):
        return default_margin(name)
    of_control = row_sample_mean(validation, name, k)
    return default_margin(name, of_control)


def row_sample_mean(validation: Predictions, name: str, k: int) -> float:
    """Return a metric of the control on validation rows, which fixes the margin before test rows are read."""
    test = Predictions(
        validation.logits, validation.target, np.full(len(validation), "test"), validation.score
    )
    return measure(test, k=k, temperature=_temperature(validation)).get(name, float("nan"))


def _checked_k(k: int | None, classes: int) -> int:
    if k is None:
        return min(3, classes - 1)
    if at_least("k", k, 1) >= classes:
        raise ValueError(f"k: got {k}, expected 1 to {classes - 1}, as there are {classes} classes")
    return k


def _same_classes(runs: Runs, classes: int) -> None:
    for who, parts in runs.items():
        for repeat, run in enumerate(parts):
            if run.logits.shape[1] != classes:
                label, got = _label(who, repeat, len(parts)), run.logits.shape[1]
                raise ValueError(f"{label}: got {got} classes, expected {classes}, as the control has")


def _label(name: str, repeat: int, repeats: int) -> str:
    return f"predictions of {name}" + (f" in repeat {repeat}" if repeats > 1 else "")


def _need_train_rows(targets: Sequence[np.ndarray], train_rows: int | None) -> bool:
    """Say whether each repeat has test rows of its own; that without `train_rows` nothing can be said."""
    if train_rows is not None:
        at_least("train_rows", train_rows, 1)
        return True
    if all(np.array_equal(target, targets[0]) for target in targets):
        return False
    raise ValueError(
        "train_rows: got none, expected how many rows each model was trained and chosen on, since each repeat"
        " has targets of its own"
    )
