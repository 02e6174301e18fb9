"""Forms in which a saved tensor is kept until the backward pass.

Each is made of a tensor's numbers in their order in memory, one row a sample, and gives them back that way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from criterium.techniques.activations import kernels
from criterium.techniques.activations.quantise import (
    dequantise,
    even_group,
    pack,
    quantise,
    to_groups,
    unpack,
)

_AT_ONCE = 2**18
"""Numbers taken at a time, so that noise and codes of a large tensor need no memory of its size."""


class Stored(Protocol):
    """The numbers of one tensor, in whatever form."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        ...

    def numbers(self) -> Tensor:
        """Return the numbers, in their order in memory."""
        ...


def to_host(tensor: Tensor) -> Tensor:
    """Return a copy in pinned host memory of a tensor on a GPU, and other tensors as they are.

    The copy runs on the current stream, in turn with what made the tensor and with its copy back.
    """
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


@dataclass(frozen=True)
class Plain:
    """The numbers as they are, in pinned host memory if they were on a GPU."""

    values: Tensor
    device: torch.device

    @classmethod
    def of(cls, numbers: Tensor) -> Plain:
        """Swap the numbers out."""
        return cls(to_host(numbers), numbers.device)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory: none where they are swapped out."""
        return self.values.nbytes if self.values.device == self.device else 0

    def numbers(self) -> Tensor:
        """Return the numbers, on their device."""
        return self.values.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Whole:
    """Whole numbers, exact, in the narrowest type that holds them."""

    values: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, numbers: Tensor) -> Whole:
        """Look for the narrowest type."""
        low, high = (int(end) for end in numbers.aminmax())
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
                return cls(numbers.to(dtype), numbers.dtype)
        return cls(numbers, numbers.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the narrow numbers."""
        return self.values.nbytes

    def numbers(self) -> Tensor:
        """Return the numbers in their own type."""
        return self.values.to(self.dtype)


@dataclass(frozen=True)
class Mask:
    """One bit a number: 0, or `value`."""

    packed: Tensor
    value: Tensor
    count: int

    @classmethod
    def of(cls, chosen: Tensor, value: Tensor) -> Mask:
        """Pack the flags `chosen`; `value`, of no dimensions, has the type of the numbers."""
        codes = to_groups(chosen.reshape(1, -1).view(torch.uint8), -(-chosen.numel() // 8) * 8)
        return cls(pack(codes, 1), value, chosen.numel())

    @property
    def nbytes(self) -> int:
        """Bytes of the flags."""
        return self.packed.nbytes

    def numbers(self) -> Tensor:
        """Return `value` where chosen, else 0."""
        flags = unpack(self.packed, 1).view(-1)[: self.count]
        return flags.view(torch.bool) if self.value.dtype == torch.bool else self.value * flags


@dataclass(frozen=True)
class Nothing:
    """Only how many numbers there were; given back are zeros."""

    like: Tensor
    count: int
    nbytes: int = 0

    def numbers(self) -> Tensor:
        """Return zeros."""
        return self.like.new_zeros(self.count)


@dataclass(frozen=True)
class _Part:
    """Groups of some samples, all at the same number of bits."""

    samples: Tensor | None
    bits: int
    packed: Tensor
    scale: Tensor
    offset: Tensor

    def groups(self) -> Tensor:
        packed = self.packed.to(self.scale.device, non_blocking=True)
        if kernels.usable(packed):
            return kernels.restore(packed, self.scale, self.offset, self.bits)
        values = self.scale.new_empty(len(packed), packed.shape[1] * 8 // self.bits)
        count = max(1, _AT_ONCE // values.shape[1])
        for start in range(0, len(packed), count):
            some = slice(start, start + count)
            codes = unpack(packed[some], self.bits)
            values[some] = dequantise(codes, self.scale[some], self.offset[some])
        return values


@dataclass(frozen=True)
class Quantised:
    """Codes of a few bits, with a scale and an offset for each group."""

    parts: tuple[_Part, ...]
    samples: int
    features: int
    dtype: torch.dtype

    @classmethod
    def of(
        cls, rows: Tensor, bits: int | Tensor, generator: torch.Generator | None, *, swap: bool = False
    ) -> Quantised:
        """Quantise rows (N, F) at `bits` bits, or those of each row in `bits` (N,), on the CPU."""
        # The range of half-precision numbers may not fit their type.
        wide = rows if rows.dtype == torch.float64 else rows.float()
        groups = to_groups(wide, even_group(rows.shape[1]))
        if isinstance(bits, int):
            chosen: list[tuple[Tensor | None, int]] = [(None, bits)]
        else:
            chosen = [((bits == b).nonzero().view(-1).to(rows.device), b) for b in sorted(set(bits.tolist()))]
        parts = []
        for samples, count in chosen:
            some = (
                groups if samples is None else groups.view(len(rows), -1)[samples].view(-1, groups.shape[1])
            )
            packed, scale, offset = compress(some, count, generator)
            parts.append(_Part(samples, count, to_host(packed) if swap else packed, scale, offset))
        return cls(tuple(parts), len(rows), rows.shape[1], rows.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory of codes, scales, offsets and the samples' places."""
        found = 0
        for part in self.parts:
            for tensor in (part.packed, part.scale, part.offset, part.samples):
                found += tensor.nbytes if tensor is not None and tensor.device == part.scale.device else 0
        return found

    def numbers(self) -> Tensor:
        """Return the dequantised numbers."""
        first = self.parts[0]
        if first.samples is None:
            values = first.groups().view(self.samples, -1)
        else:
            size = first.packed.shape[1] * 8 // first.bits
            values = first.scale.new_empty(self.samples, size * -(-self.features // size))
            for part in self.parts:
                assert part.samples is not None
                values[part.samples] = part.groups().view(len(part.samples), -1)
        return values[:, : self.features].to(self.dtype).reshape(-1)


def compress(groups: Tensor, bits: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise and pack groups (M, G) with fresh noise; return bytes, scale and offset."""
    if kernels.usable(groups):
        return kernels.compress(groups, bits, generator=generator)
    packed, scales, offsets = [], [], []
    count = max(1, _AT_ONCE // groups.shape[1])
    for start in range(0, len(groups), count):
        some = groups[start : start + count]
        noise = torch.rand(some.shape, dtype=some.dtype, device=some.device, generator=generator)
        codes, scale, offset = quantise(some, bits, noise)
        packed.append(pack(codes, bits))
        scales.append(scale)
        offsets.append(offset)
    return torch.cat(packed), torch.cat(scales), torch.cat(offsets)
