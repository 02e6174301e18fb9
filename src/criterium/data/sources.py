"""From the name of a source to a `Dataset`: read, hold out, split, fit, and describe."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from criterium._checks import choice
from criterium.data.arrays import npz_test_inputs, read_npz
from criterium.data.catalogue import SOURCES
from criterium.data.columns import fit
from criterium.data.dataset import Dataset, assemble
from criterium.data.folder import read_folder
from criterium.data.hierarchy import BUILT_IN, is_built_in, read_hierarchy
from criterium.data.official import OFFICIAL, official_test_inputs, read_official
from criterium.data.ood import check_elsewhere, hold_out, match_form
from criterium.data.raw import Array, Raw, Rows, check_classes
from criterium.data.splits import split
from criterium.data.tables import read_table, read_table_cells

_TABLES = ("parquet", "csv")


def load(
    data: str = "digits",
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    ood: str | None = None,
    validation: float = 0.2,
    hierarchy: str | Path | None = None,
) -> Dataset:
    """Load labelled data, split so that no input is met twice, with inputs from elsewhere.

    The split is fixed: it depends on the data, never on the seed of a run. Parts that the source brings
    are kept. Otherwise 20 % of the rows become test, and `validation` of those that are not test become
    validation, class by class; rows with the same input stay together, and training rows whose input
    also occurs in the test part never become validation. Whatever is fitted (statistics, categories,
    replacements for missing cells) is fitted on the training rows.

    Args:
        data: a name or ``kind:path`` from `SOURCES`.
        data_dir: the folder with the official files of ``fashion-mnist``, ``mnist``, ``cifar10`` or
            ``cifar100``.
        label: the column of a table that holds the classes.
        ood: inputs from elsewhere: ``"classes:A,B"`` (names or numbers of classes, held out of training,
            validation and test), another source (its test rows, or all where it has no test part),
            ``"array"`` (``ood_x`` of an ``.npz`` file) or ``"none"``. By default ``"classes:8,9"`` for
            digits, ``"array"`` for a file that has ``ood_x``, else ``"none"``.
        validation: the part, between 0 and 1, of the rows that are not test.
        hierarchy: the tree that the classes hang in: a ``.csv`` or ``.json`` file of classes and their
            parents, or ``"cifar100"``, the default for that data; see `criterium.data.hierarchy`.

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
        'Classes 8 and 9 were left out of training and serve as inputs from elsewhere.'
    """
    if not 0 < validation < 1:
        raise ValueError(f"validation: got {validation!r}, expected a number between 0 and 1")
    folder = None if data_dir is None else Path(data_dir).expanduser()
    raw = _read(data, folder, label)
    named = raw.classes
    if ood is None:
        ood = "classes:8,9" if data == "digits" else "none" if raw.ood is None else "array"

    elsewhere, notes = None, []
    if ood.startswith("classes:"):
        raw, elsewhere, note = hold_out(raw, ood.removeprefix("classes:"))
        notes = [note]
    elif ood != "none":
        elsewhere, notes = _read_elsewhere(ood, raw, folder)
    raw = check_classes(raw)
    parts, split_notes = split(raw, validation)
    notes = [*notes, *raw.notes, *split_notes]
    if elsewhere is not None:
        notes += check_elsewhere(ood, elsewhere, parts)

    if raw.columns is not None:
        encode, fit_notes = fit(raw.columns, parts["train"].inputs)
        parts = {part: Rows(encode(rows.inputs), rows.targets) for part, rows in parts.items()}
        elsewhere = None if elsewhere is None else encode(elsewhere)
        notes += fit_notes
    ood_name = None if elsewhere is None else ood
    if hierarchy is None and data == BUILT_IN and is_built_in(raw.classes):
        hierarchy = BUILT_IN
    tree = None if hierarchy is None else read_hierarchy(str(hierarchy), raw.classes, named)
    return assemble(data, raw.classes, parts, elsewhere, ood_name, tuple(notes), tree)


def _read(data: str, data_dir: Path | None, label: str | None) -> Raw:
    kind, path = _parse("data", data, [])
    if label is not None and kind not in _TABLES:
        raise ValueError(f"label: got {label!r} for {data}, expected it only with {' or '.join(_TABLES)}")
    if kind in OFFICIAL:
        return read_official(kind, data_dir)
    if kind in _TABLES:
        return read_table(path, kind, label)
    if kind == "npz":
        return read_npz(path)
    return read_folder(path) if kind == "folder" else _read_digits()


def _read_elsewhere(ood: str, raw: Raw, data_dir: Path | None) -> tuple[Array, list[str]]:
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
        return read_table_cells(path, kind, raw.columns), []
    if kind in OFFICIAL:
        inputs = official_test_inputs(kind, data_dir)
    elif kind == "npz":
        inputs = npz_test_inputs(path)
    else:
        source = read_folder(path) if kind == "folder" else _read_digits()
        inputs = (source.train if source.test is None else source.test).inputs
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
