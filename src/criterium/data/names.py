"""Names that people give: lists of them in one argument, as ``"A,B"``, and those of the parts of data."""

from __future__ import annotations

from collections.abc import Sequence

_PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PART = {name: part for part, names in _PARTS.items() for name in names}
"""The part of the data, train, val or test, by the names in lower case that it has in folders and tables."""


def split_names(wanted: str, known: Sequence[str]) -> list[str]:
    """Return the names in ``"A,B"``; where names hold commas themselves, the longest that is known counts.

    Example:
        >>> split_names("Smith, John, x", ["x", "Smith, John", "Smith"])
        ['Smith, John', 'x']
    """
    pieces, names, found, start = wanted.split(","), set(known), [], 0
    most = max((name.count(",") for name in known), default=0) + 1
    while start < len(pieces):
        for end in range(min(start + most, len(pieces)), start, -1):
            name = ",".join(pieces[start:end])
            if name in names or name.strip() in names:
                break
        found.append(name if name in names else name.strip())
        start = end
    return found
