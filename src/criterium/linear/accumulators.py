"""The accumulators: what the losses ask of the logits of the wrong classes, summed block by block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from criterium.linear.accumulator import Accumulator, Block, Code, State, vectors
from criterium.linear.moments import Rivals, Win
from criterium.losses._one_pass import usable
from criterium.losses.complement import absent
from criterium.losses.hinge import multiclass_hinge
from criterium.losses.zero_one import KINDS, step_slope, zero_one_relaxation

_NOTHING = -80.0
"""A class this far behind counts for nothing; numbers below the normal ones take ten times as long."""


@dataclass(frozen=True)
class Softmax(Accumulator):
    """log Σ exp s_j over the wrong classes, and with `entropy` Σ P_j log P_j of their softmax P."""

    entropy: float = False

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return one statistic or two."""
        return vectors(picked, 2 if self.entropy else 1), ()

    def accumulate(self, block: Block) -> State:
        """Return the largest logit, Σ e^z and Σ e^z z, z the logits less the largest."""
        if usable(block.logits):
            from criterium.linear import kernels

            return kernels.softmax_sums(block.logits, block.hidden, bool(self.entropy))
        return self.accumulate_logits(block.hide(absent(block.logits)))

    def accumulate_logits(self, logits: Tensor) -> State:
        """Do as `accumulate`, for logits that are `absent` where they do not count; they are overwritten."""
        top = logits.amax(dim=1)
        centred = logits.sub_(top.unsqueeze(1)).clamp_(min=_NOTHING)
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

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Return (log Σ exp s,) or (log Σ exp s, Σ P log P)."""
        log_total = state[1].log()
        log_sum = state[0] + log_total
        return ((log_sum, state[2] / state[1] - log_total) if self.entropy else (log_sum,)), ()

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return P (u + v (log P − Σ P log P)) for upstream factors u, v."""
        if usable(block.logits):
            from criterium.linear import kernels

            log_sum, *entropy = statistics
            return kernels.softmax_slope_(
                block.logits, block.hidden, log_sum, *upstream[:1], *entropy, *upstream[1:]
            ), None
        return self.slope_of_logits(block.hide(absent(block.logits)), statistics, upstream), None

    def slope_of_logits(self, logits: Tensor, statistics: State, upstream: State) -> Tensor:
        """Do as `slope`, for logits that are `absent` where they do not count; they are overwritten."""
        log_chance = logits.sub_(statistics[0].unsqueeze(1)).clamp_(min=_NOTHING)
        if not self.entropy:
            return log_chance.exp_().mul_(upstream[0].unsqueeze(1))
        chance = log_chance.exp()
        pull = torch.addcmul(upstream[0], statistics[1], upstream[1], value=-1).unsqueeze(1)
        return log_chance.mul_(upstream[1].unsqueeze(1)).add_(pull).mul_(chance)


@dataclass(frozen=True)
class Spread(Accumulator):
    """log Σ exp s_j, Σ s_j and max s_j over the wrong classes, and how many of them are the largest."""

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return four statistics."""
        return vectors(picked, 4), ()

    def accumulate(self, block: Block) -> State:
        """Return the largest logit, Σ e^z for the logits z less that, Σ s, and the number of largest ones."""
        total = block.hide(0.0).sum(dim=1)
        logits = block.hide(absent(block.logits))
        top = logits.amax(dim=1)
        ties = (logits == top.unsqueeze(1)).sum(dim=1).to(top.dtype)
        return *Softmax().accumulate_logits(logits), total, ties

    def merge(self, one: State, other: State) -> State:
        """Add the sums; count those that are as large as the larger maximum."""
        top, exponentials = Softmax().merge(one, other)
        ties = one[3] * (one[0] == top) + other[3] * (other[0] == top)
        return top, exponentials, one[2] + other[2], ties

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
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
        chance = Softmax().slope_of_logits(logits, (log_sum,), upstream)
        return chance.add_(upstream[1].unsqueeze(1)).add_(largest), None


@dataclass(frozen=True)
class Groups(Accumulator):
    """Σ P log P of the softmax inside the own class's group, and outside it, for each row of labels."""

    inner: float = True
    outer: float = True

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return one statistic a part, and as many to keep."""
        assert labels is not None
        number = len(labels) * (bool(self.inner) + bool(self.outer))
        return vectors(picked, number), vectors(picked, number)

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

    def accumulate(self, block: Block) -> State:
        """Return the states of `Softmax` for each of the parts."""
        return tuple(value for part in self._parts(block) for value in Softmax(True).accumulate_logits(part))

    def merge(self, one: State, other: State) -> State:
        """Merge part by part."""
        return tuple(
            value
            for start in range(0, len(one), 3)
            for value in Softmax(True).merge(one[start : start + 3], other[start : start + 3])
        )

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Return Σ P log P of each part, and keep their log Σ exp s."""
        parts = [
            Softmax(True).finish(state[start : start + 3], picked)[0] for start in range(0, len(state), 3)
        ]
        return tuple(entropy for _, entropy in parts), tuple(log_sum for log_sum, _ in parts)

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the parts' slopes."""
        total = torch.zeros_like(block.logits)
        for part, entropy, log_sum, pull in zip(self._parts(block), statistics, kept, upstream, strict=True):
            total += Softmax(True).slope_of_logits(part, (log_sum, entropy), (torch.zeros_like(pull), pull))
        return total, None


