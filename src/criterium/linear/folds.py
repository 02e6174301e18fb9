"""The folds: statistics of the wrong classes' logits that a block of classes at a time adds up to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from criterium.linear.scan import Block, State
from criterium.losses._contract import Rows
from criterium.losses.complement import absent
from criterium.sorting.win_series import _INNER, _finish, _polynomials, _tables


@dataclass(frozen=True)
class Softmax:
    """log Σ exp s_j over the wrong classes, and with `entropy` Σ P_j log P_j of their softmax P."""

    entropy: bool = False

    def of(self, block: Block) -> State:
        """Return the largest logit, Σ e^z and Σ e^z z, z the logits less the largest."""
        return self.of_logits(block.hide(absent(block.logits)))

    def of_logits(self, logits: Tensor) -> State:
        """Do as `of`, for logits that are `absent` where they do not count; they are overwritten."""
        top = logits.amax(dim=1)
        centred = logits.sub_(top.unsqueeze(1))
        if not self.entropy:
            return top, centred.exp_().sum(dim=1)
        exponential = centred.exp()
        return top, exponential.sum(dim=1), centred.mul_(exponential).sum(dim=1)

    def merge(self, one: State, other: State) -> State:
        """Bring both to the larger maximum, and add."""
        top = torch.maximum(one[0], other[0])
        shifts = one[0] - top, other[0] - top
        factors = shifts[0].exp(), shifts[1].exp()
        total = one[1] * factors[0] + other[1] * factors[1]
        if not self.entropy:
            return top, total
        moments = (
            (part[2] + part[1] * shift) * factor
            for part, shift, factor in zip((one, other), shifts, factors, strict=True)
        )
        return top, total, sum(moments, torch.zeros_like(top))

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Return (log Σ exp s,) or (log Σ exp s, Σ P log P)."""
        log_total = state[1].log()
        log_sum = state[0] + log_total
        return ((log_sum, state[2] / state[1] - log_total) if self.entropy else (log_sum,)), ()

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return P (u + v (log P − Σ P log P)) for upstream factors u, v."""
        return self.of_slope(block.hide(absent(block.logits)), statistics, upstream), None

    def of_slope(self, logits: Tensor, statistics: State, upstream: State) -> Tensor:
        """Do as `slope`, for logits that are `absent` where they do not count; they are overwritten."""
        log_chance = logits.sub_(statistics[0].unsqueeze(1))
        if not self.entropy:
            return log_chance.exp_().mul_(upstream[0].unsqueeze(1))
        chance = log_chance.exp()
        pull = torch.addcmul(upstream[0], statistics[1], upstream[1], value=-1).unsqueeze(1)
        return log_chance.mul_(upstream[1].unsqueeze(1)).add_(pull).mul_(chance)


@dataclass(frozen=True)
class Spread:
    """log Σ exp s_j, Σ s_j and max s_j over the wrong classes, and how many of them are the largest."""

    def of(self, block: Block) -> State:
        """Return the largest logit, Σ e^z for the logits z less that, Σ s, and the number of largest ones."""
        total = block.hide(0.0).sum(dim=1)
        logits = block.hide(absent(block.logits))
        top = logits.amax(dim=1)
        ties = (logits == top.unsqueeze(1)).sum(dim=1).to(top.dtype)
        return *Softmax().of_logits(logits), total, ties

    def merge(self, one: State, other: State) -> State:
        """Add the sums; count those that are as large as the larger maximum."""
        top, exponentials = Softmax().merge(one, other)
        ties = one[3] * (one[0] == top) + other[3] * (other[0] == top)
        return top, exponentials, one[2] + other[2], ties

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Return (log Σ exp s, Σ s, max s, number of largest)."""
        top, exponentials, total, ties = state
        return (top + exponentials.log(), total, top, ties), ()

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return u P + v + w / ties where a logit is the largest, for upstream factors u, v, w."""
        log_sum, _, top, ties = statistics
        logits = block.hide(absent(block.logits))
        largest = (logits == top.unsqueeze(1)) * (upstream[2] / ties).unsqueeze(1)
        chance = Softmax().of_slope(logits, (log_sum,), upstream)
        return chance.add_(upstream[1].unsqueeze(1)).add_(largest), None


@dataclass(frozen=True)
class Groups:
    """Σ P log P of the softmax inside the own class's group, and outside it, for each row of labels."""

    inner: bool = True
    outer: bool = True

    def _parts(self, block: Block) -> list[Tensor]:
        assert block.labels is not None and block.own_labels is not None
        low = absent(block.logits)
        logits = block.hide(low)
        parts = []
        for labels, own in zip(block.labels, block.own_labels, strict=True):
            alike = labels == own.unsqueeze(1)
            if self.inner:
                parts.append(logits.masked_fill(~alike, low))
            if self.outer:
                parts.append(logits.masked_fill(alike, low))
        return parts

    def of(self, block: Block) -> State:
        """Return the states of `Softmax` for each of the parts."""
        return tuple(value for part in self._parts(block) for value in Softmax(True).of_logits(part))

    def merge(self, one: State, other: State) -> State:
        """Merge part by part."""
        return tuple(
            value
            for start in range(0, len(one), 3)
            for value in Softmax(True).merge(one[start : start + 3], other[start : start + 3])
        )

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Return Σ P log P of each part, and keep their log Σ exp s."""
        found = [Softmax(True).finish(state[start : start + 3], own)[0] for start in range(0, len(state), 3)]
        return tuple(entropy for _, entropy in found), tuple(log_sum for log_sum, _ in found)

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the parts' slopes."""
        total = torch.zeros_like(block.logits)
        for part, entropy, log_sum, pull in zip(self._parts(block), statistics, kept, upstream, strict=True):
            total += Softmax(True).of_slope(part, (log_sum, entropy), (torch.zeros_like(pull), pull))
        return total, None


