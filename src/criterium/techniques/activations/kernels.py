"""Quantising and packing in one pass over memory, and the way back, by Triton.

`quantise.py` says what is computed, and is the path everywhere else.

Taken for float32 on a GPU where Triton is installed. The codes agree with `quantise` for the same noise;
without noise given, each number's is drawn inside the kernel by a counter, so that none is ever stored.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

AVAILABLE = importlib.util.find_spec("triton") is not None

if AVAILABLE:
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")

    @triton.jit
    def _compress(
        values,
        noise,
        seed,
        packed,
        scales,
        offsets,
        SIZE: tl.constexpr,
        BITS: tl.constexpr,
        BLOCK: tl.constexpr,
        GIVEN: tl.constexpr,
    ):
        group = tl.program_id(0).to(tl.int64)
        places = tl.arange(0, BLOCK)
        inside = places < SIZE
        low = tl.min(tl.load(values + group * SIZE + places, mask=inside, other=float("inf")), axis=0)
        high = tl.max(tl.load(values + group * SIZE + places, mask=inside, other=float("-inf")), axis=0)
        scale = (2**BITS - 1) / (high - low + 2e-6)
        tl.store(scales + group, scale)
        tl.store(offsets + group, low)
        start = 0
        lowest = 0
        # Fields of 8, 4, 2 and 1 bits, as in `pack`; numbers are read again for each, from cache.
        for step in tl.static_range(4):
            if BITS & (8 >> step):
                # A place a field has in a byte is a row, a byte is a column.
                column = tl.arange(0, BLOCK >> step)
                row = tl.arange(0, 1 << step)
                columns = SIZE >> step
                at = row[:, None] * columns + column[None, :]
                kept = (column < columns)[None, :] & (row >= 0)[:, None]
                number = tl.load(values + group * SIZE + at, mask=kept, other=0.0)
                if GIVEN:
                    drawn = tl.load(noise + group * SIZE + at, mask=kept, other=0.0)
                else:
                    drawn = tl.rand(tl.load(seed) + group, at)
                code = tl.minimum((number - low) * scale + drawn, 2**BITS - 1).to(tl.int32)
                field = (code >> lowest) & ((1 << (8 >> step)) - 1)
                byte = tl.sum(field << (row[:, None] * (8 >> step)), axis=0)
                place = packed + group * (SIZE * BITS // 8) + start + column
                tl.store(place, byte.to(tl.uint8), mask=column < columns)
                start += columns
                lowest += 8 >> step

    @triton.jit
    def _restore(
        packed, scales, offsets, values, SIZE: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
    ):
        group = tl.program_id(0).to(tl.int64)
        place = tl.arange(0, BLOCK)
        inside = place < SIZE
        code = tl.zeros((BLOCK,), dtype=tl.int32)
        start = 0
        lowest = 0
        for step in tl.static_range(4):
            if BITS & (8 >> step):
                columns = SIZE >> step
                byte = packed + group * (SIZE * BITS // 8) + start + place % columns
                shift = (place // columns) * (8 >> step)
                field = (tl.load(byte, mask=inside, other=0).to(tl.int32) >> shift) & ((1 << (8 >> step)) - 1)
                code += field << lowest
                start += columns
                lowest += 8 >> step
        number = code.to(tl.float32) / tl.load(scales + group) + tl.load(offsets + group)
        tl.store(values + group * SIZE + place, number, mask=inside)


def usable(tensor: Tensor) -> bool:
    """Say whether the kernels take `tensor`, float32 numbers or bytes made of them."""
    return AVAILABLE and tensor.is_cuda and tensor.dtype in (torch.float32, torch.uint8)


def compress(
    groups: Tensor, bits: int, *, noise: Tensor | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise and pack float32 groups (M, G), G a multiple of 8; return bytes, scale and offset.

    With `noise` (M, G) the result is that of `quantise` and `pack`; without, a seed comes from `generator`.
    """
    groups = groups.contiguous()
    count, size = groups.shape
    packed = groups.new_empty(count, size * bits // 8, dtype=torch.uint8)
    scale, offset = groups.new_empty(count, 1), groups.new_empty(count, 1)
    seed = torch.randint(2**62, (1,), generator=generator, device=groups.device)
    if count:
        block = triton.next_power_of_2(size)
        drawn = groups if noise is None else noise.contiguous()
        _compress[(count,)](groups, drawn, seed, packed, scale, offset, size, bits, block, noise is not None)
    return packed, scale, offset


def restore(packed: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Return the dequantised groups (M, G), float32."""
    count, size = len(packed), packed.shape[1] * 8 // bits
    values = scale.new_empty(count, size)
    if count:
        _restore[(count,)](packed, scale, offset, values, size, bits, triton.next_power_of_2(size))
    return values
