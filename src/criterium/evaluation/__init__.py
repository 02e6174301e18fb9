"""From predictions to numbers: pure functions of logits, targets and scores, without a model or torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criterium._lazy import lazily

if TYPE_CHECKING:
    from criterium.evaluation.accuracy import top1_error, topk_error
    from criterium.evaluation.calibration import (
        Reliability,
        calibration_error,
        fit_temperature,
        nll,
        reliability,
    )
    from criterium.evaluation.detection import auroc, detection_score, fpr_at_tpr, score_threshold
    from criterium.evaluation.hierarchy import level_errors, mistake_distance, tree_distance
    from criterium.evaluation.imbalance import class_mean_error, shot_groups
    from criterium.evaluation.measures import measure
    from criterium.evaluation.metrics import METRICS, TREE_METRICS, Metric
    from criterium.evaluation.predictions import Predictions
    from criterium.evaluation.selective import risk_coverage_area

__all__ = [
    "METRICS",
    "TREE_METRICS",
    "Metric",
    "Predictions",
    "Reliability",
    "auroc",
    "calibration_error",
    "class_mean_error",
    "detection_score",
    "fit_temperature",
    "fpr_at_tpr",
    "level_errors",
    "measure",
    "mistake_distance",
    "nll",
    "reliability",
    "risk_coverage_area",
    "score_threshold",
    "shot_groups",
    "top1_error",
    "topk_error",
    "tree_distance",
]

_HOMES = {
    "METRICS": "criterium.evaluation.metrics",
    "Metric": "criterium.evaluation.metrics",
    "Predictions": "criterium.evaluation.predictions",
    "Reliability": "criterium.evaluation.calibration",
    "TREE_METRICS": "criterium.evaluation.metrics",
    "auroc": "criterium.evaluation.detection",
    "calibration_error": "criterium.evaluation.calibration",
    "class_mean_error": "criterium.evaluation.imbalance",
    "detection_score": "criterium.evaluation.detection",
    "fit_temperature": "criterium.evaluation.calibration",
    "fpr_at_tpr": "criterium.evaluation.detection",
    "level_errors": "criterium.evaluation.hierarchy",
    "measure": "criterium.evaluation.measures",
    "mistake_distance": "criterium.evaluation.hierarchy",
    "nll": "criterium.evaluation.calibration",
    "reliability": "criterium.evaluation.calibration",
    "risk_coverage_area": "criterium.evaluation.selective",
    "score_threshold": "criterium.evaluation.detection",
    "shot_groups": "criterium.evaluation.imbalance",
    "top1_error": "criterium.evaluation.accuracy",
    "topk_error": "criterium.evaluation.accuracy",
    "tree_distance": "criterium.evaluation.hierarchy",
}

# The command line lists the metrics by name; only computing one needs NumPy.
if not TYPE_CHECKING:
    __getattr__ = lazily(__name__, _HOMES)
