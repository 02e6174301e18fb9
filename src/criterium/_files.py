"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LONGEST = 120
"""Characters of a file name that is still like what it is called after."""


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there takes the name `path` at the end.

    After an exception, or a kill at any time, `path` is what it was before.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with whole(folder / "a.txt") as partial:
        ...     _ = partial.write_text("done")
        >>> [entry.name for entry in folder.iterdir()]
        ['a.txt']

    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        if error.filename == str(partial):  # a name that nobody gave
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as JSON."""
    with whole(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what the JSON file `path` holds.

    Raises:
        ValueError: if it is no JSON.

    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not a JSON file ({error})") from error


def slug(label: str) -> str:
    """Return `label` as a file name."""
    name = re.sub(r"[^A-Za-z0-9.=_-]+", "_", label)
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
