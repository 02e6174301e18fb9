"""The folder of a comparison: claimed by one process at a time, with its settings and its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from criterium._files import is_partial, regular, slug

_PLACES = ("runs", "tuning", "trained")
"""The folders in which each run has one of its own."""


def free_folder(path: Path) -> Path:
    """Return `path` if it is not there yet or empty, else raise a `ValueError`."""
    if "\0" in str(path) or not str(path).strip():
        raise ValueError(f"out: got {str(path)!r}, expected the name of a folder")
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {path} is a file, expected a new or an empty folder")
    # A process that was killed at the very beginning leaves only its lock.
    if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise ValueError(f"out: {path} holds other files, expected a new or an empty folder")
    return path


def new_folder(name: str) -> Path:
    """Make a folder under "runs", called after the data and the time."""
    stem = f"{slug(Path(name).stem)[:60]}-{time.strftime('%Y%m%d-%H%M%S')}"
    Path("runs").mkdir(exist_ok=True)
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        root = Path("runs") / f"{stem}{suffix}"
        with suppress(FileExistsError):
            root.mkdir()
            return root
    raise OSError(f"runs/{stem}: exists, with all its namesakes")


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the system lets go when this one dies, however it does."""
    root.mkdir(parents=True, exist_ok=True)
    regular(root / ".lock")  # a link's end would be emptied
    lock = filelock.FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{root}: another process is working on this comparison") from None
    try:
        _sweep(root)
        yield
    finally:
        lock.release()


def made_place(root: Path, place: Path) -> Path:
    """Return `place`, a folder of a run below `root`, and make it where it is not there.

    Raises:
        ValueError: it, or a folder on the way to it, is a link, which may lead anywhere.

    """
    for folder in [*reversed(place.relative_to(root).parents), place.relative_to(root)]:
        here = root / folder
        if folder != Path() and (here.is_symlink() or (here.exists() and not here.is_dir())):
            kind = "a link" if here.is_symlink() else "a file"
            raise ValueError(f"{here}: is {kind}, expected a folder of this run; remove it and go on")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _sweep(root: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    places = [root, *(place for kind in _PLACES for place in _entries(root / kind))]
    for place in places:
        for entry in _entries(place):
            if is_partial(entry.name) or (entry.name == "progress" and place != root):
                with suppress(OSError):
                    entry.unlink()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


@contextmanager
def opened_log(root: Path) -> Iterator[logging.Logger]:
    """Open `log.txt` to append to."""
    log = logging.getLogger(f"criterium.{root.resolve()}")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = _Log(regular(root / "log.txt"), encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        with suppress(OSError):  # of a full disk, which was raised when the line was written
            handler.close()


class _Log(logging.FileHandler):
    """Raises what goes wrong, where the standard one prints a traceback and goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise the exception at hand."""
        raise  # it is called while one is handled
