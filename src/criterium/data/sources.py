"""From the name of a source to its contents, and to the `Dataset` of a repeat."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from criterium._checks import at_least, choice
from criterium.data.array import Array
from criterium.data.catalogue import SOURCES
from criterium.data.contents import Contents
from criterium.data.dataset import Dataset
from criterium.data.files import one_line
from criterium.data.folder import FolderOptions, read_folder
from criterium.data.hierarchy import BUILT_IN, is_built_in, read_hierarchy
from criterium.data.limits import MOST_PIXELS
from criterium.data.npz import npz_test_inputs, read_npz
from criterium.data.official import OFFICIAL, official_test_inputs, read_official
from criterium.data.ood import check_ood, hold_out, match_form
from criterium.data.raw import Raw, Rows, check_classes
from criterium.data.splits import test_on_latest
from criterium.data.tables import TableOptions, read_table, read_table_cells

_TABLES = ("parquet", "csv")


class SourceOptions(TypedDict, total=False):
    """The fields of a `Source` but `data`, as keywords: editors and type checkers know them."""

    data_dir: str | os.PathLike[str] | None
    label: str | None
    ood: str | None
    validation: float
    hierarchy: str | os.PathLike[str] | None
    groups: str | None
    time: str | None
    same_split: bool
    split: str | None
    test: str | os.PathLike[str] | None
    drop: str | None
    missing: str | None
    separator: str | None
    decimal: str | None
    encoding: str | None
    max_pixels: int
    image_size: int | None
    nested: bool
    skip_bad: int


@dataclass(frozen=True)
class Source:
    """Which data, and how they are read and split: plain values that can be written down as JSON.

    Args:
        data: a name or ``kind:path`` from `SOURCES`.
        data_dir: the folder with the official files of ``fashion-mnist``, ``mnist``, ``cifar10`` or
            ``cifar100``.
        label: the column of a table that holds the classes.
        ood: OOD inputs: ``"classes:A,B"`` (names or numbers of classes, held out of training, validation and
            test), another source (its test rows, or all where it has no test part), ``"array"`` (``ood_x`` of
            an ``.npz`` file) or ``"none"``. By default ``"classes:8,9"`` for digits, ``"array"`` for a file
            that has ``ood_x``, else ``"none"``.
        validation: the part, between 0 and 1, of the rows that are not test.
        hierarchy: the tree that the classes hang in: a ``.csv`` or ``.json`` file of classes and their
            parents, or ``"cifar100"``, the default for that data; see `criterium.data.hierarchy`.
        groups: the column of a table that names the patient, user or the like of each row. Rows of one group
            are never on two sides of a split, and the column is no feature. An ``.npz`` file has the array
            ``groups`` for that (a group for each row of ``x_train``), and optionally ``groups_val`` and
            ``groups_test``.
        time: the column of a table by which rows are ordered: the latest 20 % are the test part, and the
            column is no feature.
        same_split: whether all repeats are split as the first one.
        split: the column of a table that says of each row whether it is for train, val or test.
        test: a file of the same form as a table, which holds the test part.
        drop: the columns of a table to leave out, as ``"A,B"``.
        missing: what stands for a missing number or label in a table, as ``"?,unknown"``, in any case. By
            default the usual words do among numbers, and only an empty cell does among labels.
        separator: what stands between the cells of a CSV file; by default it is found out, as `encoding` is.
        decimal: ``","`` if a comma in the numbers of a CSV file is a decimal one, ``"."`` if it is none; by
            default it is judged column by column.
        encoding: the encoding of a CSV file.
        max_pixels: the most pixels that one image of a folder may have.
        image_size: the side of the square that each image of a folder is cropped to around its centre and
            resized to; by default none if all are of one size, else the median of their shorter sides, at
            most 224.
        nested: whether the images of a class lie in folders below the class's own too.
        skip_bad: the most images that are left out, with a note, where they cannot be read.

    """

    data: str = "digits"
    data_dir: str | None = None
    label: str | None = None
    ood: str | None = None
    validation: float = 0.2
    hierarchy: str | None = None
    groups: str | None = None
    time: str | None = None
    same_split: bool = False
    split: str | None = None
    test: str | None = None
    drop: str | None = None
    missing: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    max_pixels: int = MOST_PIXELS
    image_size: int | None = None
    nested: bool = False
    skip_bad: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without reading; paths become text."""
        for name in ("data_dir", "hierarchy", "test"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.fspath(path))
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: got {self.validation!r}, expected a number between 0 and 1")
        kind, _ = _parse("data", self.data, [])
        for name, value in asdict(self.table_options).items():
            if value is not None and kind not in _TABLES:
                raise ValueError(
                    f"{name}: got {value!r} for {self.data}, expected it only with {' or '.join(_TABLES)}"
                )
        if self.data_dir is not None and not {kind, str(self.ood).partition(":")[0]} & set(OFFICIAL):
            raise ValueError(
                f"data_dir: got {self.data_dir!r} for {self.data}, expected it only with"
                f" {' or '.join(OFFICIAL)}"
            )
        for name, default in asdict(FolderOptions()).items():
            if getattr(self, name) != default and kind != "folder":
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r} for {self.data}, expected it only with folder"
                )
        at_least("max_pixels", self.max_pixels, 1)
        at_least("skip_bad", self.skip_bad, 0)
        if self.image_size is not None:
            at_least("image_size", self.image_size, 1)
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise ValueError(f"separator: got {self.separator!r}, expected one character, such as ';'")
        if self.decimal is not None:
            choice("decimal", self.decimal, [".", ","])

    @classmethod
    def of(cls, data: str = "digits", **options: Unpack[SourceOptions]) -> Source:
        """Return the source with these options, of which some may be paths."""
        return cls(data, **options)  # type: ignore[arg-type]  # `__post_init__` makes text of paths

    @property
    def table_options(self) -> TableOptions:
        """What concerns tables."""
        return TableOptions(**{field.name: getattr(self, field.name) for field in fields(TableOptions)})

    @property
    def folder_options(self) -> FolderOptions:
        """What concerns folders of images."""
        return FolderOptions(**{field.name: getattr(self, field.name) for field in fields(FolderOptions)})

    @property
    def place(self) -> str:
        """The file or folder that is read; empty for data that come with a library."""
        return self.data.partition(":")[2] or self.data_dir or ""

    def read(self) -> Contents:
        """Return the contents of the source, all files read and checked.

        Raises:
            ValueError: in one line, what in which file was wrong and what was expected.

        """
        with one_line(self.place):
            return self._contents()

    def _contents(self) -> Contents:
        folder = None if self.data_dir is None else Path(self.data_dir).expanduser()
        raw = _read(self, folder)
        named, notes = raw.classes, []
        wanted = self.ood
        if wanted is None:
            wanted = "classes:8,9" if self.data == "digits" else "none" if raw.ood is None else "array"
        ood: Array | None = None
        if wanted.startswith("classes:"):
            raw, ood, note = hold_out(raw, wanted.removeprefix("classes:"))
            notes = [note]
        elif wanted != "none":
            ood, notes = _read_ood(wanted, raw, self, folder)
        notes += raw.notes
        if raw.train.times is not None and raw.test is not None:
            raise ValueError(
                "time: got a column, but the data has a test part of its own, expected one of both"
            )
        if raw.train.times is not None and len(raw.train):
            raw, note = test_on_latest(raw, raw.train.times)
            notes.append(note)
        raw = check_classes(raw)
        if ood is not None:
            notes += check_ood(wanted, ood, raw.parts())
        hierarchy = self.hierarchy
        if hierarchy is None and self.data == BUILT_IN and is_built_in(raw.classes):
            hierarchy = BUILT_IN
        return Contents(
            name=self.data,
            place=self.place,
            raw=raw,
            ood=ood,
            ood_name=None if ood is None else wanted,
            notes=tuple(notes),
            hierarchy=None if hierarchy is None else read_hierarchy(hierarchy, raw.classes, named),
            validation=self.validation,
            same_split=self.same_split,
        )


