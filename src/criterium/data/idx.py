"""IDX files, the format of MNIST: a big-endian header and bytes, plain or gzipped."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from criterium.data.array import Array
from criterium.data.files import contents
from criterium.data.raw import Rows


def has_idx(folder: Path) -> bool:
    """Whether `folder` holds the test images; training files may be absent."""
    return _file(folder, "t10k-images", 3) is not None


def read_idx(folder: Path, part: str) -> Rows:
    """Return the rows of ``"train"`` or ``"test"``, images (N, 1, H, W)."""
    stem = "t10k" if part == "test" else part
    _, images = _read(folder, f"{stem}-images", 3)
    path, labels = _read(folder, f"{stem}-labels", 1)
    if len(labels) != len(images):
        raise ValueError(f"{path}: holds {len(labels)} labels, expected {len(images)}, one an image")
    return Rows(images[:, None], labels.astype(np.int64))


def _file(folder: Path, stem: str, dimensions: int) -> Path | None:
    endings = (f"-idx{dimensions}-ubyte", f".idx{dimensions}-ubyte")
    paths = [folder / f"{stem}{ending}{packed}" for ending in endings for packed in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _read(folder: Path, stem: str, dimensions: int) -> tuple[Path, Array]:
    path = _file(folder, stem, dimensions)
    if path is None:
        raise ValueError(f"{folder}: no file {stem}-idx{dimensions}-ubyte or {stem}-idx{dimensions}-ubyte.gz")
    found = contents(path)
    # Two zero bytes, 0x08 for unsigned bytes, the number of dimensions, then each of their sizes.
    start = 4 + 4 * dimensions
    if len(found) < start or found[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(
            f"{path}: starts with {found[:4].hex() or 'nothing'}, expected 0000080{dimensions}, an IDX"
            f" file of unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}"
        )
    shape = struct.unpack(f">{dimensions}I", found[4:start])
    if len(found) - start != math.prod(shape):
        raise ValueError(
            f"{path}: holds {len(found) - start} bytes of data, expected {math.prod(shape)}"
            f" for the shape {shape} of its header"
        )
    return path, np.frombuffer(found, dtype=np.uint8, offset=start).reshape(shape).copy()
