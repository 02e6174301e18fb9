"""The names of all that is measured, and the one function that measures it without looking ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
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


def measure(predictions: Predictions, *, k: int) -> dict[str, float]:
    """Return every number of `METRICS`, and `temperature`, for one run.

    The temperature is fitted on the validation rows alone and every error measured on the test rows alone.

    Args:
        predictions: with at least one validation and one test row; `auroc` and `fpr95` are NaN where there
            are no inputs from elsewhere.
        k: for `topk_error`; below the number of classes.
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
    scaled = test.logits.astype("float64") / temperature
    return {
        "top1_error": top1_error(test.logits, test.target),
        "topk_error": topk_error(test.logits, test.target, k),
        "nll": nll(scaled, test.target),
        "nll_uncalibrated": nll(test.logits, test.target),
        "calibration_error": calibration_error(scaled, test.target),
        "calibration_error_uncalibrated": calibration_error(test.logits, test.target),
        "auroc": auroc(test.score, ood.score) if len(ood) else float("nan"),
        "fpr95": fpr_at_tpr(test.score, ood.score) if len(ood) else float("nan"),
        "temperature": temperature,
    }
