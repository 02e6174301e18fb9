"""Folders of image files, one sub-folder a class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from criterium.data.array import Array
from criterium.data.images import read_image as _read_image
from criterium.data.images import read_shape
from criterium.data.limits import MOST_PIXELS, fits
from criterium.data.raw import Raw, Rows, counted

_PARTS = ("train", "test", "val")
_NOTES = {
    "turned": "turned upright, as their EXIF orientation says",
    "on white": "laid on white where they are transparent",
    "first of several": "read as the first of several pictures in their file",
}


def read_folder(folder: Path, max_pixels: int = MOST_PIXELS) -> Raw:
    """Return the images under `folder`, or under its train/, test/ and val/ if those hold class folders."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder, expected one that holds a sub-folder of images for each class"
        )
    names = [path.name for path in _subfolders(folder)]
    if not names:
        raise ValueError(f"{folder}: has no sub-folders, expected one of images for each class")
    given = [name for name in names if name in _PARTS and _subfolders(folder / name)]
    if not given:
        return _read_parts({"train": folder}, max_pixels)
    if not {"train", "test"} <= set(given) or set(names) - set(_PARTS):
        raise ValueError(
            f"{folder}: has the sub-folders {', '.join(names)}, of which {' and '.join(given)} hold folders;"
            " expected either one sub-folder of images for each class, or train, test and optionally val"
        )
    return _read_parts({name: folder / name for name in given}, max_pixels)


def _read_parts(folders: dict[str, Path], max_pixels: int) -> Raw:
    files = {part: _files(folder) for part, folder in folders.items()}
    classes = tuple(sorted({path.parent.name for paths in files.values() for path in paths}))
    number = {name: index for index, name in enumerate(classes)}
    images, notes = _read_images([path for paths in files.values() for path in paths], max_pixels)
    rows = {}
    for part, paths in files.items():
        targets = np.array([number[path.parent.name] for path in paths], dtype=np.int64)
        rows[part] = Rows(images[: len(paths)], targets)
        images = images[len(paths) :]
    return Raw(classes, rows["train"], rows.get("val"), rows.get("test"), notes=notes)


def _files(folder: Path) -> list[Path]:
    found = []
    for subfolder in _subfolders(folder):
        paths = sorted(path for path in subfolder.iterdir() if not path.name.startswith("."))
        if not paths:
            raise ValueError(f"{subfolder}: is empty, expected images of the class {subfolder.name!r}")
        found += paths
    return found


def _read_images(paths: list[Path], max_pixels: int) -> tuple[Array, tuple[str, ...]]:
    """Return images (N, C, H, W), all in colour where one is, and notes."""
    shapes = [read_shape(path, max_pixels) for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if shape[:2] != shapes[0][:2]:
            first, other = (f"{width}x{height}" for height, width, _ in (shapes[0], shape))
            raise ValueError(
                f"{path}: has {other} pixels but {paths[0]} has {first}, expected images of one size"
            )
    height, width, _ = shapes[0]
    channels = max(shape.channels for shape in shapes)
    size = (len(paths), channels, height, width)
    fits(f"{paths[0].parent.parent}: {counted(len(paths), 'image')}", int(np.prod(size, dtype=object)))
    images, found = np.empty(size, dtype=np.uint8), Counter[str]()
    for index, path in enumerate(paths):
        images[index] = _read_image(path, found, max_pixels).transpose(2, 0, 1)
    notes = [f"{counted(found[what], 'image')} {words}." for what, words in _NOTES.items() if found[what]]
    return images, tuple(notes)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
