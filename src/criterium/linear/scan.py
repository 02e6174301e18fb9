"""One pass over the classes, block by block: what all fused losses are made of.

The logits of a block of classes are computed, folded into a few numbers a row, and forgotten. The backward
pass computes them again and asks the fold for the derivative by them. So the (N, C) logits are never held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from criterium.linear.gradients import Gradients
from criterium.linear.layer import Layer

State = tuple[Tensor, ...]

_BLOCK = 1 << 19  # logits held at once: 2 MiB, so that what is done with them stays in a core's cache
_LEAST = 128  # classes in a block, below which a matrix product is slow


class Block(NamedTuple):
    """The logits of all rows for some classes, and the place of each row's own class, if it is among them."""

    logits: Tensor  # (N, B); folds may write into it
    own: Tensor  # (N,), the logit of each row's own class
    rows: Tensor  # (R,), the rows whose own class is here,
    columns: Tensor  # (R,), and where
    labels: Tensor | None = None  # (L, B), numbers of the classes
    own_labels: Tensor | None = None  # (L, N), those of each row's own class

    def hide(self, value: float) -> Tensor:
        """Return the logits with `value` in the place of each row's own class."""
        self.logits[self.rows, self.columns] = value
        return self.logits


class Fold(Protocol):
    """Some statistics of the logits of the wrong classes of each row, that blocks of classes add up to."""

    def of(self, block: Block) -> State:
        """Return the state of one block: tensors whose first dimension is N."""
        ...

    def merge(self, one: State, other: State) -> State:
        """Return the state of the classes of both."""
        ...

    def finish(self, state: State, own: Tensor) -> tuple[State, State]:
        """Return the statistics, each (N,), and what else `slope` wants to know."""
        ...

    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative by the logits (N, B), arbitrary at each row's own class, and by `block.own`.

        Of the sum of each statistic times its (N,) factor in `upstream`; None where there is none.
        """
        ...


def block_size(rows: int) -> int:
    """Return how many classes make a block."""
    return max(_LEAST, _BLOCK // max(1, rows))


def blocks(layer: Layer, size: int) -> Iterator[slice]:
    """Yield slices of the classes that are here."""
    held = len(layer.weight)
    for start in range(0, held, size):
        yield slice(start, min(start + size, held))


class Places:
    """Where each row's own class is: for a block, the rows that have theirs in it."""

    def __init__(self, index: Tensor, layer: Layer, size: int) -> None:
        """Sort the rows by their class; the only time that values are looked at."""
        self._size = size
        held = len(layer.weight)
        edges = torch.arange(0, held + size, size, device=index.device)
        local, mine = layer.here(index)
        self._sorted, self._order = local.where(mine, held + size).sort()  # elsewhere: beyond all edges
        self._cuts: list[int] = torch.searchsorted(self._sorted, edges).tolist()

    def within(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the own classes in a block."""
        number = part.start // self._size
        here = slice(self._cuts[number], self._cuts[number + 1])
        return self._order[here], self._sorted[here] - part.start


class Plan(NamedTuple):
    """What a scan does, beside the tensors that have a gradient."""

    layer: Layer
    columns: Tensor
    """(N, m) classes whose logits are wanted; the first is each row's own class."""
    fold: Fold | None
    labels: Tensor | None
    size: int

    def block(self, part: slice, logits: Tensor, own: Tensor, places: Places) -> Block:
        """Return the logits of a part of the classes as a fold gets them."""
        if self.labels is None:
            return Block(logits, own, *places.within(part))
        first = self.layer.first
        here = self.labels[:, first + part.start : first + part.stop]
        return Block(logits, own, *places.within(part), here, self.labels[:, self.columns[:, 0]])


def scan(
    features: Tensor,
    layer: Layer,
    columns: Tensor,
    fold: Fold | None = None,
    *,
    labels: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return the logits (N, m) of some classes of each row, and the statistics (N,) of a fold over all.

    Args:
        features: (N, D), as `layer.prepared` returns them.
        layer: the output layer.
        columns: (N, m) class indices; the first of a row is its own class, which the fold leaves out.
        fold: what to find out of the other classes; None: nothing, and then only `columns` are computed.
        labels: (L, C) numbers of the classes, for a fold that groups them.
    """
    plan = Plan(layer, columns, fold, labels, block_size(len(features)))
    result: tuple[Tensor, ...] = _Scan.apply(features, layer.weight, layer.bias, layer.scale, plan)  # type: ignore[no-untyped-call]
    return result


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, plan: Plan
    ) -> tuple[Tensor, ...]:
        layer, fold = plan.layer, plan.fold
        columns, mine = layer.here(plan.columns)
        picked = torch.stack(
            [layer.take(column, features.dtype).own(features) for column in columns.unbind(1)], dim=1
        )
        if layer.shard is not None:
            picked = layer.shard.sum(picked * mine)
        statistics, kept = _folded(features, plan, fold, picked[:, 0]) if fold else ((), ())
        ctx.plan = plan
        ctx.number = len(statistics)
        ctx.save_for_backward(features, weight, bias, scale, picked, *statistics, *kept)
        return picked, *statistics

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, pull: Tensor, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, scale, picked, *found = ctx.saved_tensors
        plan: Plan = ctx.plan
        layer = plan.layer._replace(weight=weight, bias=bias, scale=scale)
        total = Gradients(features, layer, ctx.needs_input_grad, dense=plan.fold is not None)
        own_slopes = torch.zeros_like(pull[:, 0])
        if plan.fold is not None:
            statistics, kept = tuple(found[: ctx.number]), tuple(found[ctx.number :])
            own = picked[:, 0]
            places = Places(plan.columns[:, 0], layer, plan.size)
            for part in blocks(layer, plan.size):
                inputs, logits = total.follow(part, own=False)
                block = plan.block(part, logits.detach(), own, places)
                slope, own_slope = plan.fold.slope(block, statistics, kept, upstream)
                slope[block.rows, block.columns] = 0
                total.add(inputs, logits, slope, part)
                if own_slope is not None:
                    own_slopes += own_slope
            if layer.shard is not None:
                own_slopes = layer.shard.sum(own_slopes)
            pull = torch.cat([(pull[:, 0] + own_slopes).unsqueeze(1), pull[:, 1:]], dim=1)
        total.add_picked(plan.columns, pull)
        return *total.result(), None


def _folded(features: Tensor, plan: Plan, fold: Fold, own: Tensor) -> tuple[State, State]:
    places = Places(plan.columns[:, 0], plan.layer, plan.size)
    state: State | None = None
    for part in blocks(plan.layer, plan.size):
        logits = plan.layer.take(part, features.dtype).logits(features)
        new = fold.of(plan.block(part, logits, own, places))
        state = new if state is None else fold.merge(state, new)
    assert state is not None  # there is at least one class
    if plan.layer.shard is not None:
        gathered = [plan.layer.shard.gather(value) for value in state]
        state, *others = zip(*gathered, strict=True)
        for other in others:
            state = fold.merge(state, other)
    return fold.finish(state, own)
