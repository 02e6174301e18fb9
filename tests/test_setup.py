"""What every study shares: threads and processes."""

from __future__ import annotations

import joblib
import pytest

from criterium.data import Source
from criterium.engine.setup import Setup
from criterium.training import Recipe


@pytest.mark.parametrize(
    ("said", "jobs", "threads"),
    [("1", 1, 1), ("3", 2, 3), ("", 1, 8), ("", 2, 4), ("0", 3, 2), ("all", 16, 1)],
)
def test_threads_of_a_run_are_what_the_environment_says(
    said: str, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    setup = Setup.here(Source(), Recipe(), "cpu", "float32", jobs)
    assert (setup.jobs, setup.threads) == (jobs, threads)
