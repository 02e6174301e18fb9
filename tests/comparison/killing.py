"""Kill a race at random moments, go on with it, and compare what is left at the end: `make kill`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = [
    "cross-entropy",
    "hinge",
    "--model",
    "linear",
    "--epochs",
    "3",
    "--tune",
    "2",
    "--repeats",
    "2",
    "--jobs",
    "2",
    "--device",
    "cpu",
    "-q",
]
KINDS = ("SIGKILL", "SIGTERM", "SIGINT", "a worker")
_LOOSE = {"log.txt", "report.html", "cost.json", "run.json", ".lock"}
"""They hold times."""


def begin(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "criterium.cli", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def members(session: int, what: str = "") -> list[int]:
    """Return the living processes of a session."""
    shown = subprocess.run(["ps", "-eo", "sid=,pid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=3) for line in shown.stdout.splitlines()]
    return [int(r[1]) for r in rows if int(r[0]) == session and r[2][0] != "Z" and what in r[3]]


def contents(root: Path) -> dict[str, bytes]:
    """Return the files of a race, those without times with what is in them."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): b"" if path.name in _LOOSE else path.read_bytes() for path in files}


def kill_races(kills: int, seed: int) -> Iterator[str]:
    """Yield a line for each kill; raise an `AssertionError` where something is lost or left."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(f"{i * 37 % 101 / 50 + i % 3},{i * 13 % 17},{'abc'[i % 3]}\n" for i in range(90))
        (folder / "t.csv").write_text("x,z,y\n" + lines, encoding="utf-8")
        words = ["compare", *WORDS, "--data", "csv:t.csv", "--label", "y", "--out", "race"]
        begun = time.monotonic()
        process = begin(words, folder)
        process.communicate()
        assert process.returncode == 0
        took = time.monotonic() - begun
        wanted = contents(folder / "race")
        while kills > 0:
            shutil.rmtree(folder / "race")
            for kind in draw.choices(KINDS, k=min(kills, 3)):
                kills -= 1
                yield kill_once(draw, kind, words, folder, took)
            started = (folder / "race" / "config.json").exists()
            process = begin(["resume", "race", "-q"] if started else words, folder)
            said = process.communicate()[1]
            assert process.returncode == 0, said
            assert contents(folder / "race") == wanted


def kill_once(draw: random.Random, kind: str, words: list[str], folder: Path, took: float) -> str:
    """Begin or go on, kill after a while, and see that nothing lives on."""
    started = (folder / "race" / "config.json").exists()
    process = begin(["resume", "race", "-q"] if started else words, folder)
    time.sleep(draw.uniform(0.3, 1.0) * took)
    workers = members(process.pid, "popen_loky") if kind == "a worker" else []
    begun = time.monotonic()
    if kind == "a worker":
        for one in workers[:1]:
            os.kill(one, signal.SIGKILL)
    elif process.poll() is None:
        number = signal.Signals[kind]
        os.kill(process.pid, number) if draw.random() < 0.5 else os.killpg(process.pid, number)
    said = process.communicate()[1]
    seconds = time.monotonic() - begun
    codes = {"SIGKILL": {-9, 0}, "SIGTERM": {143, 0, -15}, "SIGINT": {130, 0}, "a worker": {0, 2}}[kind]
    assert process.returncode in codes, (kind, process.returncode, said)
    assert len(said.splitlines()) <= 1, (kind, process.returncode, said)
    if kind in ("SIGTERM", "SIGINT"):
        assert seconds < 5, seconds
    end = time.monotonic() + 5
    while left := members(process.pid):
        assert time.monotonic() < end, left
        time.sleep(0.1)
    return f"{kind}: {process.returncode} after {seconds:.1f} s: {said.strip()}"


if __name__ == "__main__":
    for line in kill_races(int(sys.argv[1]), int(sys.argv[2])):
        print(line, flush=True)  # noqa: T201
