"""From labels to classes: text as the file holds it, numbers where all labels are whole numbers."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from criterium.data.array import Array
from criterium.data.raw import counted, listed, shown
from criterium.data.text import MISSING

_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,999})(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def text_classes(path: Path, cells: Any, name: str) -> tuple[tuple[str, ...], Array, list[str]]:
    """Return the sorted class names of labels of text, a class index for each row, and notes.

    Labels are whole numbers, and sorted as such, if all of them are and no two are the same number.
    """
    codes = cells.dictionary_encode()
    texts, code = codes.dictionary.to_pylist(), codes.indices.to_numpy().astype(np.int64)
    if len({text.strip() for text in texts}) == len(texts):
        texts = [text.strip() for text in texts]
    counts = dict(zip(texts, np.bincount(code, minlength=len(texts)).tolist(), strict=True))
    numbers = {text: int(text.partition(".")[0]) for text in texts if _WHOLE.fullmatch(text)}
    if len(set(numbers.values())) == len(texts):
        names = [str(numbers[text]) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: numbers[texts[index]])
    elif (broken := next(filter(_has_fraction, texts), None)) and all(map(_NUMBER.fullmatch, texts)):
        raise ValueError(
            f"{path}: column {name!r} holds the label {broken[:60]}, expected text or whole numbers"
        )
    else:
        names, order = texts, sorted(range(len(texts)), key=lambda index: texts[index])
    rank = np.empty(len(texts), dtype=np.int64)
    rank[order] = np.arange(len(texts))
    return tuple(names[index] for index in order), rank[code], _notes(counts)


def number_classes(path: Path, values: Array, name: str) -> tuple[tuple[str, ...], Array]:
    """Return the sorted class names of labels that are numbers, and a class index for each row."""
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        whole = (values == np.floor(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            raise ValueError(
                f"{path}: column {name!r} holds the label {values[~whole][0]}, expected text or whole numbers"
            )
        values = values.astype(np.int64)
    names, targets = np.unique(values, return_inverse=True)
    return tuple(map(str, names.tolist())), targets.astype(np.int64)


def _has_fraction(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and float(text) % 1 != 0


def _notes(counts: dict[str, int]) -> list[str]:
    notes = []
    absent = [text for text in counts if text.strip().lower() in MISSING]
    if absent:
        names = listed([_with_rows(text, counts) for text in absent])
        notes.append(f"Labels that may stand for a missing one but are classes of their own: {names}.")
    alike: dict[str, list[str]] = {}
    for text in counts:
        alike.setdefault(_look(text), []).append(text)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        names = listed([" and ".join(_with_rows(text, counts) for text in group) for group in groups])
        notes.append(f"Labels that look alike are classes of their own: {names}.")
    return notes


def _with_rows(text: str, counts: dict[str, int]) -> str:
    return f"{shown(text)} ({counted(counts[text], 'row')})"


def _look(text: str) -> str:
    """Return what a reader sees of a label: without case, blanks, invisible characters and leading zeros."""
    seen = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    seen = " ".join(seen.casefold().split())
    if _NUMBER.fullmatch(seen) and len(seen) < 300:
        return repr(float(seen))
    return seen
