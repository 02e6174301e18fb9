"""Folders of image files, one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from criterium.data.array import Array
from criterium.data.files import reason
from criterium.data.raw import Raw, Rows

_PARTS = ("train", "test", "val")
_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")  # and I;16: more than 8 bits a channel, which a conversion to 8 bits would clip


def read_folder(folder: Path) -> Raw:
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
        return _read_parts({"train": folder})
    if not {"train", "test"} <= set(given) or set(names) - set(_PARTS):
        raise ValueError(
            f"{folder}: has the sub-folders {', '.join(names)}, of which {' and '.join(given)} hold folders;"
            " expected either one sub-folder of images for each class, or train, test and optionally val"
        )
    return _read_parts({name: folder / name for name in given})


def _read_parts(folders: dict[str, Path]) -> Raw:
    files = {part: _files(folder) for part, folder in folders.items()}
    classes = tuple(sorted({path.parent.name for paths in files.values() for path in paths}))
    number = {name: index for index, name in enumerate(classes)}
    images = _read_images([path for paths in files.values() for path in paths])
    rows = {}
    for part, paths in files.items():
        targets = np.array([number[path.parent.name] for path in paths], dtype=np.int64)
        rows[part] = Rows(images[: len(paths)], targets)
        images = images[len(paths) :]
    return Raw(classes, rows["train"], rows.get("val"), rows.get("test"))


def _files(folder: Path) -> list[Path]:
    found = []
    for subfolder in _subfolders(folder):
        paths = sorted(path for path in subfolder.iterdir() if not path.name.startswith("."))
        if not paths:
            raise ValueError(f"{subfolder}: is empty, expected images of the class {subfolder.name!r}")
        found += paths
    return found


def _read_images(paths: list[Path]) -> Array:
    """Return images (N, C, H, W), all in colour where one is."""
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            first, other = (f"{array.shape[1]}x{array.shape[0]}" for array in (images[0], image))
            raise ValueError(
                f"{path}: has {other} pixels but {paths[0]} has {first}, expected images of one size"
            )
    channels = max(image.shape[2] for image in images)
    pixels = np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images])
    return pixels.transpose(0, 3, 1, 2)


def _read_image(path: Path) -> Array:
    """Return an image (H, W, 1) or (H, W, 3)."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP):
                raise ValueError(f"its mode {image.mode} has more than 8 bits a channel")
            pixels = np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
    # Pillow's readers of broken files raise SyntaxError and ValueError too.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: {reason(error)}; expected an image of 8 bits a channel") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
