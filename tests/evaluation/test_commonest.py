"""The classifier that a failed run counts as."""

from __future__ import annotations

import numpy as np
import pytest

from criterium.evaluation.commonest import commonest
from criterium.evaluation.measures import measure
from criterium.evaluation.predictions import Predictions


@pytest.mark.parametrize("counts", [(50, 30, 20), (10, 10, 10), (1, 0, 7)])
def test_it_errs_where_the_commonest_class_is_wrong(counts: tuple[int, ...]) -> None:
    target = np.tile([0, 1, 2, 2], 30)
    split = np.repeat(["validation", "test"], 60)
    found = measure(commonest(Predictions(np.zeros((120, 3)), target, split, np.zeros(120)), counts), k=2)
    ranked = sorted(range(3), key=lambda c: -counts[c])
    assert found["top1_error"] == np.mean(target[60:] != ranked[0])
    assert found["topk_error"] == np.mean(~np.isin(target[60:], ranked[:2]))
    assert found["class_mean_error"] == pytest.approx(2 / 3)
    assert all(
        np.isfinite(found[name]) for name in ("nll", "brier", "calibration_error", "risk_coverage_area")
    )


def test_it_tells_no_input_from_another() -> None:
    split = np.repeat(["validation", "test", "ood"], 20)
    like = Predictions(np.zeros((60, 2)), np.where(split == "ood", -1, 0), split, np.zeros(60))
    assert measure(commonest(like, (3, 1)), k=1)["auroc"] == 0.5
