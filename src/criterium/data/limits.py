"""What a source may take: refused in one line before it is read, whatever its header promises."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY = 0
"""The most bytes that a source may take in memory; 0 for half of what the machine or its container has."""

MOST_PIXELS = 50_000_000
"""An image of more is refused, unless ``max_pixels`` allows it."""

CELL = 64
"""Bytes that a cell of a table takes at the height of reading: itself, its features, and copies of both."""

_BOMB_SIZE, _BOMB_RATIO = 2**28, 500  # deflate packs zeros by 1,030
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory() -> int:
    """Return the most bytes that a source may take in memory."""
    if MEMORY:
        return MEMORY
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # no such question on this system
        total = 2**34
    for path in _CGROUP:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total // 2


def fits(what: str, size: int) -> None:
    """Raise a `ValueError` if `what` would take more memory than there is for it."""
    if size > (most := memory()):
        raise ValueError(f"{what} would take {gigabytes(size)} in memory, expected at most {gigabytes(most)}")


def no_bomb(what: str, packed: int, size: int) -> None:
    """Raise a `ValueError` if `what` unpacks to a size that no data have."""
    fits(what, size)
    if size > _BOMB_SIZE and size > _BOMB_RATIO * max(packed, 1):
        raise ValueError(
            f"{what} unpacks from {packed:,} bytes to {gigabytes(size)} or more, expected at most"
            f" {_BOMB_RATIO} times its size"
        )


def gigabytes(size: int) -> str:
    """Return a size in words."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**28 else f"{size / 2**20:,.1f} MiB"
