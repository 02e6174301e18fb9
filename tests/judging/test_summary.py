"""Several data sets, each of which counts alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from criterium.cli import app
from criterium.judging import summarise
from criterium.statistics import Design, Table, judge
from criterium.statistics.datasets import mean_ranks, probability_of_improvement, signed_rank


def table_of(shift: float, seed: int, baseline: str = "a", k: int = 3) -> Table:
    rng = np.random.default_rng(seed)
    results = [
        {"objective": name, "seed": repeat, "top1_error": 0.2 + seed / 50 + extra + 0.002 * rng.normal()}
        for name, extra in (("a", 0.0), ("b", shift), ("c", 0.001))
        for repeat in range(5)
    ]
    return judge(
        results,
        metric="top1_error",
        metrics=[],
        baseline=baseline,
        k=k,
        margin=0.01,
        design=Design(True, 100, 400),
    )


def test_one_that_is_better_everywhere() -> None:
    tables = {f"set{seed}": table_of(-0.03, seed) for seed in range(6)}
    found = summarise(tables)
    b, c = found.rows
    assert (b.better, b.as_good, b.worse) == (6, 0, 0)
    assert (c.better, c.as_good, c.worse) == (0, 6, 0)
    assert b.rank == 1.0
    assert b.improvement == 1.0
    assert b.posterior.better > 0.95
    assert c.posterior.as_good > 0.99
    assert found.sentences[0].startswith("b against a on top-1 error: better by more than 1 point on 6 of 6")
    assert "few" not in " ".join(found.sentences)
    assert "b " in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_few_data_sets_are_called_few_and_the_margin_is_in_points(tmp_path: Path) -> None:
    found = summarise({"x": table_of(-0.03, 0), "y": table_of(0.03, 1)}, margin=5)
    assert (found.rows[0].as_good, found.margin) == (2, 0.05)
    assert found.sentences[-1].startswith("2 data sets are few")
    assert found.figure(tmp_path / "across.svg").read_text().lstrip().startswith("<svg")


def test_what_does_not_fit_is_refused() -> None:
    one = table_of(0, 0)
    for tables, words in (
        ({"x": one}, "runs: got 1, expected at least two"),
        ({"x": one, "y": table_of(0, 1, baseline="b")}, "y has control b, expected a, as x"),
    ):
        with pytest.raises(ValueError, match=words):
            summarise(tables)
    with pytest.raises(ValueError, match="metric: got 'nll'"):
        summarise({"x": one, "y": one}, metric="nll")
    result = CliRunner().invoke(app, ["summarise", "nowhere", "elsewhere"])
    assert (result.exit_code, result.stderr) == (
        2,
        "criterium: nowhere: no comparison there (no config.json)\n",
    )


def test_the_signed_rank_test_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    z = [-0.02, 0.015, -0.03, 0.001]
    wins = np.zeros(3)
    values = np.array([0.0, *z])
    for weights in rng.dirichlet([0.5, 1, 1, 1, 1], 4000):
        shares = np.zeros(3)
        for i, one in enumerate(weights):
            for j, other in enumerate(weights):
                middle = (values[i] + values[j]) / 2
                shares[0 if middle < -0.01 else 2 if middle > 0.01 else 1] += one * other
        wins[shares.argmax()] += 1
    found = signed_rank(z, 0.01, "lower")
    assert [found.better, found.as_good, found.worse] == pytest.approx((wins / 4000).tolist(), abs=0.03)
    turned = signed_rank([-value for value in z], 0.01, "higher")
    assert (turned.better, turned.worse) == pytest.approx((found.better, found.worse))
    assert sum((found.better, found.as_good, found.worse)) == pytest.approx(1)


def test_ranks_and_improvement() -> None:
    assert mean_ranks([[0.9, 0.8], [0.7, 0.7]], "higher") == [1.25, 1.75]
    assert probability_of_improvement([[1.0], [1.0]], [[0.0], [1.0]], "higher") == 0.75
