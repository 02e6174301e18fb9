"""Cells of text: which are missing, which are numbers, dates or flags, and how they were written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from criterium.data.array import Array

_ABSENT = """? ?? na n/a #n/a #na <na> nan -nan null <null> none nil - -- --- – — . .. * missing
1.#ind -1.#ind 1.#qnan -1.#qnan #div/0! #value! #null!"""
MISSING = frozenset(_ABSENT.split())
"""What stands for a missing number, in lower case."""

MOST_OTHERS = 0.1
"""A column is one of numbers if at most this part of its cells is other text."""

TEXT = pa.large_string()
_SPACE = r"[ '\x{a0}\x{202f}]"
_PLAIN = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
_POINTS = rf"^[+-]?\d{{1,3}}((,|{_SPACE})\d{{3}})+(\.\d*)?$"  # 1,000 and 1 000.5
_COMMAS = rf"^[+-]?(\d+|\d{{1,3}}((\.|{_SPACE})\d{{3}})+),\d+$"  # 1,5 and 1.000,5
_DATE = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?$"


@dataclass
class Reading:
    """What a column of text holds.

    `values` are numbers or dates as an Arrow array, null where a cell is missing; None if it is text.
    `missing`, `others` and `forms` count the cells, by how they are written, that stand for a missing number,
    are no number, or are numbers in another form than usual; `numbers` and `texts` count
    all cells that are numbers and that are none.
    """

    values: Any
    numbers: int = 0
    texts: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)


def trimmed(column: Any) -> Any:
    """Return the cells of a column of text without blanks around them, null where nothing is left."""
    cells = pc.utf8_trim_whitespace(column.cast(TEXT))
    return pc.if_else(pc.equal(pc.binary_length(cells), 0), None, cells)


def words_alone(cells: Any, missing: Collection[str], few: int = 100) -> bool:
    """Whether a column holds a few words without digits or blanks around them, which need no other look."""
    texts = pc.unique(cells).to_pylist() if len(cells) else []
    if not texts or len(texts) > few or {text.lower() for text in texts} <= {"true", "false", *missing}:
        return False
    return all(text and text == text.strip() and not any(map(str.isdigit, text)) for text in texts)


def interpret(cells: Any, missing: Collection[str] = MISSING, decimal: str | None = None) -> Reading:
    """Return the numbers, dates or flags that trimmed `cells` hold, or what stands against it.

    Args:
        cells: an Arrow array of text, null where a cell is empty.
        missing: what stands for a missing number, in lower case.
        decimal: ``"."`` or ``","``; by default a comma is one of thousands, unless a cell shows otherwise.

    """
    if decimal != ",":
        try:
            return Reading(exact(cells), len(cells) - cells.null_count)
        except pa.ArrowInvalid:
            pass
    codes = cells.dictionary_encode()
    texts, code = codes.dictionary, codes.indices
    counts = np.bincount(code.drop_null().to_numpy(), minlength=len(texts))
    if not pc.any(pc.match_substring_regex(texts, r"\d")).as_py() and not _may_be_flags(texts, missing):
        return Reading(None, texts=int(counts.sum()), others=_by_text(texts, counts, counts > 0))
    absent = _mask(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(missing), TEXT)))
    present = pc.if_else(pa.array(absent), None, texts)
    if (values := _dates(present)) is not None or (values := _flags(present)) is not None:
        found = int(counts[~absent].sum())
        return Reading(values.take(code), found, missing=_by_text(texts, counts, absent))
    percent = _mask(pc.ends_with(texts, "%"))
    clean = _usual_form(pc.replace_substring_regex(texts, r"^([+-]?)[$€£] *|\s*%$", r"\1"), decimal)
    numeric = ~absent & _matches(clean, _PLAIN)
    other = ~absent & ~numeric
    reading = Reading(None, int(counts[numeric].sum()), int(counts[other].sum()))
    reading.others = _by_text(texts, counts, other)
    if reading.numbers == 0 or reading.texts > MOST_OTHERS * (reading.numbers + reading.texts):
        return reading
    values = exact(pc.if_else(pa.array(numeric), clean, None))
    if percent.any():
        values = pc.if_else(pa.array(percent), pc.divide(values.cast(pa.float64()), 100.0), values)
    reading.values = values.take(code)
    reading.missing = _by_text(texts, counts, absent)
    reading.forms = _by_text(texts, counts, numeric & _mask(pc.not_equal(clean, texts)))
    return reading


def exact(cells: Any) -> Any:
    """Return cells of text as float64, or as int64 where float64 would make different integers equal."""
    values = cells.cast(pa.float64())
    known = values.to_numpy(zero_copy_only=False)
    if (np.abs(known) >= 2**53).any():
        try:
            return cells.cast(pa.int64())
        except pa.ArrowInvalid:  # not all are integers
            pass
    return values


def leading_zeros(cells: Any) -> dict[str, int]:
    """Count the cells, by how they are written, that have zeros before a whole number, as codes have."""
    zeros = pc.match_substring_regex(cells, r"^[+-]?0+\d+$")
    if not pc.any(zeros).as_py():
        return {}
    counts = pc.value_counts(cells.filter(zeros))
    return {row["values"]: row["counts"] for row in counts.slice(0, 10).to_pylist()}


def _usual_form(texts: Any, decimal: str | None) -> Any:
    """Return numbers with a decimal point and without marks of thousands; other texts as they are."""
    points, commas = _matches(texts, _POINTS), _matches(texts, _COMMAS)
    if decimal == ",":  # then 1.000 is a thousand
        commas |= _matches(texts, r"^[+-]?\d{1,3}(\.\d{3})+$")
    elif decimal == "." or not (commas & ~points).any() or (points & ~commas).any():
        return pc.if_else(pa.array(points), pc.replace_substring_regex(texts, rf",|{_SPACE}", ""), texts)
    # What can only be a decimal comma shows that all are.
    whole = pc.replace_substring_regex(texts, rf"\.|{_SPACE}", "")
    return pc.if_else(pa.array(commas), pc.replace_substring(whole, ",", "."), texts)


def _may_be_flags(texts: Any, missing: Collection[str]) -> bool:
    few = len(texts) <= len(missing) + 10
    return few and {text.lower() for text in texts.to_pylist()} - set(missing) <= {"true", "false"}


def _dates(texts: Any) -> Any:
    if not pc.all(pc.match_substring_regex(texts, _DATE), min_count=1).as_py():
        return None
    try:
        return texts.cast(pa.string()).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:  # such as 2024-13-01
        return None


def _flags(texts: Any) -> Any:
    true = pc.equal(lower := pc.utf8_lower(texts), "true")
    return true if pc.all(pc.or_(true, pc.equal(lower, "false")), min_count=1).as_py() else None


def _by_text(texts: Any, counts: Array, chosen: Array) -> dict[str, int]:
    at = np.flatnonzero(chosen)
    at = at[np.argsort(-counts[at], kind="stable")]
    return {texts[int(index)].as_py(): int(counts[index]) for index in at[:100]}


def _matches(texts: Any, pattern: str) -> Array:
    return _mask(pc.match_substring_regex(texts, pattern))


def _mask(values: Any) -> Array:
    mask: Array = values.to_numpy(zero_copy_only=False).astype(bool)
    return mask
