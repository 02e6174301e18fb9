"""What a source hands over: rows as NumPy arrays, before any split, fit or statistic."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from criterium.data.array import Array
from criterium.data.keys import row_keys, together


@dataclass(frozen=True)
class Column:
    """A column of numbers or, where `categories` is set, of categories.

    Numbers are held less `origin`, which is set for integers that float64 cannot tell apart otherwise. A
    `part` of a date, or of a list of numbers (by its place), is a column of its own.
    """

    name: str
    categories: tuple[str, ...] | None = None
    origin: int = 0
    part: str | None = None

    @property
    def title(self) -> str:
        """The name for a reader."""
        if self.part is None:
            return self.name
        return f"{self.name}[{self.part}]" if self.part.isdecimal() else f"{self.name} ({self.part})"


@dataclass(frozen=True)
class Rows:
    """Inputs with a class index each; where they are known, groups, whose rows stay together, and times."""

    inputs: Array
    targets: Array
    groups: Array | None = None
    times: Array | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.targets)

    def __getitem__(self, index: Array) -> Rows:
        """Return the rows that an index array or a mask picks."""
        groups = None if self.groups is None else self.groups[index]
        times = None if self.times is None else self.times[index]
        return Rows(self.inputs[index], self.targets[index], groups, times)

    @cached_property
    def keys(self) -> Array:
        """A hash of each input."""
        return row_keys(self.inputs)

    @cached_property
    def units(self) -> Array:
        """The same number for rows that stay together: of one input, or of one group."""
        return self.keys if self.groups is None else together(self.keys, self.groups)


@dataclass(frozen=True)
class Raw:
    """The contents of a source; `train` holds all rows where the source has no `test`.

    Inputs are uint8 images (N, C, H, W) or features (N, F), float32 or float64; where `columns` is set they
    are the cells of a table (see `criterium.data.columns`), which features are made from after the split.
    `origin` (F,) was subtracted from features that are large integers.
    """

    classes: tuple[str, ...]
    train: Rows
    validation: Rows | None = None
    test: Rows | None = None
    ood: Array | None = None
    columns: tuple[Column, ...] | None = None
    origin: Array | None = None
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, Rows]:
        """Return the parts that the source has, by name."""
        named = {"training": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in named.items() if rows is not None}


def keep_classes(raw: Raw, kept: Array) -> Raw:
    """Return the rows whose class is in `kept` (indices, ascending), classes numbered anew."""
    number = np.full(len(raw.classes), -1)
    number[kept] = np.arange(len(kept))

    def renumber(rows: Rows) -> Rows:
        targets = number[rows.targets]
        return replace(rows, targets=targets)[targets >= 0]

    return replace(
        raw,
        classes=tuple(raw.classes[index] for index in kept),
        train=renumber(raw.train),
        validation=None if raw.validation is None else renumber(raw.validation),
        test=None if raw.test is None else renumber(raw.test),
    )


def check_classes(raw: Raw) -> Raw:
    """Return `raw` with the classes of its training rows; raise a `ValueError` if other rows have more."""
    trained = np.unique(raw.train.targets)
    for name, rows in raw.parts().items():
        if len(rows) == 0:
            raise ValueError(f"data: the {name} part holds no rows")
        unknown = np.setdiff1d(rows.targets, trained)
        if len(unknown):
            raise ValueError(
                f"data: class {shown(raw.classes[unknown[0]])} occurs in the {name} part"
                " but not in the training part, so no model can learn it"
            )
    if len(trained) < 2:
        raise ValueError(f"data: got one class, {shown(raw.classes[trained[0]])}, expected at least two")
    return raw if len(trained) == len(raw.classes) else keep_classes(raw, trained)


def shown(text: str, most: int = 60) -> str:
    """Return a name in quotes, shortened, in plain characters where it has others that cannot be seen."""
    short = text if len(text) <= most else f"{text[:most]}..."
    return repr(short) if short.isprintable() and unicodedata.is_normalized("NFC", short) else ascii(short)


def counted(number: int, thing: str) -> str:
    """Return ``"1 row"`` or ``"2 rows"``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def listed(names: list[str], most: int = 10) -> str:
    """Return names for a note, the first few of many."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= 200 else f"{name[:200]}..." for name in names[:most]) + rest
