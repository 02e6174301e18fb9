"""A table with verdicts, and what it says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from criterium.evaluation.measures import RowSample
from criterium.statistics import Design, Table, judge
from criterium.statistics.flags import Flag

OWN = Design(own_test=True, test=400, other=1600)
OFFICIAL = Design(own_test=False, test=400)
CE = "cross-entropy"


def table_of(shifts: dict[str, float], repeats: int = 10, design: Design = OWN, **options: Any) -> Table:
    """Return a table in which each objective differs from cross-entropy by a shift of the error.

    Its difference has just this mean, and a standard deviation of 0.25 points, or of `scatter`[objective].
    """
    scatter = options.pop("scatter", {})
    pattern = np.sin(np.arange(repeats) * 2.0)
    pattern = (pattern - pattern.mean()) / pattern.std(ddof=1) if repeats > 1 else np.zeros(1)
    results = [
        {
            "objective": name,
            "seed": repeat,
            "top1_error": 0.1
            + repeat / 1000
            + shift
            + scatter.get(name, 0.0025) * pattern[repeat] * (name != CE),
            "nll": 0.5 + repeat / 100,
        }
        for name, shift in {CE: 0.0, **shifts}.items()
        for repeat in range(repeats)
    ]
    given = {"metric": "top1_error", "metrics": ["top1_error", "nll"], "margin": 0.01, "k": 3} | options
    return judge(results, baseline=CE, design=design, **given)


def test_four_answers_in_one_summary() -> None:
    table = table_of({"a": -0.05, "b": 0.0, "c": 0.05, "d": 0.006, "e": 0.001}, scatter={"d": 0.006})
    assert table.sentences[0] == (
        "Compared with cross-entropy on top-1 error: a is better; b and e are as good within 1 point; c is"
        " worse; of d these 10 repeats cannot tell (10 repeats, each with a split of its own)."
    )
    answers = ["better", "as good", "worse", "cannot tell", "as good"]
    assert [verdict.verdict for verdict in table.verdicts] == answers
    assert [row["top1_error"].verdict for row in table.differences.values()] == answers
    assert {row["nll"].verdict for row in table.differences.values()} == {"secondary"}
    assert "▲" in str(table)
    assert "≈" in str(table)
    assert "the other metrics are secondary and not tested" in " ".join(str(table).split())


def test_what_is_said_of_each() -> None:
    table = table_of({"a": -0.05, "b": -0.005, "c": 0.05, "d": 0.006}, scatter={"d": 0.006})
    better, small, worse, opened = table.sentences[1:]
    assert better.startswith("a: better than cross-entropy. Top-1 error ")
    assert "p < 0.001). The smallest margin that would have given “as good” is " in better
    assert small.startswith("b: better than cross-entropy, but by less than 1 point. ")
    assert worse.startswith("c: worse than cross-entropy. ")
    assert opened.startswith("d: cannot tell yet. ")


def test_how_many_more_and_when_none_will_do() -> None:
    more = table_of({"a": 0.006}, scatter={"a": 0.006})
    needed = more.verdicts[0].repeats_needed
    assert needed is not None
    assert f"About {needed - 10} more repeats would tell a difference of 1 point" in more.sentences[1]
    none = table_of({"a": 0.002}, scatter={"a": 0.02})
    assert none.verdicts[0].repeats_needed is None
    assert "More repeats of these 2,000 rows will not tell; differences under 2.9 points" in none.sentences[1]
    far = table_of({"a": 0.0}, scatter={"a": 0.05}, design=OFFICIAL)
    assert "More than 200 repeats would be needed" in far.sentences[1]
    near = table_of({"a": 0.0055}, scatter={"a": 0.0053}, repeats=30)
    assert "the true difference may lie near the margin" in near.sentences[1]


def rows_of(scatter: float) -> Any:
    rng = np.random.default_rng(1)
    values = {name: rng.normal(0.1, scatter, 400) for name in ("cross-entropy", "a")}
    return lambda name, metric: RowSample(values[name], drawn=False, rows=400)


def test_an_official_test_part_speaks_of_these_training_rows() -> None:
    table = table_of({"a": -0.05}, design=OFFICIAL, sample=rows_of(0.3))
    assert table.sentences[0].endswith(" (10 repeats on the same test rows), for these training rows.")
    wide, narrow = table.verdicts[0], table_of({"a": -0.05}, design=OFFICIAL).verdicts[0]
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_one_repeat_speaks_of_the_models() -> None:
    table = table_of({"a": -0.05}, repeats=1, sample=rows_of(0.1))
    assert table.verdicts[0].verdict == "better"
    assert "this is about these models, not the methods" in table.sentences[0]
    untested = table_of({"a": -0.05}, repeats=1)
    assert untested.verdicts[0].verdict == "cannot tell"
    assert "could not be tested" in untested.sentences[1]
    assert json.loads(json.dumps(untested.to_dict(), allow_nan=False))["verdicts"][0]["p"] is None


def test_flags_are_in_the_table_the_sentences_and_json() -> None:
    flags = {"a": (Flag("not converged", "it was still <improving>"),)}
    table = table_of({"a": -0.05}, flags=flags)
    assert table.sentences[1].endswith("Note that it was still <improving>.")
    for shown in (str(table), table.to_markdown(), table._repr_html_()):
        assert "not converged" in shown
    assert "<improving>" not in table._repr_html_()
    assert table.to_dict()["verdicts"][0] == {
        "objective": "a",
        "metric": "top1_error",
        "verdict": "better",
        "difference": table.differences["a"]["top1_error"].mean,
        "low": table.differences["a"]["top1_error"].low,
        "high": table.differences["a"]["top1_error"].high,
        "p": table.differences["a"]["top1_error"].p_corrected,
        "repeats_needed": table.verdicts[0].repeats_needed,
        "flags": ["not converged"],
    }
    assert "flags" not in str(table_of({"a": -0.05})).splitlines()[0]


def test_higher_is_better_where_it_is() -> None:
    results = [
        {"objective": name, "seed": repeat, "auroc": value + repeat / 1000}
        for name, value in (("a", 0.9), ("b", 0.95))
        for repeat in range(6)
    ]
    results[-1]["auroc"] = 0.956
    table = judge(results, metric="auroc", metrics=[], baseline="a", k=1, margin=0.01, design=OWN)
    assert table.verdicts[0].verdict == "better"


def test_looks_share_the_level() -> None:
    once = table_of({"a": -0.004}, repeats=20)
    often = table_of({"a": -0.004}, repeats=20, looks=[(5, 0.25), (10, 0.25), (20, 0.5)])
    assert often.verdicts[0].p >= once.verdicts[0].p
    assert often.verdicts[0].difference == once.verdicts[0].difference


def test_runs_that_do_not_fit_are_refused() -> None:
    runs = [{"objective": name, "seed": seed, "nll": 0.5} for name, seed in (("a", 0), ("a", 1), ("b", 0))]
    with pytest.raises(ValueError, match="results: got 1 repeats of b, expected 2"):
        judge(runs, metric="nll", metrics=[], baseline="a", k=1, margin=0.1, design=OWN)
    with pytest.raises(ValueError, match="metric: got 'top1_error', expected one of nll"):
        judge(runs[:2], metric="top1_error", metrics=["nll"], baseline="a", k=1, margin=0.1, design=OWN)
