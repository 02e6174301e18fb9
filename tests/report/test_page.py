from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from criterium.report import write_report
from criterium.report.page import render_page
from criterium.report.protocol import sections

CONFIG: dict[str, Any] = {
    "data": "digits",
    "seeds": [0, 1, 2],
    "tune": 4,
    "splits": {"train": {"rows": 900, "sha256": "1f2e"}, "test": {"rows": 360, "sha256": "3d4c"}},
    "versions": {"torch": "2.13.0"},
}


class Page(HTMLParser):
    """Collects what a browser would see: tags, ids, where they point to, and text by tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._tag, data.strip()))

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def page_of(finished: Any, **options: Any) -> Page:
    table, runs = finished
    return Page(
        render_page(**{"title": "digits, mlp", "config": CONFIG, "table": table, "runs": runs, **options})
    )


def test_the_page_says_shows_and_documents(finish: Callable[..., Any]) -> None:
    table, runs = finish()
    page = page_of((table, runs))
    said = [text for _, text in page.texts]
    assert [text for tag, text in page.texts if tag == "h1"] == ["digits, mlp"]
    assert (
        said.index(table.sentences[0]) < said.index("Results") < said.index("Error") < said.index("Protocol")
    )
    assert all(sentence in said for sentence in (*table.sentences, *table.notes))
    assert page.tags["svg"] == page.tags["figure"] == page.tags["figcaption"] == 6
    assert ("td", "1f2e") in page.texts
    assert json.loads(next(text for tag, text in page.texts if tag == "pre")) == CONFIG


@pytest.mark.parametrize(
    ("options", "titles"),
    [
        ({"seeds": 1}, ["Error", "Differences", "Cost", "Reliability", "Scores", "Training"]),
        ({"ood": False}, ["Error", "Differences", "Cost", "Reliability", "Training"]),
        ({"cost": False}, ["Error", "Differences", "Reliability", "Scores", "Training"]),
        ({"objectives": ("a",)}, ["Error", "Reliability", "Scores", "Training"]),
    ],
)
def test_a_figure_without_numbers_is_left_out(
    options: dict[str, Any], titles: list[str], finish: Callable[..., Any]
) -> None:
    page = page_of(finish(**{"objectives": ("a", "b"), "rows": 40, **options}), config={})
    found = [text.split()[0] for tag, text in page.texts if tag == "h3"]
    assert found == titles


def test_nothing_is_fetched_and_no_id_is_there_twice(finish: Callable[..., Any]) -> None:
    table, runs = finish(rows=40)
    text = render_page(title="t", config=CONFIG, table=table, runs=runs)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    targets = page.values("src", "href", "xlink:href", "action", "data", "srcset")
    assert targets
    assert all(target.startswith("#") for target in targets)
    assert "@import" not in text
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    pointed = {target[1:] for target in targets} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert pointed <= set(ids)
    assert len(pointed) > 20


def test_what_users_write_is_text(finish: Callable[..., Any]) -> None:
    evil = "<script>alert('x')</script>"
    config = {evil: evil, "data": {evil: {evil: evil}, "b": {"c": 1}}}
    page = page_of(finish(("cross-entropy", evil), seeds=2, rows=40), title=evil, config=config)
    assert page.tags["script"] == 0
    assert {"title", "h1", "th", "td"} <= {tag for tag, text in page.texts if text == evil}


def test_the_page_is_small(finish: Callable[..., Any]) -> None:
    table, runs = finish(seeds=5, rows=2000)
    assert len(render_page(title="t", config=CONFIG, table=table, runs=runs).encode()) < 1_500_000


def test_a_failed_write_leaves_the_old_page_and_nothing_beside_it(
    tmp_path: Path, finish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, runs = finish(("a",), rows=40)
    path = tmp_path / "report.html"
    write_report(path, title="first", config=CONFIG, table=table, runs=runs)
    before = path.read_text(encoding="utf-8")
    assert before.endswith("</html>")
    assert "first" in before

    write_text = Path.write_text

    def full_disk(self: Path, data: str, **options: Any) -> int:
        write_text(self, data[:1000], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, title="second", config=CONFIG, table=table, runs=runs)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == before


def test_runs_that_were_trained_elsewhere_or_failed_have_no_curve(finish: Callable[..., Any]) -> None:
    table, runs = finish(("a", "b"), rows=40)
    one_failed = [
        replace(run, history=None) if (run.objective, run.seed) == ("b", 0) else run for run in runs
    ]
    elsewhere = [replace(run, history=None) for run in runs]
    for given, drawn in ((one_failed, True), (elsewhere, False)):
        page = page_of((table, given))
        assert any(text == "Training" for _, text in page.texts) == drawn
    assert page_of((table, ())).tags["svg"] == 3  # classes alone have no confidences either


def test_an_objective_without_runs_is_refused(finish: Callable[..., Any]) -> None:
    table, runs = finish(("a", "b"), rows=20)
    with pytest.raises(ValueError, match="runs: got none of b"):
        page_of((table, [run for run in runs if run.objective == "a"]))


def test_settings_become_tables() -> None:
    found = sections(
        {**CONFIG, "amp": False, "schedule": None, "lr": 0.1, "tuned": {"a": {"lr": 0.1}, "b": {}}}
    )
    assert [section.title for section in found] == ["Comparison", "Splits", "Versions", "Tuned"]
    assert dict(found[0].rows) == {
        "data": "digits",
        "seeds": "0, 1, 2",
        "tune": "4",
        "amp": "no",
        "schedule": "–",
        "lr": "0.1",
    }
    assert found[1].head == ("", "rows", "sha256")
    assert found[1].rows == (("train", "900", "1f2e"), ("test", "360", "3d4c"))
    assert found[2].head == ()
    assert found[3].rows == (("a", "0.1"), ("b", "–"))


def test_importing_the_rooms_is_cheap() -> None:
    code = "import sys, criterium.report, criterium.statistics; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "sklearn", "pyarrow", "matplotlib", "jinja2"} & set(run.stdout.split())
