"""The names of all that is measured, and the one function that measures it without looking ahead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from criterium._checks import choice

if TYPE_CHECKING:
    from criterium.data.hierarchy import Hierarchy
    from criterium.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Metric:
    """What a number means; where `unit` is ``"%"`` the number is a fraction, to be shown times 100.

    Where `compared` is False the number is shown as background and no difference is tested: at temperature 1
    an objective that trains at another scale of the logits looks bad, which says nothing about it.
    """

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    description: str
    compared: bool = True


_GUO = "Guo et al., ICML 2017"
_HENDRYCKS = "Hendrycks and Gimpel, ICLR 2017"
_LIANG = "Liang, Li and Srikant, ICLR 2018"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top1_error", "top-1 error", "%", "lower", "test rows whose largest logit is another class's"),
        Metric(
            "topk_error", "top-k error", "%", "lower", "test rows whose k largest logits miss the true class"
        ),
        Metric("nll", "NLL", "nats", "lower", f"negative log-likelihood at the fitted temperature ({_GUO})"),
        Metric(
            "nll_uncalibrated",
            "NLL before scaling",
            "nats",
            "lower",
            "negative log-likelihood of the logits as they are",
            compared=False,
        ),
        Metric(
            "calibration_error",
            "calibration error",
            "%",
            "lower",
            f"mean gap between confidence and accuracy, 15 bins, at the fitted temperature ({_GUO}, eq. 3)",
        ),
        Metric(
            "calibration_error_uncalibrated",
            "calibration error before scaling",
            "%",
            "lower",
            "mean gap between confidence and accuracy, 15 bins, of the logits as they are",
            compared=False,
        ),
        Metric(
            "auroc",
            "AUROC",
            "%",
            "higher",
            f"chance that a test row scores above an input from elsewhere ({_HENDRYCKS})",
        ),
        Metric(
            "fpr95",
            "FPR95",
            "%",
            "lower",
            f"inputs from elsewhere that pass where 95 % of test rows do ({_LIANG})",
        ),
    )
}
"""Every number that `measure` gives beside the temperature, by name."""

TREE_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "level1_error",
            "level-1 error",
            "%",
            "lower",
            "test rows taken for a class in another branch of the tree, at level 1 below the root and so on",
        ),
        Metric(
            "mistake_distance",
            "distance",
            "edges",
            "lower",
            "mean number of edges in the tree between predicted and true class of wrong test rows",
        ),
    )
}
"""What `measure` gives beside that where classes hang in a tree; in a deeper one ``level2_error`` too."""


def metric(name: str) -> Metric:
    """Return what the number called `name` means.

    >>> metric("level2_error").title
    'level-2 error'
    """
    if level := re.fullmatch(r"level([1-9][0-9]*)_error", name):
        words = f"test rows taken for a class in another branch of the tree, at level {level[1]}"
        return Metric(name, f"level-{level[1]} error", "%", "lower", words)
    known = METRICS | TREE_METRICS
    return known[choice("metrics", name, known)]


def tree_metrics(hierarchy: Hierarchy) -> tuple[str, ...]:
    """Return the names of the numbers that a tree gives, from the root down."""
    from criterium.data.hierarchy import levels

    return (*(f"level{depth}_error" for depth, _ in enumerate(levels(hierarchy), 1)), "mistake_distance")


def measure(predictions: Predictions, *, k: int, hierarchy: Hierarchy | None = None) -> dict[str, float]:
    """Return every number of `METRICS`, those of the tree if there is one, and `temperature`, for one run.

    The temperature is fitted on the validation rows alone and every error measured on the test rows alone.

    Args:
        predictions: with at least one validation and one test row; `auroc` and `fpr95` are NaN where there
            are no inputs from elsewhere.
        k: for `topk_error`; below the number of classes.
        hierarchy: the tree that the classes hang in; see `criterium.data.hierarchy`.
    """
    # Imported here, so that naming the metrics needs neither numpy nor scipy.
    from criterium.evaluation.accuracy import top1_error, topk_error
    from criterium.evaluation.calibration import calibration_error, fit_temperature, nll
    from criterium.evaluation.detection import auroc, fpr_at_tpr

    validation, test, ood = (predictions.where(split) for split in ("validation", "test", "ood"))
    for name, rows in (("validation", validation), ("test", test)):
        if len(rows) == 0:
            raise ValueError(f"predictions: got no {name} rows, expected at least one")
    temperature = fit_temperature(validation.logits, validation.target)
    return {
        "top1_error": top1_error(test.logits, test.target),
        "topk_error": topk_error(test.logits, test.target, k),
        **_of_tree(test, hierarchy),
        "nll": nll(test.logits, test.target, temperature),
        "nll_uncalibrated": nll(test.logits, test.target),
        "calibration_error": calibration_error(test.logits, test.target, temperature=temperature),
        "calibration_error_uncalibrated": calibration_error(test.logits, test.target),
        "auroc": auroc(test.score, ood.score) if len(ood) else float("nan"),
        "fpr95": fpr_at_tpr(test.score, ood.score) if len(ood) else float("nan"),
        "temperature": temperature,
    }


def _of_tree(test: Predictions, hierarchy: Hierarchy | None) -> dict[str, float]:
    if hierarchy is None:
        return {}
    from criterium.evaluation.hierarchy import level_errors, mistake_distance

    found = level_errors(test.logits, test.target, hierarchy)
    distance = mistake_distance(test.logits, test.target, hierarchy)
    return dict(zip(tree_metrics(hierarchy), (*found, distance), strict=True))
