"""What every reader of files does first, in the same words."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from criterium.data.limits import fits, no_bomb


def existing_file(path: Path, expected: str) -> Path:
    """Return `path` if it is a regular file, else raise a `ValueError` that says what was `expected`.

    Devices, pipes and sockets are refused: reading them may never end.
    """
    if path.is_file():
        return path
    what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "no such file"
    raise ValueError(f"{path}: {what}, expected {expected}")


def reason(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    line = next(iter(str(error).splitlines()), "").strip() or type(error).__name__
    return line if len(line) <= most else f"{line[:most]}..."


_LONGEST = 2000  # characters of a message


@contextmanager
def one_line(place: str) -> Iterator[None]:
    """Turn whatever reading meets into a `ValueError` of one line that names the file or folder `place`."""
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())  # a name in the file may break lines
        line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
        line += "" if place in line else f" (in {place})"
        if line != str(error):
            raise ValueError(line) from error
        raise
    except OSError as error:
        raise ValueError(f"{error.filename or place}: {error.strerror or reason(error)}") from error
    except MemoryError as error:
        raise ValueError(f"{place}: does not fit into memory ({reason(error)})") from error


def contents(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if its name ends in ``.gz``, or raise a `ValueError`."""
    size = path.stat().st_size
    fits(f"{path}:", size)
    if path.suffix != ".gz":
        return path.read_bytes()
    unpack, pieces, length = zlib.decompressobj(wbits=31), [], 0
    try:
        with path.open("rb") as file:
            while packed := file.read(2**20):
                while packed:
                    pieces.append(unpack.decompress(packed, 2**24))
                    length += len(pieces[-1])
                    no_bomb(f"{path}:", size, length)
                    packed = unpack.unconsumed_tail
                    if unpack.eof and (packed := unpack.unused_data):  # a file may hold several members
                        unpack = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise ValueError(f"{path}: cannot be unpacked ({reason(error)}), expected gzip") from error
    if not unpack.eof:
        raise ValueError(f"{path}: cannot be unpacked (it ends too early), expected gzip")
    return b"".join(pieces)
