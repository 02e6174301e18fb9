"""JSON files that tell whether they are as they were written, and what other files were.

A seal is a hash of the contents in a fixed form, beside them. It finds what damages and mixes up files; who
wants to deceive can compute it too.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from criterium._files import read_json, write_json

_SEAL = "seal"
_PIECE = 2**20


def hash_of(value: Any) -> str:
    """Return the sha256 of a JSON value; it does not depend on spaces or on the order of names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` as JSON, with its seal."""
    plain = json.loads(json.dumps(value))  # as it will be read
    write_json(path, {**plain, _SEAL: hash_of(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: in one line, it is not as it was written.

    """
    found = read_json(path)
    if not isinstance(found, dict) or _SEAL not in found:
        raise ValueError(f"{path}: has no seal: it was changed, or criterium did not write it")
    seal = found.pop(_SEAL)
    if seal != hash_of(found):
        raise ValueError(f"{path}: was changed since it was written: its seal does not fit")
    return found


def described(*paths: Path) -> dict[str, dict[str, Any]]:
    """Return hash and size of files by their names, to be checked by `check_described`."""
    return {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in paths}


def check_described(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a `ValueError` that names a file of `folder` if it is not what it was."""
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path}: is missing")
        if path.stat().st_size != wanted["bytes"] or _sha256(path) != wanted["sha256"]:
            raise ValueError(f"{path}: is not what the run wrote: its hash or its size does not fit")


def _sha256(path: Path) -> str:
    found = path.stat()
    return _hashed(str(path.absolute()), found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _hashed(path: str, *_: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
