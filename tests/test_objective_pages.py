"""Every objective has a page that says what the code does, and a figure that shows what it computes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
import sys
import xml.etree.ElementTree as ElementTree
from copy import deepcopy
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import typer

from criterium.cli import app
from criterium.comparison.plan import configure
from criterium.data import Dataset, Split
from criterium.objectives import OBJECTIVES, Choice, Range, Task
from criterium.training import Recipe, accelerator_for
from criterium.training.trainer import Trainer

FOLDER = Path(__file__).parent.parent / "docs" / "objectives"
NAMES = sorted(OBJECTIVES)
SECTIONS = [
    "Formula",
    "When to use it",
    "Options",
    "What the paper claims",
    "Deviations from the authors' code",
    "How to run it",
]


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.DOTALL)


def value(cell: str) -> Any:
    """Return what a cell says, written as after `NAME:option=` or as a fraction."""
    text = cell.strip().strip("`")
    if re.fullmatch(r"\d+/\d+", text):
        return float(Fraction(text))
    try:
        return json.loads("null" if text == "none" else text)
    except json.JSONDecodeError:
        return text


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_objectives", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    return script("draw")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        (
            "exact",
            {"1.45 T": "1.45 T", "2.63 T": "2.63 T", "3.23 T": "3.23 T", "4.8%": "4.8 and", "0.9%": "0.9 %"},
        ),
        ("focal", {"1.05": "1.05", "1.13": "1.13", "1.31": "1.31"}),
        ("gce", {"2.4%": "2 %", "15.6%": "16 %", "23.7%": "24 %"}),
    ],
)
def test_numbers_of_a_page_are_those_measured(
    name: str, numbers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(script("measure"), name)()
    printed, text = capsys.readouterr().out, " ".join(page(name).split())
    for measured, written in numbers.items():
        assert measured in printed
        assert written in text


def test_the_index_lists_every_objective_and_nothing_else() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+\.md)\) \| (.+) \|$", index, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == NAMES
    for name, target, rest in rows:
        assert target == f"{name}.md"
        assert len(cells := rest.split(" | ")) == 4
        assert all(cells)
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(["README", *NAMES])
    assert sorted(path.stem for path in FOLDER.glob("*.svg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_parts(name: str) -> None:
    text = page(name)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert 40 <= len(text.splitlines()) <= 110
    assert re.findall(r"!\[.+\]\((.+)\)", text) == [f"{name}.svg"]
    for number in re.findall(r"arXiv:(\d{4}\.\d{5})", OBJECTIVES[name].paper):
        assert f"[arXiv:{number}](https://arxiv.org/abs/{number})" in text


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page(name)):
        assert link.startswith("https://arxiv.org/abs/") or (FOLDER / link).is_file(), link


@pytest.mark.parametrize("name", NAMES)
def test_options_are_those_of_the_code(name: str) -> None:
    kind = OBJECTIVES[name]
    table = page(name).split("## Options\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| .+ \|$", table, re.MULTILINE)
    assert [option for option, _, _ in rows] == [field.name for field in dataclasses.fields(kind)]
    for field, (option, default, searched) in zip(dataclasses.fields(kind), rows, strict=True):
        assert value(default) == field.default, option
        space = kind.search.get(option)
        if isinstance(space, Choice):
            assert tuple(value(cell) for cell in searched.split(", ")) == space.values, option
        elif isinstance(space, Range):
            assert [value(cell) for cell in searched.split(" to ")] == [space.low, space.high], option
        else:
            assert searched == "–", option
    rest = " ".join(table.split())
    assert f"Learning rate for SGD: {kind.learning_rate:g}." in rest
    assert f"OOD score: `{kind.score}`." in rest


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name: str) -> None:
    compare = typer.main.get_command(app).commands["compare"]  # type: ignore[attr-defined]
    labels = []
    (commands,) = blocks(name, "sh")
    for line in commands.strip().splitlines():
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("criterium", "compare")
        asked = compare.make_context("compare", arguments).params["names"]
        assert asked[0] == "cross-entropy"
        labels += asked
    for label in labels:
        configure(label, {}, Recipe())
    assert name in labels or any(label.startswith(f"{name}:") for label in labels)


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_of_ones_own_is_that_of_the_race(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the 20 steps of a page's loop, its weights are those that the race's trainer reaches."""
    (code,) = blocks(name, "python")
    preparation, loop = code.split("for epoch in range(", 1)
    scope: dict[str, Any] = {}
    # Rounding grows in training; in float64 it stays small.
    monkeypatch.setattr(torch, "randn", partial(torch.randn, dtype=torch.float64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(preparation, f"{name}.md", "exec"), scope)
        model, batches, copy = scope["model"].double(), scope["batches"], deepcopy(scope["model"])
        epochs = 5
        torch.manual_seed(1)  # noise that a criterion draws
        exec(compile(f"for epoch in range({loop}", f"{name}.md", "exec"), scope)
        assert scope["epoch"] == epochs - 1
        assert scope["loss"].shape == ()
        assert torch.isfinite(scope["loss"])
        assert "score" not in scope or scope["score"].shape == (32,)

        inputs, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
        groups = tuple(scope["groups"].tolist()) if "groups" in scope else None
        task = Task(
            10,
            tuple(torch.bincount(target, minlength=10).tolist()),
            k=5,
            is_image=inputs.dim() == 4,
            hierarchy=None if groups is None else (groups,),
        )
        objective = OBJECTIVES[name]()
        recipe = Recipe(epochs=epochs, batch_size=32, learning_rate=objective.learning_rate, weight_decay=0.0)
        trainer = Trainer(
            copy,
            objective,
            cast("Dataset", SimpleNamespace(train=Split(inputs, target))),
            recipe,
            task,
            seed=0,
            accelerator=accelerator_for("cpu", "float32"),
        )
        # The same batches, noise and learning rate: those are the page's own.
        monkeypatch.setattr(Recipe, "factor", lambda recipe, progress: 1.0)
        monkeypatch.setattr("criterium.training.trainer.seed_globals", lambda seed, device: None)
        monkeypatch.setattr(
            trainer, "batches", lambda epoch: [objective.transform_batch(*batch, task) for batch in batches]
        )
        torch.manual_seed(1)
        for epoch in range(epochs):
            trainer.epoch(epoch)
    assert epochs * len(batches) == 20
    for found, expected in zip(model.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def paths(svg: str) -> dict[str, np.ndarray]:
    """Return the points of each curve of a figure, in its own units."""
    found = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        curve = re.fullmatch(r"[\w-]+?-((?:loss|push)-\d)", group.get("id", ""))
        if curve:
            (path,) = group.iter("{http://www.w3.org/2000/svg}path")
            found[curve[1]] = np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d", "")), dtype=float)
    return found


def words(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_what_the_code_draws(name: str, draw: ModuleType) -> None:
    """If this fails, `python docs/objectives/draw.py` draws it anew."""
    drawn, kept = draw.figure(name), (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert words(kept) == words(drawn)
    curves, expected = paths(kept), paths(drawn)
    count = len(draw.PICTURES[name].curves) + 1
    assert sorted(curves) == sorted(f"{part}-{i}" for part in ("loss", "push") for i in range(count))
    for curve, points in expected.items():
        assert 40 < len(points) <= draw.POINTS  # what lies outside of the panel is not drawn
        assert curves[curve].shape == points.shape
        np.testing.assert_allclose(curves[curve], points, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_pushes_drawn_are_those_of_the_losses(name: str, draw: ModuleType) -> None:
    for line in draw.lines(name):
        assert np.isfinite(line.loss).all()
        # The area under the push is the fall of the loss: kinks and jumps lie between points, so nearly.
        fall = np.concatenate([[0.0], np.cumsum((line.push[1:] + line.push[:-1]) / 2 * np.diff(line.x))])
        assert np.ptp(line.loss) > 0
        np.testing.assert_allclose(line.loss[0] - line.loss, fall, atol=0.03 * np.ptp(line.loss))


def test_no_two_pictures_are_the_same() -> None:
    drawn = {name: str(paths((FOLDER / f"{name}.svg").read_text(encoding="utf-8"))) for name in NAMES}
    assert len(set(drawn.values())) == len(drawn)


def test_the_grey_line_is_cross_entropy(draw: ModuleType) -> None:
    line = draw.lines("focal")[0]
    logits = np.stack([line.x, *(np.full_like(line.x, -0.5 * step) for step in range(9))])
    likelihood = np.exp(line.x) / np.exp(logits).sum(axis=0)
    np.testing.assert_allclose(line.loss, -np.log(likelihood), rtol=1e-12)
    np.testing.assert_allclose(line.push, 1 - likelihood, atol=1e-12)
