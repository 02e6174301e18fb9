"""One pass over the classes, block by block: what all fused losses are made of.

The logits of a block of classes are computed, reduced to a few numbers a row, and forgotten. The backward
pass computes them again and asks the accumulator for the derivative by them. So the (N, C) logits are never
held.

Both passes are operators of PyTorch's: compilers and exporters see one node each, not the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from criterium.linear.accumulator import Accumulator, Block, State
from criterium.linear.accumulators import ACCUMULATORS
from criterium.linear.output_layer import OutputLayer, Slopes

# Logits held at once: on a CPU 2 MiB, so that what is done with them stays in a core's cache; on a GPU 128,
# as many as keep a GPU busy.
_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 25
_LEAST = 128  # classes in a block, below which a matrix product is slow


def block_size(features: Tensor) -> int:
    """Return how many classes make a block for features (N, D)."""
    held = _BLOCK if features.device.type == "cpu" else _GPU_BLOCK
    return max(_LEAST, held // max(1, len(features)))


def blocks(layer: OutputLayer, size: int) -> Iterator[slice]:
    """Yield slices of the classes that are here."""
    held = len(layer.weight)
    for start in range(0, held, size):
        yield slice(start, min(start + size, held))


class Places:
    """Where the picked classes (N, m) are: for a block, the rows that have one in it."""

    def __init__(self, columns: Tensor, layer: OutputLayer, size: int) -> None:
        """Sort them by their class; the only time that values are looked at."""
        self._size = size
        self._each = columns.shape[1]
        held = len(layer.weight)
        edges = torch.arange(0, held + size, size, device=columns.device)
        local, mine = layer.here(columns.flatten())
        self._sorted, self._order = local.where(mine, held + size).sort()  # elsewhere: beyond all edges
        self._cuts: list[int] = torch.searchsorted(self._sorted, edges).tolist()

    def within(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the picked classes in a block."""
        number = part.start // self._size
        here = slice(self._cuts[number], self._cuts[number + 1])
        rows = self._order[here]
        return rows // self._each if self._each > 1 else rows, self._sorted[here] - part.start


