"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
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

    Raises:
        ValueError: something that is no regular file has that name: a folder, a link, a pipe or a device.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with whole(folder / "a.txt") as partial:
        ...     _ = partial.write_text("done")
        >>> [entry.name for entry in folder.iterdir()]
        ['a.txt']

    """
    target = regular(path)
    # Names may be 255 bytes long.
    partial = target.with_name(f".{target.name[:_LONGEST]}.{os.getpid()}")
    try:
        yield partial
        partial.replace(regular(target))
    except OSError as error:
        if error.filename in (None, str(partial)):  # no name, or one that nobody gave
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_partial(name: str) -> bool:
    """Return whether `whole` gives such names: after a kill they are left."""
    return re.fullmatch(r"\..+\.[0-9]+", name, re.DOTALL) is not None


def regular(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it is free or a regular file, else raise a `ValueError`."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return Path(path)
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no regular file")
        raise ValueError(f"{path}: is {kind}, expected a new or a regular file")
    return Path(path)


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return `path` with the home folder for a ``~`` at its beginning, where a shell did not put it."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises for a user who is not there


def run_folder_of(path: str | os.PathLike[str]) -> Path | None:
    """Return the run folder that `path` lies in, or None."""
    place = Path(path).resolve()
    return next((folder for folder in (place, *place.parents) if _is_run(folder)), None)


_SETTINGS = ({"plan", "data", "machine"}, {"search", "data", "machine"})
"""What `config.json` holds of a comparison, and of a search."""


def _is_run(folder: Path) -> bool:
    try:
        found = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and any(found.keys() >= parts for parts in _SETTINGS)


def page_at(path: str | os.PathLike[str]) -> Path:
    """Return where a page or a figure is to go, unless that is a file that a run wrote.

    Raises:
        ValueError: it is no place for a page, in one line.

    """
    target = regular(expanded(path))
    if target.suffix not in (".html", ".svg") and (folder := run_folder_of(target.parent)) is not None:
        raise ValueError(
            f"out: {target} lies in the run folder {folder}, expected a name that ends in .html or .svg there"
        )
    return target


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if unpaired(text):  # names of files need not be text
        text = json.dumps(value, indent=2)
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def unpaired(text: str) -> bool:
    """Return whether `text` holds half characters, which no file of text can: surrogates."""
    return re.search("[\ud800-\udfff]", text) is not None


_MOST_BYTES = 2**29
"""More is no JSON that criterium wrote."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what the JSON file `path` holds.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is no file, or no JSON.

    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
                raise ValueError(f"{path}: is not a JSON file, but no regular one or one of too many bytes")
            content = file.read()
    except IsADirectoryError:
        raise ValueError(f"{path}: is not a JSON file, but a folder") from None
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a JSON file ({error})") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, but do not wait for somebody to write into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def words_of(error: BaseException) -> str:
    """Return what went wrong in one line, with the file if it was about one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if _named(error) else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _named(error: OSError) -> bool:
    return isinstance(error.filename, str | bytes | os.PathLike)


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
