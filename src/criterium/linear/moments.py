"""The accumulators of EXACT: sums over the wrong classes of polynomials of their gaps to the own class.

`Win` has one series for all gaps; at k, and for the logarithm, `Rivals` shares weak classes out over a grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium.linear.accumulator import Accumulator, Block, State, vectors
from criterium.order_statistics.normal_trials import NormalTrials
from criterium.order_statistics.top_probability import log_chance
from criterium.order_statistics.win_series import HIGH, INNER, finish, polynomials, size_for, tables_for

_ROOM = 1 << 17  # numbers held at once, about what a core's cache holds
_DEGREE = 10
_EVEN, _FINE = 20, 6


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
        shape = (picked.shape[0], self._outer[0], INNER)
        return vectors(picked, 1), (picked.new_empty(shape, dtype=torch.float64),)

    @property
    def _outer(self) -> tuple[int, int]:
        return size_for(self.classes)

    def _room(self, gap: Tensor) -> tuple[Tensor, int]:
        rows, classes = gap.shape
        terms = self._outer[0] + INNER
        size = max(1, min(rows, _ROOM // (terms * classes)))
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


@dataclass(frozen=True)
class Rivals(Moments):
    """The chance that at most k - 1 wrong classes beat the own one under unit normal noise, or its logarithm.

    The k strongest are picked. What each of the others adds is a function of its gap, the same for all of a
    row, and between the edges of a grid as good as a polynomial. So the sums of Chebyshev polynomials of the
    gaps in each interval say how many classes there are, in effect, at some points of it. The derivative is
    formed at those points, and is a polynomial between the edges again.
    """

    k: float = 1.0
    log: float = 0.0

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return the chance, its derivatives by the gaps to the k strongest, and series of the others."""
        series = picked.new_empty(picked.shape[0], _DEGREE, _EVEN + _FINE, dtype=torch.float64)
        return (torch.empty_like(picked[:, 0]), torch.empty_like(picked[:, 1:])), (series,)

    def accumulate(self, block: Block) -> State:
        """Return the sums of polynomials (N, _DEGREE, intervals) of a block's gaps."""
        gap, _ = self.gaps_of(block)
        moments = gap.new_zeros(len(gap), _DEGREE, _EVEN + _FINE, dtype=torch.float64)
        for part, interval, terms in _polynomials(gap, self._edges(block.picked)):
            for moment, term in zip(moments[part].unbind(1), terms, strict=True):
                moment.scatter_add_(1, interval, term)
        return (moments,)

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Return the chance and its derivatives by the gaps to the k strongest; keep that by the others."""
        edges = self._edges(picked)
        node, share = _interpolation(edges)
        points = torch.lerp(edges[:, :-1, None], edges[:, 1:, None], (node + 1) / 2)
        numbers = torch.einsum("nai,aq->niq", state[0], share)
        rivals = NormalTrials(self._few(picked), points.flatten(1), numbers.flatten(1))
        value, by_few, by_points = log_chance(rivals, int(self.classes), double=False)
        series = torch.einsum("niq,aq->nai", by_points.reshape(numbers.shape), share)
        if not self.log:
            value = value.exp()
            by_few, series = by_few * value[:, None], series * value[:, None, None]
        return (value.to(picked.dtype), by_few.to(picked.dtype)), (series,)

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative of the chance by the gaps, brought to logits."""
        gap, lead = self.gaps_of(block)
        slope = torch.empty_like(gap)
        for part, interval, terms in _polynomials(gap, self._edges(block.picked)):
            total = torch.zeros_like(terms[0])
            for series, term in zip(kept[0][part].unbind(1), terms, strict=True):
                total.addcmul_(series.gather(1, interval), term)
            slope[part] = total
        return self.brought_to_logits(slope, lead, block, upstream)

    def _few(self, picked: Tensor) -> Tensor:
        return self.gaps(picked[:, :1] - picked[:, 1:]).double().clamp(-1e6, 1e6)

    def _edges(self, picked: Tensor) -> Tensor:
        """Return the edges of the intervals (N, intervals + 1).

        They begin at the k-th strongest. A class counts until it is far behind the own one, whose noise makes
        up for at least half of what that is behind the k-th strongest. Odds in units of those of the k-th
        strongest fall off the more steeply the less is made up for: so the first interval is parted.
        """
        start = self._few(picked).amax(dim=1, keepdim=True)
        left = -start.clamp(max=0) / 2
        even = (HIGH - left - start).clamp(min=1) / _EVEN
        steepness = (self.k - 1) * (left + 4)
        finest = (4 / (steepness * even)).clamp(max=0.5**_FINE)
        fine = finest ** (1 - torch.arange(_FINE, device=even.device) / _FINE)
        whole = torch.arange(1, _EVEN + 1, device=even.device).expand(len(even), -1)
        return start + even * torch.cat((torch.zeros_like(start), fine, whole), dim=1)


def _polynomials(gap: Tensor, edges: Tensor) -> Iterator[tuple[slice, Tensor, tuple[Tensor, ...]]]:
    """Yield some rows, the interval that each gap is in (R, B), and the polynomials (R, B) there."""
    rows, classes = gap.shape
    size = max(1, min(rows, _ROOM // (_DEGREE * classes)))
    room = gap.new_empty(_DEGREE, size, classes, dtype=torch.float64)
    room[0].fill_(1)
    for start in range(0, rows, size):
        part = slice(start, start + size)
        edge = edges[part]
        inside = gap[part].double().clamp(edge[:, :1], edge[:, -1:])
        interval = torch.searchsorted(edge[:, 1:-1].contiguous(), inside)
        low, width = edge[:, :-1].gather(1, interval), edge.diff(dim=1).gather(1, interval)
        terms = room[:, : len(edge)].unbind()
        twice = torch.mul(inside.sub_(low).div_(width).mul_(2).sub_(1), 2)
        terms[1].copy_(inside)
        for n in range(2, _DEGREE):
            torch.mul(twice, terms[n - 1], out=terms[n]).sub_(terms[n - 2])
        yield part, interval, terms


def _interpolation(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return points of [-1, 1] and what of each polynomial falls to each of them (_DEGREE, _DEGREE)."""
    number = torch.arange(_DEGREE, dtype=like.dtype, device=like.device)
    angle = math.pi * (number + 0.5) / _DEGREE
    share = torch.outer(number, angle).cos() * (2 / _DEGREE)
    share[0] /= 2
    return angle.cos(), share
