"""The names of all that is measured: what a number means, which way is better, how much of it matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from criterium._checks import choice


@dataclass(frozen=True)
class Metric:
    """What a number means; where `unit` is ``"%"`` the number is a fraction, to be shown times 100.

    `margin` is the least difference that matters by default, in the stored unit; of error rates, where it is
    None, it depends on the control's (`criterium.statistics.margins`). `of_rows` says whether the number is a
    mean over test rows. Where `compared` is False the number is shown as background and no difference is
    tested: at temperature 1 an objective that trains at another scale of the logits looks bad, which says
    nothing about it.
    """

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    description: str
    margin: float | None = None
    of_rows: bool = False
    compared: bool = True


_GUO = "Guo et al., ICML 2017"
_HENDRYCKS = "Hendrycks and Gimpel, ICLR 2017"
_LIANG = "Liang, Li and Srikant, ICLR 2018"
_LIU = "Liu et al., CVPR 2019"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "top1_error",
            "top-1 error",
            "%",
            "lower",
            "test rows whose largest logit is another class's",
            of_rows=True,
        ),
        Metric(
            "topk_error",
            "top-k error",
            "%",
            "lower",
            "test rows whose k largest logits miss the true class; top5_error sets k",
            of_rows=True,
        ),
        Metric(
            "class_mean_error",
            "class-mean error",
            "%",
            "lower",
            "mean over classes of the error on test rows of the class, rare ones counting as much as others",
        ),
        Metric(
            "many_shot_error",
            "many-shot error",
            "%",
            "lower",
            f"class-mean error of classes with more than 100 training rows ({_LIU})",
        ),
        Metric(
            "medium_shot_error",
            "medium-shot error",
            "%",
            "lower",
            f"class-mean error of classes with 20 to 100 training rows ({_LIU})",
        ),
        Metric(
            "few_shot_error",
            "few-shot error",
            "%",
            "lower",
            f"class-mean error of classes with fewer than 20 training rows ({_LIU})",
        ),
        Metric(
            "nll",
            "NLL",
            "nats",
            "lower",
            f"negative log-likelihood at the fitted temperature ({_GUO})",
            margin=0.02,
            of_rows=True,
        ),
        Metric(
            "nll_uncalibrated",
            "NLL before scaling",
            "nats",
            "lower",
            "negative log-likelihood of the logits as they are",
            margin=0.02,
            of_rows=True,
            compared=False,
        ),
        Metric(
            "brier",
            "Brier score",
            "",
            "lower",
            "squared distance of the probabilities from the true class's, at the fitted temperature"
            " (Brier, 1950)",
            margin=0.01,
            of_rows=True,
        ),
        Metric(
            "calibration_error",
            "calibration error",
            "%",
            "lower",
            "expected calibration error (ECE): mean gap between confidence and accuracy, 15 bins, at the"
            f" fitted temperature ({_GUO}, eq. 3)",
            margin=0.01,
        ),
        Metric(
            "calibration_error_uncalibrated",
            "calibration error before scaling",
            "%",
            "lower",
            "mean gap between confidence and accuracy, 15 bins, of the logits as they are",
            margin=0.01,
            compared=False,
        ),
        Metric(
            "risk_coverage_area",
            "risk-coverage area",
            "%",
            "lower",
            "mean error of the most confident rows, over all shares of rows kept (Geifman et al., ICLR 2019)",
            margin=0.005,
        ),
        Metric(
            "auroc",
            "AUROC",
            "%",
            "higher",
            f"chance that a test row scores above an out-of-distribution (OOD) input ({_HENDRYCKS})",
            margin=0.01,
        ),
        Metric(
            "fpr95",
            "FPR95",
            "%",
            "lower",
            f"OOD inputs that pass where 95 % of test rows do ({_LIANG})",
            margin=0.05,
        ),
        Metric(
            "aupr",
            "AUPR",
            "%",
            "higher",
            f"area under precision and recall of finding OOD inputs; depends on their share ({_HENDRYCKS})",
            margin=0.02,
        ),
    )
}
"""Every number that `measure` gives, the temperature apart, by name."""

_OOD = ("auroc", "fpr95", "aupr")

NEAR_AND_FAR: dict[str, Metric] = {
    f"{where}_{name}": replace(
        METRICS[name],
        name=f"{where}_{name}",
        title=f"{where}-OOD {METRICS[name].title}",
        description=f"{METRICS[name].description}, of the {where} ones",
    )
    for where in ("near", "far")
    for name in _OOD
}
"""What `measure` gives as well where OOD inputs come from two sources, one near to the data, one far."""

TREE_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "level1_error",
            "level-1 error",
            "%",
            "lower",
            "test rows taken for a class in another branch of the tree, at level 1 below the root and so on",
            of_rows=True,
        ),
        Metric(
            "mistake_distance",
            "distance",
            "edges",
            "lower",
            "mean number of edges in the tree between predicted and true class of wrong test rows",
            margin=0.1,
        ),
    )
}
"""What `measure` gives as well where classes hang in a tree; in a deeper one ``level2_error`` too."""


def metric(name: str) -> Metric:
    """Return what the number called `name` means.

    Example:
        >>> metric("level2_error").title
        'level-2 error'

    """
    if level := re.fullmatch(r"level([1-9][0-9]*)_error", name):
        words = f"test rows taken for a class in another branch of the tree, at level {level[1]}"
        return Metric(name, f"level-{level[1]} error", "%", "lower", words, of_rows=True)
    known = METRICS | NEAR_AND_FAR | TREE_METRICS
    return known[choice("metrics", name, known)]


def asked_metric(name: str) -> tuple[str, int | None]:
    """Return the name of a metric as people type it, and the k that it names.

    Example:
        >>> asked_metric("top5-error"), asked_metric("class-mean-error")
        (('topk_error', 5), ('class_mean_error', None))

    """
    plain = name.strip().lower().replace("-", "_")
    found = re.fullmatch(r"top_?([1-9][0-9]*)_error", plain)
    if found and found[1] != "1":
        return "topk_error", int(found[1])
    plain = {"error": "top1_error", "top_1_error": "top1_error", "ece": "calibration_error"}.get(plain, plain)
    if re.fullmatch(r"level[1-9][0-9]*_error", plain):
        return plain, None
    return choice("metric", plain, METRICS | NEAR_AND_FAR | TREE_METRICS), None


SKEW = 10
"""By default the class-mean error is judged by where class counts differ by more than this many times."""


def default_metric(class_counts: Sequence[int], rows: str = "training") -> tuple[str, str]:
    """Return the primary metric for data with so many rows a class, and the reason for it.

    Example:
        >>> default_metric([900, 80, 20])[0], default_metric([50, 50])[0]
        ('class_mean_error', 'top1_error')

    """
    counts = [count for count in class_counts if count > 0]
    if counts and max(counts) > SKEW * min(counts):
        return "class_mean_error", (
            f"Judged by class-mean error: the commonest class has {max(counts):,} {rows} rows and the"
            f" rarest {min(counts):,}, and top-1 error is won by ignoring rare classes. Metric top1-error"
            " judges by that."
        )
    return "top1_error", ""
