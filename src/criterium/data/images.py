"""One image file: opened by an explicit list of formats, its size known before its pixels are read."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from criterium.data.array import Array
from criterium.data.files import existing_file, reason
from criterium.data.limits import MOST_PIXELS

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is read, by contents. Never EPS and the like, for which Pillow starts another program."""

_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")  # and I;16: more than 8 bits a channel, which a conversion to 8 bits would clip
_ORIENTATION = 0x0112  # in EXIF: 1 as stored, 5 to 8 on its side


class Shape(NamedTuple):
    """Height, width and channels, as an image is seen."""

    height: int
    width: int
    channels: int


def read_shape(path: Path, max_pixels: int = MOST_PIXELS) -> Shape:
    """Return the shape of an image from its header; raise a `ValueError` if it is none or too large."""
    with _opened(path, max_pixels) as image:
        width, height = image.size if _orientation(image) < 5 else image.size[::-1]
        return Shape(height, width, 1 if image.mode in _GREY else 3)


def read_image(
    path: Path,
    found: Counter[str] | None = None,
    max_pixels: int = MOST_PIXELS,
    size: tuple[int, int] | None = None,
) -> Array:
    """Return an image (H, W, 1) or (H, W, 3) as it is seen: upright, on white where it is transparent.

    Args:
        path: the file.
        found: counts what was done: ``"turned"``, ``"on white"``, ``"first of several"``.
        max_pixels: the most pixels that an image may have.
        size: width and height to which it is cropped, around its centre, and resized.

    """
    counts = Counter[str]() if found is None else found
    with _opened(path, max_pixels) as image:
        counts["first of several"] += getattr(image, "n_frames", 1) > 1
        grey, upright = image.mode in _GREY, image
        if _orientation(image) > 1:
            upright = ImageOps.exif_transpose(image)
            counts["turned"] += 1
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            counts["on white"] += np.asarray(upright)[..., 3].min() < 255
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        plain = upright.convert("RGB").convert("L") if grey else upright.convert("RGB")
        if size is not None and plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BICUBIC)
        pixels = np.asarray(plain)
    return pixels[..., None] if pixels.ndim == 2 else pixels


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    expected = "an image of 8 bits a channel"
    existing_file(path, expected)
    Image.init()
    theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, on sizes that are checked here and on broken EXIF
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                if (size := image.width * image.height) > max_pixels:
                    raise ValueError(f"has {size:,} pixels, more than max_pixels={max_pixels:,} allows")
                if image.mode.startswith(_DEEP):
                    raise ValueError(f"its mode {image.mode} has more than 8 bits a channel")
                yield image
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: has more pixels than max_pixels={max_pixels:,} allows") from error
    except Exception as error:  # Pillow's readers of broken files raise whatever their parsing meets
        why = reason(error).replace(f" {str(path)!r}", "")
        raise ValueError(f"{path}: {why}; expected {expected}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = theirs


def _orientation(image: Image.Image) -> int:
    try:
        turned = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF says nothing
        return 1
    return turned if isinstance(turned, int) and 1 <= turned <= 8 else 1
