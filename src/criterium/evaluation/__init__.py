"""From predictions to numbers: pure functions of logits, targets and scores, without a model or torch."""

from __future__ import annotations

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
from criterium.evaluation.metrics import METRICS, TREE_METRICS, Metric, measure
from criterium.evaluation.predictions import Predictions

__all__ = [
    "METRICS",
    "TREE_METRICS",
    "Metric",
    "Predictions",
    "Reliability",
    "auroc",
    "calibration_error",
    "detection_score",
    "fit_temperature",
    "fpr_at_tpr",
    "level_errors",
    "measure",
    "mistake_distance",
    "nll",
    "reliability",
    "score_threshold",
    "top1_error",
    "topk_error",
    "tree_distance",
]
