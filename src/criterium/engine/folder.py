"""The folder of a comparison: claimed by one process at a time, with its settings and its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from criterium._files import slug


def free_folder(path: Path) -> Path:
    """Return `path` if it is not there yet or empty, else raise a `ValueError`."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {path} is a file, expected a new or an empty folder")
    if (path / "config.json").exists():
        raise ValueError(
            f"out: {path} holds a comparison already, expected a new or an empty folder;"
            f" go on with that one by: criterium resume {path}"
        )
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
    lock = filelock.FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{root}: another process is working on this comparison") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opened_log(root: Path) -> Iterator[logging.Logger]:
    """Open `log.txt` to append to."""
    log = logging.getLogger(f"criterium.{root.resolve()}")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = _Log(root / "log.txt", encoding="utf-8")
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