class _Sum(Accumulator):
    """A loss that is a sum over the wrong classes: added up from that of the own class and each block."""

    @abstractmethod
    def _loss(self, table: Tensor, first: Tensor) -> Tensor:
        """Return the plain loss of (M, 1 + B) logits of which the first are the own classes', (M,)."""

    @abstractmethod
    def _slope(self, lead: Tensor) -> Tensor:
        """Return the derivative of each summand by its lead."""

    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return one statistic."""
        return vectors(picked, 1), ()

    def _table(self, block: Block) -> Tensor:
        return torch.cat([block.own.unsqueeze(1), block.hide(absent(block.logits))], dim=1)

    def _of_table(self, table: Tensor) -> Tensor:
        return self._loss(table, table.new_zeros(len(table), dtype=torch.long))

    def accumulate(self, block: Block) -> State:
        """Return the loss of a block."""
        return (self._of_table(self._table(block)),)

    def merge(self, one: State, other: State) -> State:
        """Add."""
        return (one[0] + other[0],)

    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Take off what the own class counted for, once, as a wrong one that is far behind itself."""
        own = picked[:, 0]
        hidden = torch.stack([own, torch.full_like(own, absent(own))], dim=1)
        return (state[0] - self._of_table(hidden),), ()

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative of each summand by the wrong class's lead over the own one."""
        lead = block.hide(absent(block.logits)).sub_(block.own.unsqueeze(1))
        slope = self._slope(lead).mul_(upstream[0].unsqueeze(1))
        slope[block.rows, block.columns] = 0
        return slope, -slope.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Hinge(_Sum):
    """Σ_j max(0, margin + s_j − s_y)."""

    margin: float

    def _loss(self, table: Tensor, first: Tensor) -> Tensor:
        mean = multiclass_hinge(table, first, margin=self.margin, reduction="none")
        return mean * (table.shape[1] - 1)

    def _slope(self, lead: Tensor) -> Tensor:
        return (lead > -self.margin).to(lead.dtype)


@dataclass(frozen=True)
class ZeroOne(_Sum):
    """A relaxed zero-one loss."""

    kind: str
    temperature: float
    a: float
    b: float

    @property
    def code(self) -> Code:
        """The kind and its numbers."""
        return self.kind, [self.temperature, self.a, self.b]

    def _loss(self, table: Tensor, first: Tensor) -> Tensor:
        return zero_one_relaxation(table, first, reduction="none", **asdict(self))

    def _slope(self, lead: Tensor) -> Tensor:
        return step_slope(lead, **asdict(self))


ACCUMULATORS: dict[str, Callable[..., Accumulator]] = {
    each.__name__: each for each in (Softmax, Spread, Groups, Hinge, Win, Rivals)
} | {kind: partial(ZeroOne, kind) for kind in KINDS}
"""What makes each accumulator of its fields again."""
