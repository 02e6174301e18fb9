"""Draw the figure of every objective: `python docs/objectives/draw.py` writes NAME.svg beside this file.

Ten classes, of which the logit of one moves: the true one, so that its margin over the largest wrong logit
goes from left to right, or, for complement objectives, a wrong one. The other nine stay where the figure
says. On the left is the loss of such a row, on the right the push on the logit that moves: minus the
derivative, by automatic differentiation. What is drawn are the criteria that `criterium compare` trains with,
not copies of formulas. Names of curves stand where there is room for them, in one panel or the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from criterium.objectives import OBJECTIVES, Task, build
from criterium.report.style import COLOURS, GREY, INK, svg

HERE = Path(__file__).parent
CLASSES = 10
COUNTS = (1000, 599, 359, 215, 129, 77, 46, 28, 17, 10)
"""Training rows of the classes, for objectives that look at them: a factor of 100 in equal steps."""

TASK = Task(
    num_classes=CLASSES, class_counts=COUNTS, k=3, is_image=False, hierarchy=((0, 0, 0, 0, 0, 1, 1, 1, 1, 1),)
)
POINTS = 160  # an even number steers clear of ties, where slopes of hinges and networks jump
LETTER, HEIGHT = 0.0145, 0.075
"""Width of a letter and height of a line of text, as shares of a panel."""


@dataclass(frozen=True)
class Curve:
    """One line: the last criterion of an objective with these options, at logits times `factor`."""

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str | None = None  # the one that the figure is of, if not given
    target: int | tuple[float, ...] = 0
    moves: int = 0
    factor: float = 1.0


@dataclass(frozen=True)
class Picture:
    """What one figure shows."""

    curves: tuple[Curve, ...]
    others: tuple[float, ...] = tuple(-0.5 * step for step in range(CLASSES - 1))
    low: float = -6.0
    high: float = 6.0
    x: str = "margin: true logit less the largest wrong one"
    push: str = "push on the true logit (minus the derivative)"
    logit: Callable[[Tensor], Tensor] = lambda x: x  # the logit that moves, as a function of the axis
    note: str = "10 classes; wrong logits 0, −0.5, −1, …, −4"
    marks: Mapping[float, str] = field(default_factory=lambda: {0.0: ""})  # vertical lines
    baseline: Curve = Curve("cross-entropy", objective="cross-entropy")


@dataclass(frozen=True)
class Line:
    """What is drawn of a curve."""

    label: str
    x: np.ndarray
    loss: np.ndarray
    push: np.ndarray


def _each(option: str, *values: float) -> tuple[Curve, ...]:
    return tuple(Curve(f"{option}={value:g}", {option: value}) for value in values)


_TOP3 = {-1.0: "among the top 3"}
_COMMON, _RARE = "the true class has 1000 rows", "the true class has 10 rows"
_DISTANCES: dict[str, Any] = {
    "others": tuple(-0.05 * step for step in range(CLASSES - 1)),
    "low": -1.0,
    "high": 1.0,
    "note": "10 classes; wrong logits, which are minus distances, at 0, −0.05, −0.1, …, −0.4",
    "baseline": Curve("scale 1: cross-entropy", objective="cross-entropy"),
}
_COSINES: dict[str, Any] = {
    "others": tuple(-0.1 * step for step in range(CLASSES - 1)),
    "low": -1.0,
    "high": 1.0,
    "note": "10 classes of 1000, 599, …, 10 rows; wrong logits, cosines, at 0, −0.1, …, −0.8",
}
_EVENNESS: dict[str, Any] = {
    "others": (8.0, *[0.0] * (CLASSES - 2)),
    "low": -4.0,
    "high": 8.0,
    "x": "logit of a wrong class that stands out from the others",
    "push": "push on that wrong logit (minus the derivative)",
    "marks": {0.0: "like the others"},
    "baseline": Curve("cross-entropy: the first update", objective="cross-entropy", moves=1),
}

PICTURES: dict[str, Picture] = {
    "cot": Picture(
        (
            Curve("complement entropy: the second update", moves=1),
            Curve("their sum: updates=1", {"updates": 1}, moves=1),
        ),
        note="10 classes; the true logit is 8, the eight other wrong ones are 0",
        **_EVENNESS,
    ),
    "cross-entropy": Picture(_each("label_smoothing", 0.05, 0.1)),
    "dismax": Picture(
        (
            Curve("a plain row"),
            Curve("a mixed row: ¼ of it is this class", target=(*[0.25] * 4, *[0.0] * 6)),
        ),
        **_DISTANCES
        | {
            "x": "logit of this class less the largest other one",
            "push": "push on that logit (minus the derivative)",
        },
    ),
    "exact": Picture(
        tuple(
            Curve(f"temperature {value:g}", {"start": value, "end": value, "standardize": False})
            for value in (10.0, 3.0, 1.0, 0.3)
        ),
    ),
    "focal": Picture(_each("gamma", 0.5, 2.0, 5.0)),
    "gce": Picture(
        (
            Curve("alpha=0.2", {"alpha": 0.2}),
            Curve("alpha=1/3", {"alpha": 1 / 3}),
            Curve("alpha=1", {"alpha": 1.0}),
        )
    ),
    "hcot": Picture(
        (
            Curve("second update, inside the true group", moves=1),
            Curve("second update, outside it", moves=5),
        ),
        note="10 classes in two groups of 5; the true logit is 8, the eight other wrong ones are 0",
        **_EVENNESS,
    ),
    "hinge": Picture(_each("margin", 1.0, 5.0)),
    "isomax": Picture(_each("entropic_scale", 5.0, 10.0, 20.0), **_DISTANCES),
    "isomax-plus": Picture(
        tuple(Curve(f"scale 10, d = {value:g}", factor=value) for value in (0.5, 1.0, 2.0)),
        others=(-(2**0.5),) * (CLASSES - 1),
        low=-1.0,
        high=0.98,
        logit=lambda cosine: -(2 - 2 * cosine).sqrt(),
        x="cosine between the features and the true prototype",
        push="push towards the true prototype (minus the derivative)",
        note="10 classes; the features are at right angles to the wrong prototypes",
        marks={0.0: "as near as the wrong ones"},
        baseline=Curve("scale 1: cross-entropy", objective="cross-entropy"),
    ),
    "label-smoothing": Picture(_each("smoothing", 0.05, 0.1, 0.2)),
    "ldam": Picture(
        (Curve(_COMMON), Curve(_RARE, target=9, moves=9)),
        baseline=Curve("cross-entropy of 30 × cosine", objective="cross-entropy", factor=30.0),
        **_COSINES,
    ),
    "logit-adjusted": Picture(
        (Curve(_COMMON), Curve(_RARE, target=9, moves=9)),
        low=-8.0,
        high=8.0,
        note="10 classes of 1000, 599, …, 10 rows; wrong logits 0, −0.5, −1, …, −4",
    ),
    "maxsup": Picture(
        tuple(Curve(f"alpha {value:g}", {"start": value, "end": value}) for value in (0.1, 0.2, 0.4))
    ),
    "noised-topk": Picture(
        (
            Curve("epsilon=1, expectation", {"samples": None}),
            Curve("epsilon=0.2, expectation", {"epsilon": 0.2, "samples": None}),
            Curve("epsilon=0, the hinge itself", {"epsilon": 0.0, "samples": 1}),
        ),
        marks=_TOP3,
    ),
    "noised-topk-imbalanced": Picture(
        (Curve(_COMMON, {"samples": None}), Curve(_RARE, {"samples": None}, target=9, moves=9)),
        marks={-0.2: "among the top 3"},
        baseline=Curve("cross-entropy of 50 × cosine", objective="cross-entropy", factor=50.0),
        **_COSINES,
    ),
    "poly1": Picture(_each("epsilon", 1.0, 2.0, 4.0)),
    "smooth-topk-svm": Picture(_each("temperature", 1.0, 0.3, 0.01), marks=_TOP3),
    "topk": Picture(
        (
            *_each("first", 0.5, 0.0),
            Curve("first=0, relaxation=lapsum", {"first": 0.0, "relaxation": "lapsum"}),
        ),
        marks=_TOP3,
    ),
    "topk-svm": Picture(_each("margin", 0.5, 1.0, 2.0), marks=_TOP3),
    "zero-one": Picture(
        tuple(Curve(kind, {"kind": kind}) for kind in ("sigmoid", "polynomial", "beta_bernoulli"))
    ),
}


def lines(name: str) -> list[Line]:
    """Return what the figure of an objective draws, cross-entropy first."""
    picture = PICTURES[name]
    x = torch.linspace(picture.low, picture.high, POINTS, dtype=torch.float64)
    return [_line(curve, name, picture, x) for curve in (picture.baseline, *picture.curves)]


def _line(curve: Curve, name: str, picture: Picture, x: Tensor) -> Line:
    criterion = build(curve.objective or name, curve.options).criteria(TASK)[-1]
    target = torch.tensor([curve.target])  # a class, or shares of classes
    stay = torch.tensor(picture.others, dtype=x.dtype)

    def loss_of_row(moving: Tensor) -> Tensor:
        row = torch.cat([stay[: curve.moves], picture.logit(moving)[None], stay[curve.moves :]])
        loss: Tensor = criterion(curve.factor * row[None], target)
        return loss

    slope, loss = torch.func.vmap(torch.func.grad_and_value(loss_of_row), randomness="same")(x)
    return Line(curve.label, x.numpy(), loss.numpy(), -slope.numpy())


def figure(name: str) -> str:
    """Return the figure of an objective as an SVG document, on white so that it can be read on any page."""

    def draw() -> Figure:
        return _figure(name)

    draw.__name__ = name
    document = svg(draw)().replace("<svg ", '<svg style="background: #ffffff; color: #222222" ', 1)
    # Hundredths of a point are enough for the eye, and with one font family the file is half as large.
    document = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", document)
    document = re.sub(r"font-family: [^;]*;", "font-family: sans-serif;", document)
    return document.replace(" \n", "\n")


def _figure(name: str) -> Figure:
    picture, drawn = PICTURES[name], Figure((9.0, 3.3))
    # Fixed places, not a layout that depends on the fonts of the machine.
    panels = drawn.subplots(1, 2, gridspec_kw={"left": 0.06, "right": 0.985, "bottom": 0.23, "top": 0.91})
    shown = lines(name)
    colours = [GREY, *COLOURS][: len(shown)]
    for panel, part in zip(panels, ("loss", "push"), strict=True):
        for number, (line, colour) in enumerate(zip(shown, colours, strict=True)):
            (path,) = panel.plot(*_broken(line.x, getattr(line, part)), color=colour)
            path.set_gid(f"{part}-{number}")
            path.get_path().should_simplify = False
        panel.axhline(0, color=INK, linewidth=0.8)
        for at in picture.marks:
            panel.axvline(at, color=INK, linewidth=0.6, linestyle=":")
        panel.set_xlim(picture.low, picture.high)
        panel.set_ylim(*_limits([getattr(line, part) for line in shown]))
        panel.set_xlabel(picture.x)
    panels[0].set_title("loss", loc="left")
    panels[1].set_title(picture.push, loc="left")
    _label(panels, shown, colours, picture)
    drawn.text(0.985, 0.02, picture.note, ha="right", fontsize=8)
    return drawn


def _broken(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve with a gap where it jumps: between points that are far apart, their neighbours not."""
    steps = np.abs(np.diff(y))
    around = np.maximum(np.append(steps[1:], 0), np.insert(steps[:-1], 0, 0))
    jumps = np.flatnonzero((steps > 0.02 * np.ptp(y)) & (steps > 8 * around)) + 1
    return np.insert(x, jumps, np.nan), np.insert(y, jumps, np.nan)


