"""All numbers of one run, and what each of them owes to which test rows there happen to be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from criterium.data.hierarchy import Hierarchy, levels
from criterium.evaluation.accuracy import top1_error, topk_error, wrong
from criterium.evaluation.calibration import (
    bin_gap,
    calibration_error,
    confidences,
    fit_temperature,
    in_bins,
    nll,
    row_brier,
    row_nll,
)
from criterium.evaluation.detection import auroc, fpr_at_tpr
from criterium.evaluation.hierarchy import (
    level_errors,
    mistake_distance,
    predicted_class,
    tree_distance,
    tree_metrics,
)
from criterium.evaluation.imbalance import class_mean_error, shot_groups
from criterium.evaluation.predictions import Predictions
from criterium.evaluation.ranked import Ranked
from criterium.evaluation.selective import risk_coverage_area

DRAWS = 200
"""Bootstrap samples of the test rows: the standard error is then known to about 5 %."""


def measure(
    predictions: Predictions,
    *,
    k: int,
    hierarchy: Hierarchy | None = None,
    class_counts: Sequence[int] | None = None,
    temperature: float | None = None,
) -> dict[str, float]:
    """Return every number of `METRICS`, those of the tree if there is one, and `temperature`, for one run.

    The temperature is fitted on the validation rows alone and every error measured on the test rows alone.

    Args:
        predictions: with at least one validation and one test row; `auroc`, `fpr95` and `aupr` are NaN where
            there are no OOD inputs, and those of `NEAR_AND_FAR` are there where both kinds are.
        k: for `topk_error`; below the number of classes.
        hierarchy: the tree that the classes hang in; see `criterium.data.hierarchy`.
        class_counts: training rows a class; without them the errors of many, medium and few-shot classes
            are NaN, as they are where there is no such class.
        temperature: that of the validation rows, where it is known already.

    """
    validation, test = (predictions.where(split) for split in ("validation", "test"))
    for name, rows in (("validation", validation), ("test", test)):
        if len(rows) == 0 and (name == "test" or temperature is None):
            raise ValueError(f"predictions: got no {name} rows, expected at least one")
    if temperature is None:
        temperature = fit_temperature(validation.logits, validation.target)
    confidence, right = confidences(test.logits, test.target, temperature)
    missed = wrong(test.logits, test.target)
    groups = shot_groups(class_counts) if class_counts is not None else shot_groups(())
    return {
        "top1_error": top1_error(test.logits, test.target),
        "topk_error": topk_error(test.logits, test.target, k),
        "class_mean_error": class_mean_error(missed, test.target),
        **{name: class_mean_error(missed, test.target, classes=classes) for name, classes in groups.items()},
        **_of_tree(test, hierarchy),
        "nll": nll(test.logits, test.target, temperature),
        "nll_uncalibrated": nll(test.logits, test.target),
        "brier": float(row_brier(test.logits, test.target, temperature).mean()),
        "calibration_error": bin_gap(in_bins(confidence, right)),
        "calibration_error_uncalibrated": calibration_error(test.logits, test.target),
        "risk_coverage_area": risk_coverage_area(confidence, right),
        **_of_ood(predictions),
        "temperature": temperature,
    }


@dataclass(frozen=True, eq=False)
class RowSample:
    """What a metric owes to the rows it was measured on: a number a row, or the metric on rows drawn anew.

    Of runs that share their rows, samples are paired: they can be averaged and subtracted.
    """

    values: np.ndarray
    drawn: bool
    rows: int

    def less(self, other: RowSample) -> RowSample:
        """Return the sample of the difference."""
        return RowSample(self.values - other.values, self.drawn, self.rows)

    @property
    def variance(self) -> float:
        """The variance of the metric as test rows are drawn anew."""
        spread = float(np.nanvar(self.values, ddof=1)) if len(self.values) > 1 else float("nan")
        return spread if self.drawn else spread / len(self.values)


def mean_sample(samples: Sequence[RowSample]) -> RowSample:
    """Return the sample of the mean over repeats."""
    total = samples[0].values.astype(np.float64)
    for sample in samples[1:]:
        total = total + sample.values
    return RowSample(total / len(samples), samples[0].drawn, samples[0].rows)


def row_sample(
    predictions: Predictions,
    metric: str,
    *,
    k: int,
    temperature: float = 1.0,
    hierarchy: Hierarchy | None = None,
    class_counts: Sequence[int] | None = None,
    groups: np.ndarray | None = None,
) -> RowSample:
    """Return what a metric owes to the test rows: the same draws for every run on the same rows.

    Args:
        predictions: the test rows, and OOD inputs for the metrics that need them.
        metric: its name; k comes from `k`.
        k: of ``topk_error``.
        temperature: that was fitted on validation rows.
        hierarchy: the tree of the classes, for its metrics.
        class_counts: training rows a class, for the errors of many, medium and few-shot classes.
        groups: (N,) which test rows belong together, as those of one patient; they are drawn together.

    """
    test = predictions.where("test")
    each = _each(test, metric, k, temperature, hierarchy)
    if each is not None:
        if groups is None:
            return RowSample(each, drawn=False, rows=len(test))
        _, member = np.unique(groups, return_inverse=True)
        sums = np.bincount(member, weights=each - each.mean())
        # Their mean is that of the rows, and their variance that of sums over groups.
        return RowSample(each.mean() + sums * len(sums) / len(test), drawn=False, rows=len(sums))
    number, others = _weighted(predictions, test, metric, temperature, hierarchy, class_counts)
    generator = np.random.default_rng(zlib.crc32(metric.encode()))
    units = len(test) if groups is None else len(np.unique(groups))
    member = np.arange(len(test)) if groups is None else np.unique(groups, return_inverse=True)[1]
    values = np.empty(DRAWS)
    for draw in range(DRAWS):
        weights = [_often(generator, units)[member]] + ([_often(generator, others)] if others else [])
        values[draw] = number(np.concatenate(weights))
    return RowSample(values, drawn=True, rows=units)


def _often(generator: np.random.Generator, rows: int) -> np.ndarray:
    """Return how often each of `rows` rows comes up in as many draws with replacement."""
    return np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)


def _each(
    test: Predictions, metric: str, k: int, temperature: float, hierarchy: Hierarchy | None
) -> np.ndarray | None:
    """Return (N,) the numbers whose mean a metric is; None where it is no mean of rows."""
    if metric in ("top1_error", "topk_error"):
        return wrong(test.logits, test.target, 1 if metric == "top1_error" else k).astype(np.float64)
    if metric in ("nll", "nll_uncalibrated"):
        return row_nll(test.logits, test.target, temperature if metric == "nll" else 1.0)
    if metric == "brier":
        return row_brier(test.logits, test.target, temperature)
    if hierarchy is not None and metric in tree_metrics(hierarchy)[:-1]:
        group = np.array(levels(hierarchy)[tree_metrics(hierarchy).index(metric)])
        predicted = predicted_class(test.logits, test.target)
        missed: np.ndarray = group[predicted] != group[test.target]
        return missed.astype(np.float64)
    return None


def _weighted(
    predictions: Predictions,
    test: Predictions,
    metric: str,
    temperature: float,
    hierarchy: Hierarchy | None,
    class_counts: Sequence[int] | None,
) -> tuple[Callable[[np.ndarray], float], int]:
    """Return a metric as a function of how often rows count, and how many OOD inputs it takes."""
    if metric in ("calibration_error", "calibration_error_uncalibrated", "risk_coverage_area"):
        at = 1.0 if metric == "calibration_error_uncalibrated" else temperature
        confidence, right = confidences(test.logits, test.target, at)
        if metric == "risk_coverage_area":
            return lambda weights: risk_coverage_area(confidence, right, weights), 0
        return lambda weights: bin_gap(in_bins(confidence, right, weights=weights)), 0
    where, _, name = metric.rpartition("_")
    if name in ("auroc", "fpr95", "aupr"):
        ood = predictions.ood_scores(where or None)
        return getattr(Ranked(test.score, ood), name), len(ood)
    if metric == "mistake_distance" and hierarchy is not None:
        missed = predicted_class(test.logits, test.target)
        far = np.array(
            [tree_distance(hierarchy[a], hierarchy[b]) for a, b in zip(missed, test.target, strict=True)]
        )
        return lambda weights: float(weights @ far / max(weights @ (far > 0), 1)), 0
    missed = wrong(test.logits, test.target)
    classes = None if metric == "class_mean_error" else shot_groups(class_counts or ())[metric]
    return lambda weights: class_mean_error(missed, test.target, weights, classes), 0


def _of_tree(test: Predictions, hierarchy: Hierarchy | None) -> dict[str, float]:
    if hierarchy is None:
        return {}
    errors = level_errors(test.logits, test.target, hierarchy)
    distance = mistake_distance(test.logits, test.target, hierarchy)
    return dict(zip(tree_metrics(hierarchy), (*errors, distance), strict=True))


def _of_ood(predictions: Predictions) -> dict[str, float]:
    """Return how well OOD inputs are told: all of them, and near and far ones where both are."""
    known = predictions.where("test").score
    numbers = {}
    for where in (None, "near", "far"):
        prefix = f"{where}_" if where else ""
        other = predictions.ood_scores(where)
        if len(other):
            numbers[f"{prefix}auroc"] = auroc(known, other)
            numbers[f"{prefix}fpr95"] = fpr_at_tpr(known, other)
            numbers[f"{prefix}aupr"] = Ranked(known, other).aupr(np.ones(len(known) + len(other)))
        elif where is None:
            numbers |= dict.fromkeys(("auroc", "fpr95", "aupr"), float("nan"))
    return numbers
