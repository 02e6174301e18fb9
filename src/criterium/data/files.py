"""What every reader of files says in the same words."""

from __future__ import annotations

from pathlib import Path


def existing_file(path: Path, expected: str) -> Path:
    """Return `path` if it is a file, else raise a `ValueError` that says what was `expected`."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected {expected}")
    return path


def reason(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