def _limits(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return what an axis shows: 0 and the curves, and the first as far as it squeezes none."""
    own = np.concatenate([*curves[1:], np.zeros(1)])
    low, high, room = own.min(), own.max(), np.ptp(own)
    low, high = max(low - room, min(low, curves[0].min())), min(high + room, max(high, curves[0].max()))
    return low - 0.14 * (high - low), high + 0.08 * (high - low)


Box = tuple[float, float, float, float]
"""Left, bottom, right and top, as shares of a panel."""


def _label(panels: Sequence[Axes], shown: Sequence[Line], colours: Sequence[str], picture: Picture) -> None:
    """Write the names of marks, of the zero line and of the curves, where they cover nothing."""
    paths = [[_path(panel, line.x, getattr(line, part)) for line in shown] for panel, part in _parts(panels)]
    taken: list[list[Box]] = [[], []]
    for at, text in picture.marks.items():
        if text:
            left = float((at - picture.low) / (picture.high - picture.low))
            taken[0].append((left, 1 - HEIGHT, left + LETTER * len(text), 1))
            panels[0].text(left, 0.99, f" {text}", transform=panels[0].transAxes, va="top", fontsize=8)
    for panel, around in zip(panels, paths, strict=True):
        around.append(_path(panel, shown[0].x, np.zeros(POINTS)))
    _write(panels[1], "0: no push", INK, _best(paths[1][-1], "0: no push", paths[1], taken[1])[1], taken[1])
    for number, line in enumerate(shown):
        found = [_best(paths[i][number], line.label, paths[i], taken[i]) for i in range(2)]
        side = int(found[1][0] > found[0][0])
        _write(panels[side], line.label, colours[number], found[side][1], taken[side])


def _parts(panels: Sequence[Axes]) -> zip[tuple[Axes, str]]:
    return zip(panels, ("loss", "push"), strict=True)


def _path(panel: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return points (P, 2) of a curve that lie close to each other, as shares of the panel."""
    dense = np.linspace(0, len(x) - 1, 4 * len(x))
    places = np.arange(len(x))
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    across = (np.interp(dense, places, x) - left) / (right - left)
    return np.stack([across, (np.interp(dense, places, y) - low) / (high - low)], axis=1)


def _best(own: np.ndarray, text: str, paths: Sequence[np.ndarray], taken: Sequence[Box]) -> tuple[float, Box]:
    """Return the box for a text close to its curve and far from all else, and how good it is."""
    width, gap = LETTER * len(text), 0.02
    others = [path for path in paths if path is not own]
    found = (-np.inf, (0.5, 0.5, 0.5 + width, 0.5 + HEIGHT))
    for x, y in own[8::8]:
        # A name is of no use where its curve is one with others.
        apart = min(min((_distance(path, (x, y, x, y)) for path in others), default=1.0), 0.03)
        for left in (x, x - width / 2, x - width):
            for bottom in (y + gap, y - gap - HEIGHT):
                box = (float(left), float(bottom), float(left + width), float(bottom + HEIGHT))
                if min(box[:2]) < 0.01 or max(box[2:]) > 0.99 or any(_overlap(box, old) for old in taken):
                    continue
                if _distance(own, box) < 0.005:
                    continue
                good = min((_distance(path, box) for path in others), default=1.0)
                found = max(
                    found, ((good > 0.008) + min(good, 0.15) + apart, box)
                )  # covering none comes first
    return found


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _distance(path: np.ndarray, box: Box) -> float:
    """Return how far a curve stays away from a box."""
    across = np.maximum(np.maximum(box[0] - path[:, 0], path[:, 0] - box[2]), 0)
    along = np.maximum(np.maximum(box[1] - path[:, 1], path[:, 1] - box[3]), 0)
    return float(np.hypot(across, along).min())


def _write(panel: Axes, text: str, colour: str, box: Box, taken: list[Box]) -> None:
    taken.append(box)
    panel.text(box[0], box[1] + 0.015, text, transform=panel.transAxes, color=colour, fontsize=8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in OBJECTIVES:
        (HERE / f"{name}.svg").write_text(figure(name), encoding="utf-8")