@dataclass(frozen=True)
class Sum:
    """A loss that is a sum over the wrong classes: added up from that of the own class and each block."""

    rows: Rows
    """The plain loss, (M, 1 + B) logits of which the first is the own class's to (M,) sums."""

    def _table(self, block: Block) -> Tensor:
        return torch.cat([block.own.unsqueeze(1), block.hide(absent(block.logits))], dim=1)

    def _loss(self, table: Tensor) -> Tensor:
        return self.rows(table, table.new_zeros(len(table), dtype=torch.long))

    def of(self, block: Block) -> State:
        """Return the loss of a block."""
        return (self._loss(self._table(block)),)

    def merge(self, one: State, other: State) -> State:
        """Add."""
        return (one[0] + other[0],)

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Take off what the own class counted for, once, as a wrong one that is far behind itself."""
        hidden = torch.stack([own, torch.full_like(own, absent(own))], dim=1)
        return (state[0] - self._loss(hidden),), ()

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the plain loss's derivative."""
        table = self._table(block).requires_grad_()
        with torch.enable_grad():
            loss = self._loss(table)
        (gradient,) = torch.autograd.grad(loss, table, upstream[0])
        return gradient[:, 1:].contiguous(), gradient[:, 0]


@dataclass(frozen=True)
class Win:
    """The chance to beat all wrong classes under unit normal noise, by the moments of `win_series`."""

    classes: int
    temperature: float
    margin: float | None

    @property
    def _outer(self) -> tuple[int, int]:
        return (8, 50) if self.classes <= 128 else (10, 74)

    def _gap(self, block: Block) -> tuple[Tensor, Tensor]:
        lead = block.own.unsqueeze(1) - block.hide(-torch.inf)
        near = lead if self.margin is None else lead.clamp(max=self.margin)
        gap = near / self.temperature
        gap[block.rows, block.columns] = torch.inf
        return gap, lead

    def _room(self, gap: Tensor) -> tuple[Tensor, int]:
        rows, classes = gap.shape
        terms = self._outer[0] + _INNER
        size = max(1, min(rows, (1 << 17) // (terms * classes)))
        room = gap.new_empty(terms, size, classes, dtype=torch.float64)
        room[0].fill_(1)
        room[_INNER].fill_(1)
        return room, size

    def of(self, block: Block) -> State:
        """Return the moments (N, A, 8) of a block's gaps."""
        gap, _ = self._gap(block)
        room, size = self._room(gap)
        moments = gap.new_empty(len(gap), self._outer[0], _INNER, dtype=torch.float64)
        for start in range(0, len(gap), size):
            outer, inner = _polynomials(gap[start : start + size], room)
            moments[start : start + size] = outer @ inner.transpose(1, 2)
        return (moments,)

    def merge(self, one: State, other: State) -> State:
        """Add."""
        return (one[0] + other[0],)

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Return the chance, and keep the coefficients of its derivative."""
        chance, coefficients = _finish(state[0], _tables(*self._outer, own.device))
        return (chance.clamp(max=1).to(own.dtype),), (coefficients,)

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative by the gaps, brought to logits."""
        gap, lead = self._gap(block)
        room, size = self._room(gap)
        slope = torch.empty_like(gap)
        for start in range(0, len(gap), size):
            part = slice(start, start + size)
            outer, inner = _polynomials(gap[part], room)
            slope[part] = torch.bmm(kept[0][part], inner).mul_(outer).sum(1)
        slope *= (upstream[0] / -self.temperature).unsqueeze(1)
        if self.margin is not None:
            slope *= lead < self.margin
        slope[block.rows, block.columns] = 0
        return slope, -slope.sum(dim=1)
