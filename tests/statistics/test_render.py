from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from criterium.statistics import Design, Table, judge

METRICS = ["top1_error", "topk_error", "nll", "calibration_error", "calibration_error_uncalibrated", "auroc"]
BASE = np.array([0.05, 0.01, 0.2, 0.02, 0.1, 0.95])
SPREAD = np.array([0.01, 0.003, 0.03, 0.01, 0.02, 0.01])
NAMES = ("cross-entropy", "exact", "topk", "noised-topk", "dismax", "cot")


def summarise(results: Any, metrics: Any, baseline: str, k: int, **options: Any) -> Table:
    """Return a table in which no rows are shared."""
    design = Design(own_test=True, test=100)
    given = {"metric": metrics[0], "metrics": metrics, "baseline": baseline, "k": k, "margin": 0.01}
    return judge(results, design=design, **given, **options)


def table_of(names: tuple[str, ...] = NAMES, seeds: int = 5, **options: Any) -> Table:
    rng = np.random.default_rng(0)
    results = []
    for index, name in enumerate(names):
        for seed in range(seeds):
            # The second objective is better and the third worse, by far more than the spread.
            shift = {1: -0.04, 2: 0.2}.get(index, 0.0) * (np.arange(6) == 0)
            row = BASE + shift + rng.normal(0, SPREAD / 20)
            results.append({"objective": name, "seed": seed, **dict(zip(METRICS, row.tolist(), strict=True))})
    cost = {name: 1 + index / 10 for index, name in enumerate(names)}
    return summarise(results, metrics=METRICS, baseline=names[0], k=3, cost=cost, **options)


def test_the_text_has_one_line_an_objective_and_two_a_difference() -> None:
    lines = str(table_of(notes=["Classes 8 and 9 were left out."])).splitlines()
    assert max(map(len, lines)) <= 110
    for name in NAMES[1:]:
        means, difference, bullet = (line for line in lines if re.match(rf"(- )?{name}[ :]", line))
        below = lines[lines.index(difference) + 1]
        assert (means.count("±"), difference.count("±"), below.count("p ")) == (6, 5, 1)
        assert bullet.startswith(f"- {name}: ")
    exact, topk = (next(line for line in lines if line.startswith(f"{name} ")) for name in ("exact", "topk"))
    assert exact.startswith("exact             1.00 ± 0.09 ▲  1.01 ± 0.01  0.2")
    assert exact.endswith("  95.04 ± 0.06  1.10×")
    assert "▼" in topk
    assert lines[-1] == "Note: Classes 8 and 9 were left out."
    assert any(
        line.startswith("▲ better, ▼ worse, ≈ as good as cross-entropy within 1 point of top-1 error")
        for line in lines
    )


def test_the_columns_of_the_text_are_in_line() -> None:
    block = str(table_of()).split("\n\n")[0].splitlines()
    rows = [line for line in block if "±" in line]
    assert len(rows) == 6
    # Where the first interval is signed and the last one ends, a column is at the same place in every row.
    assert len({line.index("±") for line in rows}) == 1
    assert len({line.rindex("±") for line in rows}) == 1
    assert len({len(line) for line in rows}) == 1


def test_one_repeat_shows_means_alone() -> None:
    text = str(table_of(seeds=1))
    assert "±" not in text
    assert "p =" not in text
    assert "▲" not in text
    assert "one repeat: no intervals, no tests" in text
    assert "nan" not in text


def test_one_objective_has_no_differences() -> None:
    for text in (str(table_of(NAMES[:1])), table_of(NAMES[:1]).to_markdown()):
        assert "Difference" not in text
        assert "±" in text


def test_no_cost_has_no_column() -> None:
    results = [{"objective": name, "seed": seed, "nll": 0.5} for name in "ab" for seed in range(3)]
    table = summarise(results, metrics=["nll"], baseline="a", k=3)
    assert "cost" not in str(table)
    # Zero is written without a sign, and without a variance p is 1.
    assert "0.000 ± 0.000" in str(table)
    assert "p = 1.00" in str(table)


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    results = [
        {"objective": name, "seed": seed, "nll": 0.5 + seed - (name == "b") * 1e-5}
        for name in "ab"
        for seed in range(3)
    ]
    text = str(summarise(results, metrics=["nll"], baseline="a", k=3))
    assert "−0.0" not in text
    assert "0.0 ± 0.0" in text


def test_markdown_has_two_tables_of_the_same_width_in_every_row() -> None:
    text = table_of(("a|b", *NAMES)).to_markdown()
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(rows) for rows in tables] == [2 + 7, 2 + 6]
    for rows, columns in zip(tables, (8, 6), strict=True):
        assert {row.replace("\\|", "").count("|") for row in rows} == {columns + 1}
    assert "a\\|b" in text


class Tags(HTMLParser):
    """Collects the tags of a page and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", '"quoted"'])
def test_html_is_escaped(name: str) -> None:
    page = Tags(table_of(("cross-entropy", name), notes=[f"note {name}"])._repr_html_())
    assert "script" not in page.tags
    assert name in page.texts
    assert f"note {name}" in page.texts
    assert page.tags.count("tr") == 3
    assert page.tags.count("td") == 2 * 7


def test_a_narrow_terminal_gets_the_columns_in_blocks() -> None:
    results = [
        {"objective": name, "seed": seed, "top1_error": 0.1 + 0.01 * seed + shift, "nll": 0.5, "auroc": 0.9}
        for name, shift in (("cross-entropy", 0.0), ("exact", 0.02))
        for seed in range(3)
    ]
    table = summarise(results, metrics=["top1_error", "nll", "auroc"], baseline="cross-entropy", k=3)
    narrow = table.to_text(46)
    assert max(map(len, narrow.splitlines())) <= 46
    assert narrow.count("\ncross-entropy ") == 2  # each block names its rows
    cells = [line.split()[1:] for line in str(table).splitlines() if line.startswith("cross-entropy ")]
    assert [word for words in cells for word in words] == [
        word for line in narrow.splitlines() if line.startswith("cross-entropy ") for word in line.split()[1:]
    ]