def read(data: str = "digits", **options: Unpack[SourceOptions]) -> Contents:
    """Read labelled data once, to be split for each repeat: ``read(...).split(repeat)``.

    Args:
        data: a name or ``kind:path`` from `SOURCES`.
        options: the other arguments of `Source`.

    Returns:
        The `Contents`.

    Raises:
        ValueError: in one line, what in which file was wrong and what was expected.

    """
    return Source.of(data, **options).read()


def load(data: str = "digits", **options: Unpack[SourceOptions]) -> Dataset:
    """Load labelled data, split so that no input is met twice, with OOD inputs.

    The split is that of repeat 0: it depends on the data, never on the seed of a run. Parts that the source
    brings are kept. Otherwise 20 % of the rows become test, and `validation` of those that are not test
    become validation, class by class; rows with the same input stay together, and training rows whose input
    also occurs in the test part never become validation. Whatever is fitted (statistics, categories,
    replacements for missing cells) is fitted on the training rows.

    Args:
        data: a name or ``kind:path`` from `SOURCES`.
        options: the other arguments of `Source`, such as ``label="outcome"``.

    Returns:
        The `Dataset`.

    Raises:
        ValueError: in one line, what in which file was wrong and what was expected.

    Example:
        >>> from criterium.data import load
        >>> digits = load("digits")
        >>> digits.classes, tuple(digits.train.inputs.shape)
        (('0', '1', '2', '3', '4', '5', '6', '7'), (925, 1, 8, 8))
        >>> digits.notes[0]
        'Classes 8 and 9 were left out of training and serve as OOD inputs.'
    """
    return read(data, **options).split()


