"""Many runs in several processes, by joblib, and what is under way meanwhile."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from criterium.comparison.plan import Plan
from criterium.comparison.progress import Progress
from criterium.comparison.runs import Run, execute, read_progress

_POLL_SECONDS = 0.25


class RunFailed(RuntimeError):
    """A run could not be carried out, for a reason that is neither in the arguments nor in the data."""


def execute_all(
    plan: Plan,
    runs: Sequence[Run],
    root: Path,
    *,
    title: str,
    log: logging.Logger,
    progress: Progress,
    later: int = 0,
) -> list[dict[str, Any]]:
    """Carry out those of `runs` that are not finished, and return what all of them found, in order.

    `progress` is told of a stage called `title`, with `later` runs to come after it.
    """
    waiting = [run for run in runs if run.result(root) is None]
    if waiting:
        progress.stage(title, len(waiting), later)
        with _watch(waiting, root, progress):
            for run, result in _results(plan, waiting, root):
                log.info("%s: %s", run.name, {key: part for key, part in result.items() if key != "history"})
                progress.finished(run.name, describe(result))
    found = (run.result(root) for run in runs)
    return [result for result in found if result is not None]


def _results(plan: Plan, waiting: Sequence[Run], root: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    if plan.jobs == 1 or len(waiting) == 1:
        for run in waiting:
            yield _attempt(plan, run, root)
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=min(plan.jobs, len(waiting)), return_as="generator_unordered")
    try:
        yield from pool(delayed(_in_worker)(plan, run, root, sys.path) for run in waiting)
    except BrokenProcessPool as error:
        raise RunFailed(
            "a worker process was killed; if memory ran out, fewer at a time (--jobs) need less"
        ) from error


def _in_worker(plan: Plan, run: Run, root: Path, path: Sequence[str]) -> tuple[Run, dict[str, Any]]:
    """Attempt a run where modules are found as they are in the process that asks for it."""
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return _attempt(plan, run, root)


def _attempt(plan: Plan, run: Run, root: Path) -> tuple[Run, dict[str, Any]]:
    _leave_with_parent()
    try:
        return run, execute(plan, run, root)
    except (ValueError, OSError):
        raise
    except Exception as error:
        words = next(iter(str(error).splitlines()), "")
        raise RunFailed(f"{run.name}: {type(error).__name__}: {words}") from error


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


def describe(result: dict[str, Any]) -> str:
    """Return one line on what a run found: what may be known while the race goes on."""
    if "diverged" in result:
        return "diverged"
    error = result["history"]["validation_error"][-1]
    return (
        f"validation error {error:.1%}".replace("%", " %") + f" in {sum(result['history']['seconds']):.1f} s"
    )