def scan(
    features: Tensor,
    layer: OutputLayer,
    columns: Tensor,
    accumulator: Accumulator | None = None,
    *,
    labels: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return the logits (N, m) of some classes of each row, and the statistics of all others.

    Args:
        features: (N, D), as `layer.prepared` returns them.
        layer: the output layer.
        columns: (N, m) class indices, none twice in a row; the first of a row is its own class.
        accumulator: which statistics; None: none, and then only `columns` are computed.
        labels: (L, C) numbers of the classes, for an accumulator that groups them.
    """
    name, numbers = ("", []) if accumulator is None else accumulator.code
    outputs = _forward(
        features, layer.weight, layer.bias, layer.scale, columns, labels, name, numbers, *layer.code
    )
    number = 0 if accumulator is None else len(accumulator.empty(outputs[0], labels)[0])
    return tuple(outputs[: 1 + number])


@torch.library.custom_op("criterium::linear_scan", mutates_args=())
def _forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    name: str,
    numbers: list[float],
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> list[Tensor]:
    """Return the picked logits, the statistics, and what the accumulator keeps for the backward pass."""
    layer = OutputLayer.decode(weight, bias, scale, (distance, unit, group, first, classes))
    local, mine = layer.here(columns)
    picked = torch.stack(
        [layer.take(column, features.dtype).own(features) for column in local.unbind(1)], dim=1
    )
    picked = layer.shard.sum(picked * mine)
    if not name:
        return [picked]
    statistics, kept = _accumulated(features, layer, ACCUMULATORS[name](*numbers), columns, picked, labels)
    return [picked, *(value.contiguous() for value in (*statistics, *kept))]


@_forward.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    name: str,
    numbers: list[float],
    *code: Any,
) -> list[Tensor]:
    picked = features.new_empty(columns.shape)
    if not name:
        return [picked]
    statistics, kept = ACCUMULATORS[name](*numbers).empty(picked, labels)
    return [picked, *statistics, *kept]


@torch.library.custom_op("criterium::linear_scan_backward", mutates_args=())
def _backward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    outputs: list[Tensor],
    upstream: list[Tensor],
    needed: list[bool],
    name: str,
    numbers: list[float],
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> list[Tensor]:
    """Return the gradients of features, weight, bias and scale, empty where none is needed."""
    layer = OutputLayer.decode(weight, bias, scale, (distance, unit, group, first, classes))
    total = _Gradients(features, layer, needed, dense=bool(name))
    pull = upstream[0]
    if name:
        by_picked = _add_blocks(
            total, features, ACCUMULATORS[name](*numbers), layer, columns, labels, outputs, upstream[1:]
        )
        if by_picked is not None:
            pull = pull + layer.shard.sum(by_picked)
    total.add_picked(columns, pull)
    return total.result()


@_backward.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    outputs: list[Tensor],
    upstream: list[Tensor],
    needed: list[bool],
    *rest: Any,
) -> list[Tensor]:
    values = (features, weight, bias, scale)
    return [
        features.new_empty(0) if value is None or not need else torch.empty_like(value)
        for value, need in zip(values, needed, strict=True)
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], *output)
    ctx.name, ctx.numbers, *ctx.code = inputs[6:]


def _gradients(ctx: Any, slopes: list[Tensor | None]) -> tuple[Any, ...]:
    *inputs, labels = ctx.saved_tensors[:6]
    outputs = list(ctx.saved_tensors[6:])
    upstream = [
        torch.zeros_like(value) if slope is None else slope.contiguous()
        for value, slope in zip(outputs, slopes, strict=True)
    ]
    needed = list(ctx.needs_input_grad[:4])
    gradients = _backward(*inputs, labels, outputs, upstream, needed, ctx.name, ctx.numbers, *ctx.code)
    wanted = [gradient if need else None for gradient, need in zip(gradients, needed, strict=True)]
    # To PyTorch an empty list may be one of tensors, and has a gradient that is an empty list.
    return *wanted, None, None, None, None if ctx.numbers else [], *[None] * len(ctx.code)


_forward.register_autograd(_gradients, setup_context=_keep)


def _accumulated(
    features: Tensor,
    layer: OutputLayer,
    accumulator: Accumulator,
    columns: Tensor,
    picked: Tensor,
    labels: Tensor | None,
) -> tuple[State, State]:
    """Return what the accumulator makes of the classes of all processes."""
    size = block_size(features)
    places = Places(columns, layer, size)
    state: State | None = None
    for part in blocks(layer, size):
        logits = layer.take(part, features.dtype).logits(features)
        new = accumulator.accumulate(_block(layer, part, logits, picked, places, columns, labels))
        state = new if state is None else accumulator.merge(state, new)
    assert state is not None  # there is at least one class
    first, *others = zip(*(layer.shard.gather(value) for value in state), strict=True)
    for other in others:
        first = accumulator.merge(first, other)
    return accumulator.finish(first, picked)


def _add_blocks(
    total: _Gradients,
    features: Tensor,
    accumulator: Accumulator,
    layer: OutputLayer,
    columns: Tensor,
    labels: Tensor | None,
    outputs: list[Tensor],
    upstream: list[Tensor],
) -> Tensor | None:
    """Add the gradients of all classes but the picked ones, and return what falls to those."""
    picked, *others = outputs
    number = len(accumulator.empty(picked, labels)[0])
    statistics, kept, pulls = tuple(others[:number]), tuple(others[number:]), tuple(upstream[:number])
    size = block_size(features)
    places = Places(columns, layer, size)
    by_picked: Tensor | None = None
    for part in blocks(layer, size):
        logits, pull = layer.take(part, features.dtype).followed(features)
        block = _block(layer, part, logits, picked, places, columns, labels)
        slope, more = accumulator.slope(block, statistics, kept, pulls)
        slope[block.rows, block.columns] = 0
        total.add(pull(slope), part)
        if more is not None:
            by_picked = more if by_picked is None else by_picked + more
    return by_picked


def _block(
    layer: OutputLayer,
    part: slice,
    logits: Tensor,
    picked: Tensor,
    places: Places,
    columns: Tensor,
    labels: Tensor | None,
) -> Block:
    rows, here = places.within(part)
    if labels is None:
        return Block(logits, picked, rows, here)
    in_block = labels[:, layer.first + part.start : layer.first + part.stop]
    return Block(logits, picked, rows, here, in_block, labels[:, columns[:, 0]])


class _Gradients:
    """The gradients of features, weight, bias and scale; those of a class are written once, in place."""

    def __init__(self, features: Tensor, layer: OutputLayer, needed: list[bool], *, dense: bool) -> None:
        """Start at zero; with `dense`, blocks of classes will fill the gradients of weight and bias."""
        self._features, self._layer = features, layer
        values = (features, layer.weight, layer.bias, layer.scale)
        per_class = torch.empty_like if dense else torch.zeros_like
        makers = (torch.zeros_like, per_class, per_class, torch.zeros_like)
        self._totals = [
            make(value) if need and value is not None else None
            for make, value, need in zip(makers, values, needed, strict=True)
        ]

    def add(self, slopes: Slopes, part: slice) -> None:
        """Add what a block of classes contributes."""
        self._add_shared(slopes)
        for total, more in zip(self._totals[1:3], slopes[1:3], strict=True):
            if total is not None:
                total[part] = more.to(total.dtype)

    def add_picked(self, columns: Tensor, slopes: Tensor) -> None:
        """Add what the logits of single classes contribute, a class a row at a time."""
        # Summed in the type of the arithmetic before they are rounded to that of the weight.
        columns, mine = self._layer.here(columns)
        slopes = slopes * mine
        touched, place = torch.unique(columns, return_inverse=True)
        sums = [
            None if total is None else self._features.new_zeros(len(touched), *total.shape[1:])
            for total in self._totals[1:3]
        ]
        for column, slope, here in zip(columns.unbind(1), slopes.unbind(1), place.unbind(1), strict=True):
            part = self._layer.take(column, self._features.dtype)
            more_slopes = part.own_followed(self._features)[1](slope)
            self._add_shared(more_slopes)
            for added, more in zip(sums, more_slopes[1:3], strict=True):
                if added is not None:
                    added.index_add_(0, here, more)
        for total, added in zip(self._totals[1:3], sums, strict=True):
            if total is not None and added is not None:
                total.index_add_(0, touched, added.to(total.dtype))

    def result(self) -> list[Tensor]:
        """Return the gradients; an empty tensor where none is needed."""
        features, weight, bias, scale = self._totals
        shard = self._layer.shard
        features = features if features is None else shard.sum(features)
        scale = scale if scale is None else shard.sum(scale)
        nothing = self._features.new_empty
        return [nothing(0) if value is None else value for value in (features, weight, bias, scale)]

    def _add_shared(self, slopes: Slopes) -> None:
        for total, more in zip(self._totals[::3], slopes[::3], strict=True):
            if total is not None:
                total += more
