"""One pass over the classes, block by block: what all fused losses are made of.

The logits of a block of classes are computed, folded into a few numbers a row, and forgotten. The backward
pass computes them again and asks the fold for the derivative by them. So the (N, C) logits are never held.

Both passes are operators of PyTorch's: compilers and exporters see one node each, not the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from criterium.linear.fold import Block, Fold, State
from criterium.linear.folds import FOLDS
from criterium.linear.gradients import Gradients
from criterium.linear.layer import Layer

# Logits held at once: on a CPU 2 MiB, so that what is done with them stays in a core's cache; elsewhere 128,
# as many as keep a GPU busy.
_BLOCK, _BLOCK_ELSEWHERE = 1 << 19, 1 << 25
_LEAST = 128  # classes in a block, below which a matrix product is slow


def block_size(features: Tensor) -> int:
    """Return how many classes make a block for features (N, D)."""
    held = _BLOCK if features.device.type == "cpu" else _BLOCK_ELSEWHERE
    return max(_LEAST, held // max(1, len(features)))


def blocks(layer: Layer, size: int) -> Iterator[slice]:
    """Yield slices of the classes that are here."""
    held = len(layer.weight)
    for start in range(0, held, size):
        yield slice(start, min(start + size, held))


class Places:
    """Where the picked classes (N, m) are: for a block, the rows that have one in it."""

    def __init__(self, columns: Tensor, layer: Layer, size: int) -> None:
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
    layer: Layer,
    columns: Tensor,
    fold: Fold | None = None,
    *,
    labels: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return the logits (N, m) of some classes of each row, and the statistics of a fold over the others.

    Args:
        features: (N, D), as `layer.prepared` returns them.
        layer: the output layer.
        columns: (N, m) class indices, none twice in a row; the first of a row is its own class.
        fold: what to find out of the other classes; None: nothing, and then only `columns` are computed.
        labels: (L, C) numbers of the classes, for a fold that groups them.
    """
    name, numbers = ("", []) if fold is None else fold.code
    found = _forward(
        features, layer.weight, layer.bias, layer.scale, columns, labels, name, numbers, *layer.kind
    )
    number = 0 if fold is None else len(fold.empty(found[0], labels)[0])
    return tuple(found[: 1 + number])


@torch.library.custom_op("criterium::linear_scan", mutates_args=())
def _forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    fold: str,
    numbers: list[float],
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> list[Tensor]:
    """Return the picked logits, the statistics, and what the fold keeps for the backward pass."""
    layer = Layer.of(weight, bias, scale, (distance, unit, group, first, classes))
    local, mine = layer.here(columns)
    picked = torch.stack(
        [layer.take(column, features.dtype).own(features) for column in local.unbind(1)], dim=1
    )
    picked = layer.shard.sum(picked * mine)
    if not fold:
        return [picked]
    statistics, kept = _folded(features, layer, FOLDS[fold](*numbers), columns, picked, labels)
    return [picked, *(value.contiguous() for value in (*statistics, *kept))]


@_forward.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    fold: str,
    numbers: list[float],
    *kind: Any,
) -> list[Tensor]:
    picked = features.new_empty(columns.shape)
    if not fold:
        return [picked]
    statistics, kept = FOLDS[fold](*numbers).empty(picked, labels)
    return [picked, *statistics, *kept]


@torch.library.custom_op("criterium::linear_scan_backward", mutates_args=())
def _backward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    columns: Tensor,
    labels: Tensor | None,
    found: list[Tensor],
    upstream: list[Tensor],
    needed: list[bool],
    fold: str,
    numbers: list[float],
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> list[Tensor]:
    """Return the gradients of features, weight, bias and scale, empty where none is needed."""
    layer = Layer.of(weight, bias, scale, (distance, unit, group, first, classes))
    total = Gradients(features, layer, needed, dense=bool(fold))
    pull = upstream[0]
    if fold:
        by_picked = _add_blocks(
            total, features, FOLDS[fold](*numbers), layer, columns, labels, found, upstream[1:]
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
    found: list[Tensor],
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
    ctx.fold, ctx.numbers, *ctx.kind = inputs[6:]


def _gradients(ctx: Any, slopes: list[Tensor | None]) -> tuple[Any, ...]:
    *inputs, labels = ctx.saved_tensors[:6]
    found = list(ctx.saved_tensors[6:])
    upstream = [
        torch.zeros_like(value) if slope is None else slope.contiguous()
        for value, slope in zip(found, slopes, strict=True)
    ]
    needed = list(ctx.needs_input_grad[:4])
    gradients = _backward(*inputs, labels, found, upstream, needed, ctx.fold, ctx.numbers, *ctx.kind)
    wanted = [gradient if need else None for gradient, need in zip(gradients, needed, strict=True)]
    # To PyTorch an empty list may be one of tensors, and has a gradient that is an empty list.
    return *wanted, None, None, None, None if ctx.numbers else [], *[None] * len(ctx.kind)


_forward.register_autograd(_gradients, setup_context=_keep)


def _folded(
    features: Tensor, layer: Layer, fold: Fold, columns: Tensor, picked: Tensor, labels: Tensor | None
) -> tuple[State, State]:
    size = block_size(features)
    places = Places(columns, layer, size)
    state: State | None = None
    for part in blocks(layer, size):
        logits = layer.take(part, features.dtype).logits(features)
        new = fold.of(_block(layer, part, logits, picked, places, columns, labels))
        state = new if state is None else fold.merge(state, new)
    assert state is not None  # there is at least one class
    first, *others = zip(*(layer.shard.gather(value) for value in state), strict=True)
    for other in others:
        first = fold.merge(first, other)
    return fold.finish(first, picked)


def _add_blocks(
    total: Gradients,
    features: Tensor,
    fold: Fold,
    layer: Layer,
    columns: Tensor,
    labels: Tensor | None,
    found: list[Tensor],
    upstream: list[Tensor],
) -> Tensor | None:
    """Add the gradients of all classes but the picked ones, and return what falls to those."""
    picked = found[0]
    number = len(fold.empty(picked, labels)[0])
    statistics, kept, pulls = (
        tuple(found[1 : 1 + number]),
        tuple(found[1 + number :]),
        tuple(upstream[:number]),
    )
    size = block_size(features)
    places = Places(columns, layer, size)
    by_picked: Tensor | None = None
    for part in blocks(layer, size):
        logits, pull = layer.take(part, features.dtype).followed(features)
        block = _block(layer, part, logits, picked, places, columns, labels)
        slope, more = fold.slope(block, statistics, kept, pulls)
        slope[block.rows, block.columns] = 0
        total.add(pull(slope), part)
        if more is not None:
            by_picked = more if by_picked is None else by_picked + more
    return by_picked


def _block(
    layer: Layer,
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
    of_block = labels[:, layer.first + part.start : layer.first + part.stop]
    return Block(logits, picked, rows, here, of_block, labels[:, columns[:, 0]])
