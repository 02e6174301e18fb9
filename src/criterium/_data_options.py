"""Options of the commands that say how data are read and split; see `criterium.data.Source`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DATA_OPTIONS: dict[str, tuple[Any, Any]] = {
    "groups": (
        Annotated[str | None, typer.Option(help="Column of patients or users: their rows stay together.")],
        None,
    ),
    "time": (
        Annotated[str | None, typer.Option(help="Column: the latest rows are tested on.")],
        None,
    ),
    "same_split": (Annotated[bool, typer.Option("--same-split", help="Split all repeats alike.")], False),
    "split": (Annotated[str | None, typer.Option(help="Column that says train, val or test.")], None),
    "test": (
        Annotated[Path | None, typer.Option(metavar="FILE", help="Another table that holds the test part.")],
        None,
    ),
    "drop": (Annotated[str | None, typer.Option(metavar="A,B", help="Columns to leave out.")], None),
    "missing": (
        Annotated[str | None, typer.Option(metavar="A,B", help="What stands for a missing number or label.")],
        None,
    ),
    "separator": (
        Annotated[str | None, typer.Option(help="Between the cells of a CSV file. [default: found out]")],
        None,
    ),
    "decimal": (
        Annotated[str | None, typer.Option(help="Of numbers in a CSV file: . or , [default: found out]")],
        None,
    ),
    "encoding": (Annotated[str | None, typer.Option(help="Of a CSV file. [default: found out]")], None),
    "max_pixels": (
        Annotated[int | None, typer.Option(help="The most an image may have. [default: 50,000,000]")],
        None,
    ),
    "image_size": (
        Annotated[int | None, typer.Option(help="Side to resize images to. [default: if sizes differ]")],
        None,
    ),
    "nested": (
        Annotated[bool, typer.Option("--nested", help="Images lie below class folders too.")],
        False,
    ),
    "skip_bad": (Annotated[int, typer.Option(help="Unreadable images to leave out at most.")], 0),
}
"""Type and default of each option, by its name in Python."""


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value != DATA_OPTIONS[name][1]}
