"""Lists of names in one argument, as ``"A,B"``."""

from __future__ import annotations

from collections.abc import Sequence


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
