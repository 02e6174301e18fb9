"""EXACT by moments: sums over the wrong classes of polynomials of their gaps to the own class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium.linear.accumulator import Accumulator, Block, State, vectors
from criterium.order_statistics.win_series import INNER, finish, polynomials, size_for, tables_for

ROOM = 1 << 17
"""Numbers held at once, about what a core's cache holds."""


@dataclass(frozen=True)
class Moments(Accumulator):
    """What both ways of EXACT share: gaps of wrong classes, moments that add, the way back to logits."""

    classes: float
    temperature: float
    margin: float = -1.0
    """The lead beyond which nothing counts; below 0: there is none."""

    def gaps(self, lead: Tensor) -> Tensor:
        """Return leads of the own class, as far as they count, in standard deviations of the noise."""
        near = lead if self.margin < 0 else torch.where(lead < self.margin, lead, self.margin)
        return near / self.temperature

    def gaps_of(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return gaps (N, B), infinite where a class is picked and counts for nothing, and leads."""
        lead = block.own.unsqueeze(1) - block.logits
        gap = self.gaps(lead)
        gap[block.rows, block.columns] = torch.inf
        return gap, lead

    def merge(self, one: State, other: State) -> State:
        """Add."""
        return (one[0] + other[0],)

    def brought_to_logits(
        self, slope: Tensor, lead: Tensor, block: Block, upstream: State
    ) -> tuple[Tensor, Tensor]:
        """Return a derivative by gaps, which is overwritten, as that by the logits and the picked ones."""
        slope *= (upstream[0] / -self.temperature).unsqueeze(1)
        if self.margin >= 0:
            slope *= lead < self.margin
        slope[block.rows, block.columns] = 0
        return slope, F.pad(-slope.sum(dim=1, keepdim=True), (0, block.picked.shape[1] - 1))


@dataclass(frozen=True)
class Win(Moments):
    """The chance to beat all wrong classes under unit normal noise, by the moments of `win_series`."""

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return the chance, and a coefficient for each moment."""
        shape = (len(picked), self._outer[0], INNER)
        return vectors(picked, 1), (picked.new_empty(shape, dtype=torch.float64),)

    @property
    def _outer(self) -> tuple[int, int]:
        return size_for(self.classes)

    def _room(self, gap: Tensor) -> tuple[Tensor, int]:
        rows, classes = gap.shape
        terms = self._outer[0] + INNER
        size = max(1, min(rows, ROOM // (terms * classes)))
        room = gap.new_empty(terms, size, classes, dtype=torch.float64)
        room[0].fill_(1)
        room[INNER].fill_(1)
        return room, size

    def accumulate(self, block: Block) -> State:
        """Return the moments (N, A, 8) of a block's gaps."""
        gap, _ = self.gaps_of(block)
        room, size = self._room(gap)
        moments = gap.new_empty(len(gap), self._outer[0], INNER, dtype=torch.float64)
        for start in range(0, len(gap), size):
            outer, inner = polynomials(gap[start : start + size], room)
            moments[start : start + size] = outer @ inner.transpose(1, 2)
        return (moments,)

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Return the chance, and keep the coefficients of its derivative."""
        chance, coefficients = finish(state[0], tables_for(*self._outer, picked.device))
        return (chance.clamp(max=1).to(picked.dtype),), (coefficients,)

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative by the gaps, brought to logits."""
        gap, lead = self.gaps_of(block)
        room, size = self._room(gap)
        slope = torch.empty_like(gap)
        for start in range(0, len(gap), size):
            part = slice(start, start + size)
            outer, inner = polynomials(gap[part], room)
            slope[part] = torch.bmm(kept[0][part], inner).mul_(outer).sum(1)
        return self.brought_to_logits(slope, lead, block, upstream)
