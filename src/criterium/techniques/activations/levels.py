"""What each level of compression does."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from criterium._checks import at_least
from criterium.techniques.activations.bits import MOST


@dataclass(frozen=True)
class Level:
    """One level of compression.

    Args:
        bits: of a number, on average; None where nothing is quantised.
        norms: whether what normalisations save is quantised too.
        adaptive: whether bits are shared out by need among samples and layers.
        swap: whether what is kept moves from a GPU to pinned host memory.

    """

    bits: int | None
    norms: bool = True
    adaptive: bool = False
    swap: bool = False


LEVELS = {
    "L0": Level(None),
    "L1": Level(4, norms=False),
    "L2": Level(4),
    "L3": Level(2, adaptive=True),
    "L3.1": Level(2, adaptive=True),
    "L4": Level(2, adaptive=True, swap=True),
    "L5": Level(2, adaptive=True, swap=True),
    "swap": Level(None, swap=True),
}
"""The authors' names."""


def find_level(bits: int | None, level: str | None) -> Level:
    """Return the level called `level`, with its own bits or `bits`; with `bits` alone, all get as many.

    Raises:
        ValueError: for an unknown level, bits outside 1 to 8, or bits for a level that quantises nothing.

    Example:
        >>> find_level(2, None)
        Level(bits=2, norms=True, adaptive=False, swap=False)
        >>> find_level(3, "L3")
        Level(bits=3, norms=True, adaptive=True, swap=False)

    """
    found = LEVELS[_known("level", level)] if level is not None else None
    if bits is None:
        return found or LEVELS["L3"]
    # True is a number to Python, not to people.
    if isinstance(bits, str) or at_least("bits", bits, 1) > MOST:
        raise ValueError(f"bits: got {bits!r}, expected a whole number from 1 to {MOST}")
    if found is None:
        return Level(int(bits))
    if found.bits is None:
        raise ValueError(f"bits: got {bits!r} for level {level}, which quantises nothing; expected none")
    return replace(found, bits=int(bits))


def _known(argument: str, name: str) -> str:
    if name in LEVELS:
        return name
    small = {known.lower(): known for known in LEVELS}
    close = difflib.get_close_matches(name.lower(), small, n=1, cutoff=0.5)
    hint = f"; did you mean {small[close[0]]!r}?" if close else ""
    raise ValueError(f"{argument}: got {name!r}, expected one of {', '.join(LEVELS)}{hint}")


def parse_level(setting: int | str) -> Level:
    """Return what a setting such as 2 or "L3" stands for.

    Raises:
        ValueError: it is neither a number of bits from 1 to 8 nor a level.

    """
    if isinstance(setting, str):
        return find_level(None, _known("compress_activations", setting))
    if isinstance(setting, bool) or setting not in range(1, MOST + 1):
        raise ValueError(
            f"compress_activations: got {setting!r}, expected 1 to {MOST} bits or a level:"
            f" {', '.join(LEVELS)}"
        )
    return find_level(setting, None)
