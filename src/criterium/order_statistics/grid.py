"""How many of many normal variables exceed thresholds, at a cost that each variable adds to only once.

Functions of threshold minus mean are smooth, so on a grid of means, the same for all rows, they are tables.
Every variable is spread over the grid points nearest to its mean by polynomial interpolation, and what is
wanted of each is interpolated back from them: no threshold looks at a single variable.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from criterium.order_statistics.poisson_binomial import Polynomial, from_power_sums


def _powers(points: int) -> list[list[float]]:
    """Return what each power of a place in a cell adds to the weights of the points around it.

    A place runs from -1/2 to 1/2; the points lie one apart around it, as many on either side.
    """
    around = np.arange(points) - (points - 1) / 2
    inverse: list[list[float]] = np.linalg.inv(np.vander(around, increasing=True)).tolist()
    return inverse


_POWERS = {points: _powers(points) for points in (8, 12)}


class Grid(NamedTuple):
    """Cells of a width from 0 down to -`depth`, and how many points around a cell interpolate in it."""

    depth: float
    width: float
    points: int

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return math.ceil(self.depth / self.width)

    def means(self, like: Tensor) -> Tensor:
        """Return where the points of the grid are, from the lowest."""
        place = torch.arange(self.cells + self.points - 1, dtype=like.dtype, device=like.device)
        return (place - (self.cells + self.points / 2 - 1)) * self.width

    def powers(self, like: Tensor) -> Tensor:
        """Return the matrix (points, points) from powers of a place to weights."""
        return torch.tensor(_POWERS[self.points], dtype=like.dtype, device=like.device)


class OnGrid(NamedTuple):
    """Variables (N, C): the cell of each, its place in the cell, and their weight on the grid (N, G)."""

    grid: Grid
    cell: Tensor
    place: Tensor
    weight: Tensor

    @classmethod
    def spread(cls, means: Tensor, grid: Grid) -> OnGrid:
        """Spread variables with these means, at most 0, over the grid; what is below stands at its end."""
        height = (means / grid.width + grid.cells).clamp(0, grid.cells)
        cell = height.floor().clamp(max=grid.cells - 1)
        # A mean that is NaN stands somewhere, and makes the weight there NaN.
        place, index = height - cell - 0.5, cell.long().clamp(0, grid.cells - 1)
        empty = torch.zeros_like(means[:, :1]).expand(-1, grid.cells)
        moments, power = [], torch.ones_like(place)
        for _ in range(grid.points):
            moments.append(empty.scatter_add(1, index, power))
            power = power * place
        weights = wide(torch.stack(moments, -1))
        weights = weights @ grid.powers(weights)  # (N, cells, points around)
        after = grid.points - 1
        shifted = [functional.pad(weights[..., i], (i, after - i)) for i in range(grid.points)]
        return cls(grid, index, place, torch.stack(shifted).sum(0))

    def back(self, on_grid: Tensor) -> Tensor:
        """Return (N, C): a function given on the grid (N, G), at the mean of each variable."""
        around = on_grid.unfold(1, self.grid.points, 1)  # (N, cells, points)
        coefficients = (around @ self.grid.powers(on_grid).T).to(self.place.dtype)
        value = torch.zeros_like(self.place)
        for power in reversed(range(self.grid.points)):
            value = torch.addcmul(coefficients[..., power].gather(1, self.cell), value, self.place)
        return value


class Exceedances(NamedTuple):
    """Tables (Q, G) for Q thresholds: log Pr[miss], Pr[hit] / Pr[miss], and density / Pr[miss].

    A variable hits a threshold that it exceeds.
    """

    log_miss: Tensor
    odds: Tensor
    hazard: Tensor

    @classmethod
    def at(cls, thresholds: Tensor, grid: Grid) -> Exceedances:
        """Return the tables of thresholds (Q,)."""
        # Where variables stand well above a threshold the tables are not used; odds would leave the range
        # of numbers there.
        thresholds = wide(thresholds)
        x = (thresholds.unsqueeze(1) - grid.means(thresholds)).clamp(min=-1)
        log_miss = torch.special.log_ndtr(x)
        log_density = -0.5 * x * x - 0.5 * math.log(2 * math.pi)
        odds = (torch.special.log_ndtr(-x) - log_miss).exp()
        return cls(log_miss, odds, (log_density - log_miss).exp())

    def counts(self, variables: OnGrid, length: int) -> Polynomial:
        """Return the chances (Q, N) of 0, 1, ..., `length` - 1 hits by the variables.

        They are the coefficients of prod_j (miss_j + hit_j z), whose logarithm is
        sum_j log miss_j - sum_i (-z)^i / i sum_j odds_j^i.
        """
        weight = variables.weight.T
        sums, power = [], -torch.ones_like(self.odds)
        for _ in range(1, length):
            power = -power * self.odds
            sums.append(power @ weight)
        return from_power_sums(sums, (self.log_miss @ weight).exp())

    def flow(self, counts: Polynomial) -> Tensor:
        """Return (N, G), summed over thresholds: the density there, times the chance of m hits by others.

        `counts` (Q, N) are the chances of 0, 1, ..., m hits by all. A variable at a point of the grid is
        divided out of them, which is stable since it misses more likely than it hits. It is the sum of
        `poisson_binomial.divided`, over thresholds by matrix products: no table (Q, N, G) is made.
        """
        counts, share = [wide(chance) for chance in counts], self.hazard
        total = counts[-1].T @ share
        for chance in reversed(counts[:-1]):
            share = -share * self.odds
            total = total + chance.T @ share
        return total


def wide(values: Tensor) -> Tensor:
    """Return values in float64, where there is one: matrix products may be set to fewer digits in float32."""
    return values if values.device.type == "mps" else values.double()
