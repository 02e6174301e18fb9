"""What more tuning would have given, from what tuning found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal


def expected_best(values: Sequence[float], better: Literal["lower", "higher"]) -> list[float]:
    """Return the expected best of n settings, for n = 1 to the number that was tried.

    sum_i v_(i) C(i - 1, n - 1) / C(B, n), v sorted so that the best comes last: the mean over all ways to
    choose n of the B settings.

    Args:
        values: of the metric on validation rows, one a setting; of one that diverged, the worst there is.
        better: which of two values is.

    Reference: Tang et al., "Showing Your Work Doesn't Always Work", ACL 2020, equation 4 (arXiv 2004.13705);
    the biased form is of Dodge et al., EMNLP 2019 (arXiv 1909.03004).

    >>> [round(value, 3) for value in expected_best([0.4, 0.2, 0.3], "lower")]
    [0.3, 0.233, 0.2]
    """
    ordered = sorted(values, reverse=better == "lower")
    total = len(ordered)
    return [
        math.fsum(value * math.comb(i, n - 1) for i, value in enumerate(ordered)) / math.comb(total, n)
        for n in range(1, total + 1)
    ]
