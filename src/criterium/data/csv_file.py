"""CSV files: encoding and separator found out or given, every cell read as the text it is."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from criterium.data.files import contents, existing_file, reason
from criterium.data.text import TEXT

_HEAD = 2**20  # bytes by which separator and encoding are judged
_BLOCK = 2**28  # the longest row, in bytes
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_csv(path: Path, separator: str | None = None, encoding: str | None = None) -> tuple[Any, list[str]]:
    """Return the cells of a CSV file as an Arrow table of text, with notes on what was guessed.

    The first row gives the names. Text between double quotes may hold separators and line breaks.

    Args:
        path: the file; if its name ends in ``.gz`` it is unpacked.
        separator: what stands between cells; by default the one of ``,``, ``;``, tab and ``|`` that gives
            the first rows the same number of cells.
        encoding: by default what a byte order mark says, else UTF-8, else Windows-1252.

    """
    data = contents(existing_file(path, "a table in csv format"))
    notes = []
    if encoding is None:
        encoding = _encoding(data)
        if encoding != "utf-8":
            notes.append(f"The file was read as {encoding}; if names look wrong, give its encoding.")
    data = _as_utf8(path, data, encoding)
    head = data[:_HEAD].decode("utf-8", errors="ignore")
    if separator is None:
        separator = _separator(head)
        if separator != ",":
            notes.append(f"The cells of the file are separated by {_SEPARATORS[separator]}.")
    try:
        names = next(_rows(data[:_BLOCK].decode("utf-8", errors="ignore"), separator), [])
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(block_size=min(len(data) + 1, _BLOCK)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, TEXT), null_values=[], strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, csv.Error, OSError) as error:
        raise ValueError(f"{path}: cannot be read as csv ({reason(error)})") from error
    return table, notes


def _encoding(data: bytes) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    head = data[:_HEAD]
    # Plain text in UTF-16 without a mark has a zero in every second byte.
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) > 3 and head[start::2].count(0) > 0.9 * len(head[start::2]):
            return name
    try:
        _check_utf8(data)
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _check_utf8(data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _HEAD):  # in pieces: the whole text need not fit beside the bytes
        decoder.decode(data[start : start + _HEAD])
    decoder.decode(b"", final=True)


def _as_utf8(path: Path, data: bytes, encoding: str) -> bytes:
    try:
        if codecs.lookup(encoding).name == "utf-8":
            _check_utf8(data)
            return data.removeprefix(codecs.BOM_UTF8)
        # The five bytes that Windows-1252 leaves open are control characters elsewhere.
        text = data.decode(encoding, errors="replace" if encoding == "windows-1252" else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is no {encoding} text ({error.reason} at byte {error.start:,}), expected it in"
            " another encoding"
        ) from error
    except LookupError as error:
        raise ValueError(f"encoding: got {encoding!r}, expected a name such as utf-8 or latin-1") from error
    return text.removeprefix("\ufeff").encode("utf-8", errors="replace")


def _separator(head: str) -> str:
    best, most = ",", 1
    for separator in _SEPARATORS:
        try:
            widths = [len(row) for row, _ in zip(_rows(head, separator), range(20), strict=False)]
        except csv.Error:
            continue
        if len(head) == _HEAD and len(widths) > 1:
            widths.pop()  # the last row may be cut
        if widths and min(widths) == max(widths) > most:
            best, most = separator, max(widths)
    return best


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    return (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row)