def _read(source: Source, data_dir: Path | None) -> Raw:
    kind, path = _parse("data", source.data, [])
    if kind in OFFICIAL:
        return read_official(kind, data_dir)
    if kind in _TABLES:
        return read_table(path, kind, source.table_options)
    if kind == "npz":
        return read_npz(path)
    return read_folder(path, source.folder_options) if kind == "folder" else _read_digits()


def _read_ood(ood: str, raw: Raw, source: Source, data_dir: Path | None) -> tuple[Array, list[str]]:
    """Return the inputs of another source in the form of those in `raw`, with notes."""
    if ood == "array":
        if raw.ood is None:
            raise ValueError("ood: got 'array', but the data has no array ood_x")
        return raw.ood, []
    kind, path = _parse("ood", ood, ["classes:A,B", "array", "none"])
    if (kind in _TABLES) != (raw.columns is not None):
        wanted = "a table with the same columns" if kind not in _TABLES else "no table, as the data is none"
        raise ValueError(f"ood: got {ood!r}, expected {wanted}")
    if raw.columns is not None:
        return read_table_cells(path, kind, raw.columns, source.table_options), []
    if kind in OFFICIAL:
        inputs = official_test_inputs(kind, data_dir)
    elif kind == "npz":
        inputs = npz_test_inputs(path, raw.origin)
    else:
        other = read_folder(path, source.folder_options) if kind == "folder" else _read_digits()
        inputs = (other.train if other.test is None else other.test).inputs
    return match_form(ood, inputs, raw.train.inputs)


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits  # takes a second, and only digits need it

    images, targets = load_digits(return_X_y=True)
    # The values 0 to 16 spread over 0 to 255; rounding keeps all 17 apart.
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Raw(tuple("0123456789"), Rows(pixels, targets.astype(np.int64)))


def _parse(argument: str, source: str, others: list[str]) -> tuple[str, Path]:
    """Return the kind of a source and its path, which only kinds with a colon have."""
    kind, colon, place = source.partition(":")
    if f"{kind}{colon}" not in {name[: name.find(":") + 1] or name for name in SOURCES}:
        choice(argument, source, [*SOURCES, *others])
    if colon and not place:
        raise ValueError(f"{argument}: got {source!r}, expected a path after the colon")
    return kind, Path(place).expanduser()
