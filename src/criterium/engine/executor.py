"""Many runs in several processes, by joblib, and what is under way meanwhile."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from criterium._code import first_line
from criterium._files import words_of
from criterium.engine.progress import Progress

_POLL_SECONDS = 0.25


class RunFailed(RuntimeError):
    """A run could not be carried out, for a reason that is neither in the arguments nor in the data."""


Result = dict[str, Any]


class Run(Protocol):
    """What can be carried out, here or in another process, and leaves what it found in a folder."""

    @property
    def name(self) -> str:
        """What it is called where people look."""
        ...

    def place(self, root: Path) -> Path:
        """Return the folder of the run."""
        ...

    def result(self, root: Path) -> Result | None:
        """Return what the run found, or None while it is not finished."""
        ...

    def describe(self, result: Result) -> str:
        """Return one line on what it found: what may be known while others go on."""
        ...


R = TypeVar("R", bound=Run)
Work = Callable[[R, Path], Result]
"""Carries out a run in a folder, unless it is finished; it is sent to other processes."""


def execute_all(
    work: Work[R],
    runs: Sequence[R],
    root: Path,
    *,
    jobs: int,
    title: str,
    log: logging.Logger,
    progress: Progress,
    later: int = 0,
) -> list[Result]:
    """Carry out those of `runs` that are not finished, and return what all of them found, in order.

    `progress` is told of a stage called `title`, with `later` runs to come after it.
    """
    waiting = [run for run in runs if run.result(root) is None]
    if waiting:
        progress.stage(title, len(waiting), later)
        with _watch(waiting, root, progress):
            for run, result in _results(work, waiting, root, jobs):
                log.info("%s: %s", run.name, {key: part for key, part in result.items() if key != "history"})
                progress.finished(run.name, run.describe(result))
    found = (run.result(root) for run in runs)
    return [result for result in found if result is not None]


def _results(work: Work[R], waiting: Sequence[R], root: Path, jobs: int) -> Iterator[tuple[R, Result]]:
    if jobs == 1 or len(waiting) == 1:
        for run in waiting:
            yield _attempt(work, run, root)
        return
    from joblib import Parallel, delayed

    pool = Parallel(
        n_jobs=min(jobs, len(waiting)), return_as="generator_unordered", initializer=_leave_with_parent
    )
    with _without_signals():
        found = pool(delayed(_in_worker)(work, run, root, sys.path, Path.cwd()) for run in waiting)
    try:
        yield from found
    except BrokenProcessPool as error:
        raise RunFailed(
            "a worker process was killed; if memory ran out, fewer at a time (--jobs) need less"
        ) from error
    except BaseException:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tasks are cancelled is what is meant
            found.close()
        for child in multiprocessing.active_children():
            if child.name.startswith("Loky"):  # which joblib did not end
                child.kill()
        raise


@contextmanager
def _without_signals() -> Iterator[None]:
    """Have processes that begin meanwhile spared by signals to all of them: this one ends them."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fresh_workers() -> None:
    """Let the workers of earlier races go: they would know older versions of the user's own modules."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


_alone = threading.Lock()


def _in_worker(work: Work[R], run: R, root: Path, path: Sequence[str], here: Path) -> tuple[R, Result]:
    """Attempt a run where modules and files are found as they are in the process that asks for it."""
    os.chdir(here)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    # PyTorch's global generator is one for all threads of a process.
    if not _alone.acquire(blocking=False):
        raise ValueError(
            "jobs: got several runs in threads of one process, expected a process for each: random numbers of"
            " one would move those of another (joblib's loky backend, or workers with one thread)"
        )
    try:
        return _attempt(work, run, root)
    finally:
        _alone.release()


def _attempt(work: Work[R], run: R, root: Path) -> tuple[R, Result]:
    try:
        return run, work(run, root)
    except (Exception, SystemExit) as error:
        plain = isinstance(error, ValueError | OSError)  # whose words are meant for people
        words = words_of(error) if plain else first_line(error)
        raise RunFailed(f"{run.name}: {words}") from error


def _leave_with_parent() -> None:
    """In a worker process, see to it that it ends when the process that started it was killed."""
    parent = multiprocessing.parent_process()
    name = "criterium-leave-with-parent"
    if parent is None or any(thread.name == name for thread in threading.enumerate()):
        return
    started_by = parent.pid

    def watch() -> None:
        while os.getppid() == started_by:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


@contextmanager
def _watch(runs: Sequence[Run], root: Path, progress: Progress) -> Iterator[None]:
    """Tell `progress` of running runs from the small files they leave, whichever process they are in."""
    files = {run.name: run.place(root) / "progress" for run in runs}
    for path in files.values():
        path.unlink(missing_ok=True)  # of a process that was killed
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_POLL_SECONDS):
            progress.running({name: read_progress(path) for name, path in files.items() if path.exists()})

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def read_progress(path: Path) -> float:
    """Return the share of a run that is done; 0 where it cannot be told."""
    try:
        done, total = path.read_text(encoding="ascii").split()
        return int(done) / int(total)
    except (OSError, ValueError):
        return 0.0
