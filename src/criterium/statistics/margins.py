"""The least difference that matters, where the user does not say."""

from __future__ import annotations

import math

from criterium.evaluation.metrics import metric as meaning

ERROR = 0.01
"""Points of an error rate, as a fraction: at most this."""

SHARE = 0.2
"""Of the control's validation error: at most this."""


def default_margin(metric: str, validation_error: float = math.nan) -> float:
    """Return the margin of a metric, in its own units: fractions of 1 where it is shown in percent.

    Of an error rate it is the lesser of 1 point and a fifth of the control's error; of other metrics a fixed
    number.

    Args:
        metric: a name that `criterium.evaluation.metrics.metric` knows.
        validation_error: the control's on validation rows, in the first repeat, so that it is fixed before
            any test row is read; NaN where there is none.

    >>> round(default_margin("top1_error", validation_error=0.02), 6), default_margin("auroc")
    (0.004, 0.01)
    """
    margin = meaning(metric).margin
    if margin is not None:
        return margin
    # Of no mistake at all a fifth would be a margin of nothing.
    return min(ERROR, SHARE * validation_error) if validation_error > 0 else ERROR
