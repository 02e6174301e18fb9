"""The binary version of CIFAR-10 and CIFAR-100: records of label bytes and 3x32x32 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from criterium.data.array import Array
from criterium.data.files import existing_file
from criterium.data.limits import fits
from criterium.data.raw import Rows

_PIXELS = 3 * 32 * 32
_LONGEST_NAMES = 2**16


class Layout(NamedTuple):
    """Where the files of one set lie, and how many label bytes lead a record (the last one counts)."""

    folder: str
    pickled: str
    files: dict[str, tuple[str, ...]]
    names: str
    label_bytes: int


LAYOUTS = {
    "cifar10": Layout(
        folder="cifar-10-batches-bin",
        pickled="cifar-10-batches-py",
        files={
            "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        names="batches.meta.txt",
        label_bytes=1,
    ),
    "cifar100": Layout(
        folder="cifar-100-binary",
        pickled="cifar-100-python",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


def has_cifar(folder: Path, layout: Layout) -> bool:
    """Whether `folder` holds the test images; training files may be absent."""
    return (folder / layout.files["test"][0]).is_file()


def class_names(folder: Path, layout: Layout) -> tuple[str, ...]:
    """Return the names of the classes, from the text file beside the records."""
    path = existing_file(folder / layout.names, "the names of the classes")
    with path.open(encoding="utf-8", errors="replace") as file:
        return tuple(file.read(_LONGEST_NAMES).split())


def read_cifar(folder: Path, layout: Layout, part: str) -> Rows:
    """Return the rows of ``"train"`` or ``"test"``, images (N, 3, 32, 32)."""
    records = np.concatenate([_records(folder / name, layout.label_bytes) for name in layout.files[part]])
    images = np.ascontiguousarray(records[:, layout.label_bytes :]).reshape(-1, 3, 32, 32)
    return Rows(images, records[:, layout.label_bytes - 1].astype(np.int64))


def _records(path: Path, label_bytes: int) -> Array:
    existing_file(path, "records of CIFAR's binary version")
    fits(f"{path}: its records", path.stat().st_size)
    contents = np.fromfile(path, dtype=np.uint8)
    length = label_bytes + _PIXELS
    if len(contents) == 0 or len(contents) % length:
        raise ValueError(
            f"{path}: holds {len(contents)} bytes, expected a multiple of {length}, one record each"
        )
    return contents.reshape(-1, length)
