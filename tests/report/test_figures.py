from __future__ import annotations

import re
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from criterium.evaluation.predictions import Predictions
from criterium.report import RunView, figures
from criterium.report.style import COLOURS, GREY, INK, look

DRAW: dict[str, Callable[..., str]] = {
    "errors": lambda table, runs: figures.errors(table),
    "differences": lambda table, runs: figures.differences(table),
    "reliability_diagrams": figures.reliability_diagrams,
    "score_histograms": figures.score_histograms,
    "training_curves": figures.training_curves,
    "cost_against_error": lambda table, runs: figures.cost_against_error(table),
}


def texts(svg: str) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")
    ]


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_is_one_element_that_stands_on_any_background(name: str, finish: Callable[..., Any]) -> None:
    svg = DRAW[name](*finish(seeds=2, rows=40))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "viewBox" in root.attrib
    assert not {"width", "height"} & set(root.attrib)
    assert "currentColor" in svg
    assert INK not in svg
    assert not re.search(r"#(000000|ffffff)\b", svg)
    assert not re.search(r"(fill|stroke): (black|white)", svg)


@pytest.mark.parametrize("name", DRAW)
def test_the_same_numbers_give_the_same_bytes(name: str, finish: Callable[..., Any]) -> None:
    finished = finish(("a", "b"), seeds=2, rows=40)
    assert DRAW[name](*finished) == DRAW[name](*finished)


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize(("objectives", "seeds"), [(("a",), 2), (("a", "b"), 1), (tuple("abcdefghijkl"), 2)])
def test_few_and_many_objectives_are_all_there(
    name: str, objectives: tuple[str, ...], seeds: int, finish: Callable[..., Any]
) -> None:
    if name == "differences" and len(objectives) == 1:
        return
    found = texts(DRAW[name](*finish(objectives, seeds=seeds, rows=20)))
    shown = objectives[1:] if name == "differences" else objectives
    assert all(any(text == name or text.startswith(f"{name}\n") for text in found) for name in shown)


def test_the_figures_show_the_numbers_of_the_table(finish: Callable[..., Any]) -> None:
    table, runs = finish(("a", "b"))
    shown = texts(figures.differences(table))
    assert sum(text.startswith("p ") for text in shown) == 1
    assert "AUROC (higher is better)" in shown
    assert any(
        text.startswith("AUROC 9") and "±" in text for text in texts(figures.score_histograms(table, runs))
    )
    low, high = sorted(run.temperature for run in runs if run.objective == "a")[::2]
    assert f"temperature {low:.3g} to {high:.3g}" in texts(figures.reliability_diagrams(table, runs))


def test_a_name_is_text_and_nothing_else(finish: Callable[..., Any]) -> None:
    name = '<script>$x^2$ & "'
    for draw in DRAW.values():
        assert name in texts(draw(*finish(("a", name), seeds=2, rows=20)))


def test_scores_that_are_all_the_same_are_drawn(finish: Callable[..., Any]) -> None:
    table, runs = finish(("a", "b"), seeds=2, rows=20)
    for run in runs:
        for scores in run.scores.values():
            scores[:] = 1.0
    assert "a" in " ".join(texts(figures.score_histograms(table, runs)))


def test_a_view_of_a_run_lets_its_predictions_go() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 50))
    predictions = Predictions(logits, [0] * 20, ["test"] * 20, logits[:, 0])
    held = weakref.ref(predictions.logits)
    view = RunView.of("a", 0, predictions, {}, 2.0)
    del predictions
    assert held() is None
    assert [len(values) for values in (*view.before, *view.after, view.scores["test"])] == [20] * 5


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [GREY, *COLOURS])
def test_colours_can_be_read_on_white_and_on_dark(colour: str) -> None:
    for background in ("#ffffff", "#161616"):
        dark, light = sorted((luminance(colour), luminance(background)))
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_no_two_of_many_objectives_look_the_same() -> None:
    assert len({look(position) for position in range(40)}) == 40
    assert len({look(position)[1] for position in range(12)}) == 12
