"""Many runs in several processes, by joblib, and what is under way meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from criterium.comparison.plan import Plan
from criterium.comparison.progress import Progress
from criterium.comparison.runs import Run, execute, read_progress

_POLL_SECONDS = 0.25


def execute_all(
    plan: Plan, runs: Sequence[Run], root: Path, progress: Progress, title: str
) -> list[dict[str, Any]]:
    """Carry out those of `runs` that are not finished, and return what all of them found, in order."""
    waiting = [run for run in runs if run.result(root) is None]
    progress.stage(title, len(waiting))
    if waiting:
        with _watch(waiting, root, progress):
            for run, result in _results(plan, waiting, root):
                progress.finished(run.name, describe(result))
    found = (run.result(root) for run in runs)
    return [result for result in found if result is not None]


def _results(plan: Plan, waiting: Sequence[Run], root: Path) -> Iterator[tuple[Run, dict[str, Any]]]:
    if plan.jobs == 1 or len(waiting) == 1:
        for run in waiting:
            yield run, execute(plan, run, root)
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=min(plan.jobs, len(waiting)), return_as="generator_unordered")
    yield from pool(delayed(_labelled)(plan, run, root) for run in waiting)


def _labelled(plan: Plan, run: Run, root: Path) -> tuple[Run, dict[str, Any]]:
    return run, execute(plan, run, root)


@contextmanager
def _watch(runs: Sequence[Run], root: Path, progress: Progress) -> Iterator[None]:
    """Tell `progress` of running runs from the small files they leave, whichever process they are in."""
    files = {run.name: run.place(root) / "progress" for run in runs}
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
