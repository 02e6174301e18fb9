"""How every figure looks, and how it becomes SVG that can stand beside others in one page."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

# Mid-tones: each has a contrast of 3 or more with white and with a dark page. Told apart with red-green
# blindness too, and never by colour alone: each objective has its own marker.
GREY = "#7a7a7a"
COLOURS = ("#2a7fc9", "#d55e00", "#009e73", "#c15fa3", "#a8820a")
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")

# Stands for the page's own text colour, so that figures follow it into the dark.
INK = "#010203"

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and can be searched and read aloud
    "text.parse_math": False,  # a name may hold dollar signs
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def look(position: int) -> tuple[str, str]:
    """Return colour and marker of the objective at this position of the table; the baseline's is 0.

    >>> look(0)
    ('#7a7a7a', 'o')
    """
    if position == 0:
        return GREY, "o"
    return COLOURS[(position - 1) % len(COLOURS)], MARKERS[(position - 1) % len(MARKERS)]


def svg(draw: Callable[Arguments, Figure]) -> Callable[Arguments, str]:
    """Make a function that draws a figure return it as an ``<svg>`` element, the same bytes every time."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> str:
        name = draw.__name__
        with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
            file = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            draw(*args, **kwargs).savefig(file, format="svg", metadata=nothing)
        return _inline(file.getvalue(), name)

    return drawn


def _inline(document: str, name: str) -> str:
    element = document[document.index("<svg") :]
    # Matplotlib counts its ids from 1 in every figure; in one page they must differ.
    element = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", element)
    # The page decides on the width, and viewBox keeps the proportions.
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    return element.replace(INK, "currentColor")
