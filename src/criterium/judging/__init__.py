"""Verdicts on what other code predicted, and over several data sets; no torch, no training."""

from criterium.judging.judged import Judged, compare_predictions
from criterium.judging.summary import Summary, summarise

__all__ = ["Judged", "Summary", "compare_predictions", "summarise"]
