"""Training with 100,000 classes from the command line: which ways fit into how much memory.

`make` cuts a set of many classes out of the training images of CIFAR-100. A class is one half, left or right,
of one image. Its rows are windows of 16 x 16 pixels of that half, at different heights and half the
resolution: 8 x 8 x 3 = 192 numbers. Windows overlap, so that rows of validation and test, of 1,000 classes
each, can be told by what was learnt from their neighbours (the nearest one is right in 99 of 100 cases).

`run` trains on that file with `criterium train`, each way in a process of its own, without a limit and with
one on the memory that the process may ask for.

    python benchmarks/many_classes.py make many.npz --data-dir DIR
    python benchmarks/many_classes.py run many.npz --batch-size 1024 --limit 4
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

HELD_OUT = 8
"""Height of the windows of validation and test; those of training are one or two pixels away."""

HEIGHTS = (7, 9, 6, 10)
EVALUATED = 1000
WAYS = {"eager": [], "fused": ["--fused"]}
GIB = 2**30


def windows(images: np.ndarray, height: int) -> np.ndarray:
    """Return (2 N, 192) numbers from 0 to 1, a window of each half of images (N, 3, 32, 32)."""
    # (N, colours, 8 rows, 2 in one, halves, 8 columns, 2 in one)
    pixels = images[:, :, height : height + 16].reshape(-1, 3, 8, 2, 2, 8, 2).mean(axis=(3, 6))
    return (pixels.transpose(0, 3, 1, 2, 4).reshape(-1, 192) / 255).astype(np.float32)


def make(path: Path, data_dir: Path, classes: int, rows: int) -> None:
    from criterium.data.official import read_official

    images = read_official("cifar100", data_dir).train.inputs[: (classes + 1) // 2]
    train = [windows(images, height)[:classes] for height in HEIGHTS[:rows]]
    arrays = {"x_train": np.concatenate(train), "y_train": np.tile(np.arange(classes), rows)}
    chosen = np.random.default_rng(0).permutation(classes)[: 2 * EVALUATED]
    for part, some in zip(("val", "test"), np.array_split(chosen, 2), strict=True):
        arrays |= {f"x_{part}": windows(images, HELD_OUT)[some], f"y_{part}": some}
    np.savez(path, **arrays)
    print({name: array.shape for name, array in arrays.items()})


class Outcome(NamedTuple):
    said: str
    peak: float
    seconds: float


def train(arguments: list[str], limit: float | None) -> Outcome:
    """Run `criterium train` on the CPU, with at most `limit` GiB of memory of its own."""

    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit * GIB),) * 2)

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        call = [sys.executable, "-m", "criterium.cli", "train", *arguments, "--out", f"{folder}/run"]
        start = time.monotonic()
        process = subprocess.Popen(
            [*call, "--device", "cpu", "--quiet"],
            preexec_fn=confine,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    failed = lines[-1].split(";")[0] if lines else f"ended with {process.returncode}"
    return Outcome("fits" if process.returncode == 0 else failed, usage.ru_maxrss * 1024 / GIB, seconds)


def run(asked: argparse.Namespace) -> None:
    options = {"model": asked.model, "epochs": asked.epochs, "batch-size": asked.batch_size}
    arguments = [asked.objective, "--data", f"npz:{asked.file}"]
    arguments += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    print(f"criterium train {' '.join(arguments)}\n")
    print("| way | limit, GiB | | peak resident, GiB | seconds |")
    print("| --- | ---: | --- | ---: | ---: |")
    for limit in (None, *asked.limit):
        for way in asked.ways:
            found = train([*arguments, *WAYS[way]], limit)
            shown = "none" if limit is None else f"{limit:g}"
            print(f"| {way} | {shown} | {found.said} | {found.peak:.2f} | {found.seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("make", help="write the set")
    maker.add_argument("file", type=Path)
    maker.add_argument("--data-dir", type=Path, required=True, help="folder with the files of CIFAR-100")
    maker.add_argument("--classes", type=int, default=100_000)
    maker.add_argument("--rows", type=int, default=1, choices=range(1, 5), help="training rows of a class")
    maker.set_defaults(carry_out=lambda asked: make(asked.file, asked.data_dir, asked.classes, asked.rows))
    runner = commands.add_parser("run", help="train on it, with and without a limit")
    runner.add_argument("file", type=Path)
    runner.add_argument("--objective", default="cross-entropy")
    runner.add_argument("--model", default="linear")
    runner.add_argument("--epochs", type=int, default=1)
    runner.add_argument("--batch-size", type=int, default=256)
    runner.add_argument("--limit", type=float, nargs="*", default=[], help="GiB that a process may ask for")
    runner.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    runner.set_defaults(carry_out=run)
    asked = parser.parse_args()
    asked.carry_out(asked)


if __name__ == "__main__":
    main()
