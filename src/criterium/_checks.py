"""Checks of arguments, with messages that name the argument, what it was and what it should be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from itertools import islice

_MOST_NAMES = 2000  # more would take seconds to compare, and no reader looks through them


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'exact'?"`` for a near miss, and an empty string for a far one."""
    looked_at = [other for other in islice(known, _MOST_NAMES) if len(other) < 200]
    close = difflib.get_close_matches(name.lower()[:200], looked_at, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def choice(argument: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`, else raise a `ValueError` with the nearest names."""
    options = list(known)
    if value not in options:
        raise ValueError(
            f"{argument}: got {value!r}, expected one of {_listed(options)}{nearest(str(value), options)}"
        )
    return value


def _listed(names: list[str], most: int = 100) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _finite(value: object) -> bool:
    try:
        # Comparisons, because a compiler follows them for a number that changes from call to call.
        return bool(-math.inf < value < math.inf)  # type: ignore[operator]
    except (TypeError, OverflowError, ValueError, RuntimeError):  # of what is no number, or not one
        return False


def positive(argument: str, value: float) -> float:
    """Return `value` if it is a finite number above zero, else raise a `ValueError`."""
    if not (_finite(value) and value > 0):
        raise ValueError(f"{argument}: got {value!r}, expected a finite number above 0")
    return value


def non_negative(argument: str, value: float) -> float:
    """Return `value` if it is a finite number of at least zero, else raise a `ValueError`."""
    if not (_finite(value) and value >= 0):
        raise ValueError(f"{argument}: got {value!r}, expected a finite number of at least 0")
    return value


def at_least(argument: str, value: int, least: int) -> int:
    """Return `value` if it is a whole number of at least `least`, else raise a `ValueError`."""
    if isinstance(value, bool) or not _finite(value) or int(value) != value or value < least:
        raise ValueError(f"{argument}: got {value!r}, expected a whole number of at least {least}")
    return int(value)
