"""From float64 to float32 without losing what tells values apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from criterium.data.array import Array

_LOSS = 2.0**-20  # of a column's range; float32 keeps 2^-24 of a number
_LARGE = 1e30  # float32 ends at 3.4e38, and a model squares some of its inputs


def median(values: Array) -> float:
    """Return the median, finite where the sum of the two in the middle is not."""
    half = values / 2 if len(values) and np.abs(values).max() > 1e307 else values
    found = float(np.median(half))
    return found if half is values else 2 * found


@dataclass(frozen=True)
class Rounding:
    """For each column an offset to subtract and a unit to divide by, before float32 is taken.

    They are 0 and 1 wherever float32 keeps the numbers apart as they are. Otherwise, as for times in
        milliseconds, the offset is the median; beyond the range of float32 the unit is a power of two.
    """

    offset: Array
    unit: Array

    @classmethod
    def fit(cls, values: Array) -> Rounding:
        """Return what the columns of `values` (N, F), all finite, need."""
        offset, unit = np.zeros(values.shape[1]), np.ones(values.shape[1])
        if len(values) == 0 or (values.dtype == np.float32 and np.abs(values).max() <= _LARGE):
            return cls(offset, unit)
        with np.errstate(over="ignore", invalid="ignore"):
            exact = values.astype(np.float64)
            range_ = exact.max(axis=0) - exact.min(axis=0)
            loss = np.abs(exact - exact.astype(np.float32)).max(axis=0)
            wrong = np.flatnonzero(~(loss <= _LOSS * range_) | (np.abs(exact).max(axis=0) > _LARGE))
            if len(wrong) == 0:
                return cls(offset, unit)
            centers = [median(exact[:, column]) for column in wrong]
            offset[wrong] = np.where(np.isfinite(range_[wrong]), centers, 0.0)
            size = np.abs(exact[:, wrong] - offset[wrong]).max(axis=0)
            odd = (size > 0) & ((size > _LARGE) | (size < 1 / _LARGE))
            unit[wrong[odd]] = np.ldexp(1.0, np.frexp(size[odd])[1] - 1)
        return cls(offset, unit)

    def __call__(self, values: Array, titles: Sequence[str] | None = None) -> Array:
        """Return float32 values.

        Raises:
            ValueError: a value is too large for float32 beside those that were fitted, in a column that has
                a title or a number.

        """
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
            if self.offset.any() or (self.unit != 1).any():
                values = (values - self.offset) / self.unit
            rounded: Array = values.astype(np.float32)
        if (wrong := ~np.isfinite(rounded).all(axis=0)).any():
            first = int(wrong.argmax())
            title = first if titles is None else repr(titles[first])
            raise ValueError(f"data: column {title!s} has values far beyond those of training")
        return rounded

    def take(self, kept: Array) -> Rounding:
        """Return the rounding of some of the columns."""
        return Rounding(self.offset[kept], self.unit[kept])
