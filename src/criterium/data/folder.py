"""Folders of image files, one sub-folder a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from criterium.data.array import Array
from criterium.data.images import Shape, read_shape
from criterium.data.images import read_image as _read_image
from criterium.data.limits import MOST_PIXELS, fits
from criterium.data.names import PART
from criterium.data.raw import Raw, Rows, counted, listed

_NO_IMAGES = (
    *(".csv", ".db", ".htm", ".html", ".ini", ".json", ".md", ".pdf", ".tsv", ".txt"),
    *(".url", ".xml", ".yaml", ".yml", ".zip"),
)
_LARGEST_SIDE = 224
_NOTES = {
    "turned": "turned upright, as their EXIF orientation says",
    "on white": "laid on white where they are transparent",
    "first of several": "read as the first of several pictures in their file",
}


@dataclass(frozen=True)
class FolderOptions:
    """How a folder of images is read; see `criterium.data.Source`."""

    max_pixels: int = MOST_PIXELS
    image_size: int | None = None
    nested: bool = False
    skip_bad: int = 0


def read_folder(folder: Path, options: FolderOptions | None = None) -> Raw:
    """Return the images under `folder`, or under its parts if those hold class folders.

    Parts are called train, val and test, or the like, in any case; where there is no test, val is tested on.
    """
    options = FolderOptions() if options is None else options
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder, expected one that holds a sub-folder of images for each class"
        )
    names = [path.name for path in _subfolders(folder)]
    if not names:
        raise ValueError(f"{folder}: has no sub-folders, expected one of images for each class")
    parts = _parts(folder, names, options)
    notes: list[str] = []
    if parts.keys() == {"train", "val"}:
        notes.append(f"The folder {parts['val'].name} is tested on: there is none for a test part.")
        parts["test"] = parts.pop("val")
    files = {part: list(_files(place, options, notes)) for part, place in parts.items()}
    return _read_parts(folder, files, options, notes)


def _parts(folder: Path, names: list[str], options: FolderOptions) -> dict[str, Path]:
    given = [name for name in names if name.lower() in PART and _subfolders(folder / name)]
    if not given or (options.nested and set(given) < set(names)):
        return {"train": folder}
    parts = {PART[name.lower()]: folder / name for name in given}
    if len(parts) < len(names) or "train" not in parts or len(parts) < 2:
        raise ValueError(
            f"{folder}: has the sub-folders {listed(names)}, of which {' and '.join(given)} hold folders;"
            " expected either one sub-folder of images for each class, or train, and test or val or both"
        )
    return parts


def _files(folder: Path, options: FolderOptions, notes: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield the class and the path of each file that may be an image; what cannot be one is noted."""
    skipped = []
    for subfolder in _subfolders(folder):
        inside = subfolder.rglob("*") if options.nested else subfolder.iterdir()
        paths = sorted(path for path in inside if not path.name.startswith("."))
        if options.nested:
            paths = [path for path in paths if not path.is_dir()]
        kept = [path for path in paths if path.suffix.lower() not in _NO_IMAGES]
        skipped += [str(path.relative_to(folder)) for path in paths if path.suffix.lower() in _NO_IMAGES]
        if not kept:
            raise ValueError(f"{subfolder}: is empty, expected images of the class {subfolder.name!r}")
        yield from ((subfolder.name, path) for path in kept)
    if skipped:
        notes.append(f"Files left out, no images by their names: {listed(skipped)}.")


def _read_parts(
    folder: Path, files: dict[str, list[tuple[str, Path]]], options: FolderOptions, notes: list[str]
) -> Raw:
    every = [(part, name, path) for part, found in files.items() for name, path in found]
    images, good, image_notes = _read_images(folder, [path for *_, path in every], options)
    every = [every[index] for index in good]
    classes = tuple(sorted({name for _, name, _ in every}))
    number = {name: index for index, name in enumerate(classes)}
    targets = np.array([number[name] for _, name, _ in every], dtype=np.int64)
    of = np.array([part for part, *_ in every])
    rows = {part: Rows(images[of == part], targets[of == part]) for part in files}
    found = (*notes, *image_notes)
    return Raw(classes, rows["train"], rows.get("val"), rows.get("test"), notes=found)


def _read_images(
    folder: Path, paths: list[Path], options: FolderOptions
) -> tuple[Array, list[int], list[str]]:
    """Return images (N, C, H, W), all in colour where one is, which of `paths` they are, and notes."""
    bad: dict[int, str] = {}
    shapes: dict[int, Shape] = {}
    for index, path in enumerate(paths):
        try:
            shapes[index] = read_shape(path, options.max_pixels)
        except ValueError as error:
            _count_bad(bad, index, error, options)
    if not shapes:
        raise ValueError(f"{folder}: holds no image that can be read, expected some for each class")
    height, width, crop, notes = _common_size(list(shapes.values()), options)
    channels = max(shape.channels for shape in shapes.values())
    fits(f"{folder}: {counted(len(shapes), 'image')}", len(shapes) * channels * height * width)
    images = np.empty((len(shapes), channels, height, width), dtype=np.uint8)
    found, good = Counter[str](), list[int]()
    for index in shapes:
        try:
            image = _read_image(paths[index], found, options.max_pixels, (width, height) if crop else None)
        except ValueError as error:
            _count_bad(bad, index, error, options)
            continue
        images[len(good)] = image.transpose(2, 0, 1)
        good.append(index)
    notes += [f"{counted(found[what], 'image')} {words}." for what, words in _NOTES.items() if found[what]]
    if bad:
        names = listed([str(paths[index].relative_to(folder)) for index in sorted(bad)])
        notes.append(f"{counted(len(bad), 'image')} left out, which cannot be read: {names}.")
    return images[: len(good)], good, notes


def _count_bad(bad: dict[int, str], index: int, error: ValueError, options: FolderOptions) -> None:
    bad[index] = str(error)
    if len(bad) > options.skip_bad:
        raise (
            ValueError(f"{error}; skip_bad={options.skip_bad} leaves no more out")
            if options.skip_bad
            else error
        )


def _common_size(shapes: list[Shape], options: FolderOptions) -> tuple[int, int, bool, list[str]]:
    """Return height and width for all images, whether they are resized to it, and notes."""
    sizes = {(shape.width, shape.height) for shape in shapes}
    if len(sizes) == 1 and options.image_size is None:
        return shapes[0].height, shapes[0].width, False, []
    side = options.image_size
    if side is None:
        middle = float(np.median([min(shape[:2]) for shape in shapes]))
        side = max(1, min(_LARGEST_SIDE, int(middle)))
    (least, most) = (f"{width}x{height}" for width, height in (min(sizes), max(sizes)))
    had = f"have {least} pixels"
    if len(sizes) > 1:
        had = f"are of {len(sizes)} sizes, from {least} to {most} pixels"
    how = f"each was cropped to a square around its centre and resized to {side}x{side}"
    return side, side, True, [f"The images {had}: {how} (bicubic)."]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
