"""What a search found: as records, as JSON, and as tables for the terminal and for Markdown."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from criterium._files import plain
from criterium.architecture_search.plan import model_path
from criterium.architecture_search.ranking import (
    MEASURES,
    Correlation,
    Row,
    agreement,
    difference,
    finished,
    kendall,
    signed,
)
from criterium.data import Source
from criterium.statistics.render import pipes

_WORDS = ("network", "measure")
_SHOWN = 10
"""Networks in the table, besides those that were trained."""


@dataclass(frozen=True)
class ArchitectureSearch:
    """Networks ranked untrained, best first, and what training found of some of them.

    `rows` holds for each network its name, what `score_architecture` found, and the validation error where it
    was trained; `failed` the networks that could not be scored, each with its reason.
    """

    folder: Path
    space: str
    source: Source
    rows: tuple[Row, ...]
    failed: tuple[Row, ...]

    @property
    def correlations(self) -> dict[str, Correlation]:
        """Kendall's tau of each measure with validation accuracy, over the trained networks."""
        return {measure: agreement(self.rows, measure) for measure in MEASURES}

    @property
    def best(self) -> Row:
        """The trained network with the lowest validation error, or the first where none was trained."""
        return min(finished(self.rows) or self.rows[:1], key=lambda row: row.get("validation_error", 0.0))

    @property
    def race_command(self) -> str:
        """What trains the best network under every objective, with its test rows read once."""
        words = ["criterium", "compare", "--model", model_path(self.best["network"])]
        for field in fields(self.source):
            value = getattr(self.source, field.name)
            if value != field.default or field.name == "data":
                option = f"--{field.name.replace('_', '-')}"
                words += [option] if value is True else [option, str(value)]
        return shlex.join(words)

    def records(self) -> list[dict[str, Any]]:
        """Return one dict a network, all with the same keys, ranked ones first."""
        keys = dict.fromkeys(key for row in (*self.rows, *self.failed) for key in row)
        extra = ("validation_error", "training_seconds", "diverged", "failed")
        every = [*(key for key in keys if key not in extra), *extra]
        return [{key: row.get(key) for key in every} for row in (*self.rows, *self.failed)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it, None for what is not finite."""
        return {
            "folder": str(self.folder),
            "space": self.space,
            "data": self.source.data,
            "networks": [{key: plain(value) for key, value in row.items()} for row in self.records()],
            "kendall": {
                name: {key: plain(value) for key, value in vars(found).items()}
                for name, found in self.correlations.items()
            },
        }

    def tables(self) -> Group:
        """Return what the terminal shows."""
        title = f"{len(self.rows)} networks of {self.space} on {self.source.data}, best NASWOT first"
        parts: list[Any] = [Text(title), _table(*_network_cells(self))]
        if count := len(finished(self.rows)):
            parts.append(Text(f"Kendall's tau with validation accuracy, {count} trained"))
            parts.append(_table(*_correlation_cells(self)))
        return Group(*parts, *map(Text, self.words()))

    def to_markdown(self) -> str:
        """Return the same in Markdown."""
        blocks = [pipes(*_network_cells(self), left=_WORDS)]
        if finished(self.rows):
            blocks.append(pipes(*_correlation_cells(self), left=_WORDS))
        return "\n\n".join([*blocks, "\n".join(f"- {line}" for line in self.words())]) + "\n"

    def words(self) -> list[str]:
        """Return in plain sentences what the numbers say, and what they do not."""
        said = []
        if len(self.rows) > 2:
            scores, sizes = ([row[key] for row in self.rows] for key in ("naswot", "parameters"))
            tau = signed(kendall(scores, sizes).tau)
            said.append(f"NASWOT and the number of parameters agree on all {len(self.rows)} with tau {tau}.")
        singular = [row for row in self.rows if not math.isfinite(row["naswot"])]
        if singular:
            example = f"{singular[0]['network']}: {singular[0]['reason']}"
            said.append(f"The kernel of {len(singular)} is singular, such as of {example}.")
        if self.failed:
            example = f"{self.failed[0]['network']}: {self.failed[0]['failed']}"
            said.append(f"{len(self.failed)} cannot be scored, such as {example}")
        trained = len(finished(self.rows))
        if trained and math.isnan(self.correlations["naswot"].low):
            said.append(
                f"How well a measure ranks cannot be told from {trained} trained; --train 20 trains more."
            )
        elif trained:
            said.append(_verdict(self.rows))
        diverged = [row["network"] for row in self.rows if "diverged" in row]
        if diverged:
            said.append(f"Diverged in training, and left out: {', '.join(diverged)}.")
        return said


def _verdict(rows: Sequence[Row]) -> str:
    gap, low, high = difference(rows, "naswot", "parameters")
    shown = "better than" if low > 0 else "worse than" if high < 0 else "better or worse than"
    shown = f"is {'' if low > 0 or high < 0 else 'not '}shown to rank these networks {shown}"
    return (
        f"NASWOT {shown} their number of parameters does: its tau differs by {signed(gap)}"
        f" (95 % interval {signed(low)} to {signed(high)})."
    )


def _network_cells(found: ArchitectureSearch) -> tuple[list[str], list[list[str]]]:
    trained = any(_is_trained(row) for row in found.rows)
    headings = ["rank", "network", *MEASURES.values(), *(["validation error, %"] if trained else [])]
    rows = []
    for place, row in enumerate(found.rows):
        if place < _SHOWN or _is_trained(row):
            cells = [str(place + 1), row["network"], _decimal(row["naswot"]), f"{row['parameters']:,}"]
            cells += [f"{row['flops']:,}", _decimal(row["log_synflow"])]
            rows.append(cells + ([_error(row)] if trained else []))
    return headings, rows


def _correlation_cells(found: ArchitectureSearch) -> tuple[list[str], list[list[str]]]:
    headings = ["measure", "tau", "95 % interval", "p"]
    rows = []
    for measure, tau in found.correlations.items():
        interval = "–" if math.isnan(tau.low) else f"{signed(tau.low)} to {signed(tau.high)}"
        p = "–" if math.isnan(tau.p) else "< 0.001" if tau.p < 0.001 else f"{tau.p:.3f}"
        rows.append([MEASURES[measure], signed(tau.tau), interval, p])
    return headings, rows


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    """Return a table, words to the left and numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        words = heading in _WORDS
        table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for cells in rows:
        table.add_row(*map(Text, cells))  # names of models may look like markup
    return table


def _is_trained(row: Row) -> bool:
    return "validation_error" in row or "diverged" in row


def _error(row: Row) -> str:
    if "diverged" in row:
        return "diverged"
    return f"{100 * row['validation_error']:.2f}" if "validation_error" in row else ""


def _decimal(value: float) -> str:
    return f"{value:.1f}".replace("-", "−").replace("inf", "∞").replace("nan", "–")
