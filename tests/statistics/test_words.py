from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from criterium.statistics import Table, summarise

METRICS = ["top1_error", "topk_error", "nll"]
BASE = np.array([0.10, 0.02, 0.5])
NOISE = np.random.default_rng(0).normal(0, 0.002, size=(4, 5, 3))


def table_of(shifts: dict[str, list[float]], seeds: int = 5, **options: Any) -> Table:
    """Return a table in which each objective differs from cross-entropy by a shift of each metric."""
    results = [
        {
            "objective": name,
            "seed": seed,
            **dict(zip(METRICS, (BASE + shift + NOISE[index, seed]).tolist(), strict=True)),
        }
        for index, (name, shift) in enumerate({"cross-entropy": [0, 0, 0], **shifts}.items())
        for seed in range(seeds)
    ]
    return summarise(results, metrics=METRICS, baseline="cross-entropy", k=3, **options)


def test_nothing_differs() -> None:
    summary, exact = table_of({"exact": [0, 0, 0]}, cost={"cross-entropy": 1, "exact": 1.3}).sentences
    assert summary == (
        "No objective is shown to differ from cross-entropy on any metric (5 seeds, 3 comparisons, 5 % level"
        " after Holm's correction). That is no proof that they do as well as each other: the intervals say"
        " how large a difference may still be."
    )
    assert exact.startswith(
        "exact (5 seeds): not shown to differ from cross-entropy on any metric (smallest "
    )
    assert exact.endswith(" points; a training step takes 1.30 times as long.")
    assert "the uncorrected 95 % interval of its difference in top-1 error runs from −" in exact


def test_one_is_better() -> None:
    summary, exact, cot = table_of({"exact": [-0.05, 0, 0], "cot": [0, 0, 0]}).sentences
    assert summary == (
        "Compared with cross-entropy: exact is better on top-1 error; cot is not shown to differ on any"
        " metric (5 seeds, 6 comparisons, 5 % level after Holm's correction)."
    )
    assert exact == (
        "exact (5 seeds): better than cross-entropy on top-1 error (5.04 against 9.92 %, p < 0.001);"
        " not shown to differ on top-3 error and NLL."
    )
    assert cot.startswith("cot (5 seeds): not shown to differ from cross-entropy on any metric")


def test_one_is_worse_on_everything() -> None:
    summary, cot = table_of({"cot": [0.05, 0.05, 0.5]}).sentences
    assert "cot is worse on top-1 error, top-3 error and NLL (5 seeds" in summary
    assert cot.startswith("cot (5 seeds): worse than cross-entropy on top-1 error (")
    assert "better" not in cot
    assert "not shown" not in cot
    assert "NLL (0.9998 against 0.4996 nats, p < 0.001)" in cot


def test_mixed() -> None:
    summary, exact, _, _ = table_of({"exact": [-0.05, 0, 0.5], "a": [0, 0, 0], "b": [0, 0, 0]}).sentences
    assert "exact is better on top-1 error but worse on NLL; a and b are not shown to differ" in summary
    assert "; worse than cross-entropy on NLL (" in exact
    assert exact.endswith("; not shown to differ on top-3 error.")


def test_one_seed() -> None:
    table = table_of({"exact": [-0.05, 0, 0]}, seeds=1, cost={"exact": 2})
    assert table.sentences == (
        "One seed cannot tell a better objective from a lucky one: nothing here shows that any differs from"
        " cross-entropy. Run at least three seeds, better five.",
        "exact (1 seed): top-1 error 4.9 against 10.0 %, but one seed cannot tell; a training step takes"
        " 2.00 times as long.",
    )


def test_one_objective() -> None:
    assert table_of({}).sentences == ("Only cross-entropy ran, so there is nothing to compare it with.",)


def test_seeds_that_are_not_shared() -> None:
    results = [
        {"objective": name, "seed": seed, "nll": 0.5 + seed / 10}
        for name, seeds in (("a", (0, 1, 2)), ("b", (0, 1)), ("c", (3, 4)), ("d", (2, 3)))
        for seed in seeds
    ]
    table = summarise(results, metrics=["nll"], baseline="a", k=1)
    summary, b, c, d = table.sentences
    assert "(2 seeds, 1 comparison, " in summary
    assert b.startswith("b (2 seeds): not shown")
    assert c == "c (0 seeds): shares no seed with a, so nothing can be said about a difference."
    assert d.startswith("d (1 seed): NLL ")
    kept = [run for run in results if run["objective"] in "acd"]
    assert summarise(kept, metrics=["nll"], baseline="a", k=1).sentences[0] == (
        "No objective shares two seeds with a, so no difference could be tested."
    )


@pytest.mark.parametrize("shift", [[0, 0, 0], [-0.05, 0, 0], [0.05, 0, 0.5]])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_no_sentence_calls_anything_equal(shift: list[float], seeds: int) -> None:
    said = " ".join(table_of({"exact": shift}, seeds).sentences)
    assert not any(word in said for word in ("equal", "same", "no difference between", "nan"))
