"""Numbers in groups to codes of a few bits and back: pure functions, tensors in, tensors out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 256
"""Numbers that share a scale and an offset."""

# What the authors add to a range, so that the scale of a constant group is finite.
_RANGE_FLOOR = 2e-6


def to_groups(rows: Tensor, size: int = GROUP) -> Tensor:
    """Cut each row into groups of `size`, its end padded with zeros: (N, F) to (N * ceil(F / size), size)."""
    padding = -rows.shape[1] % size
    return (F.pad(rows, (0, padding)) if padding else rows).reshape(-1, size)


def even_group(features: int) -> int:
    """Return the size, a multiple of 8 up to 256, of the groups that share a row without much padding."""
    groups = -(-features // GROUP)
    return -(-features // (8 * groups)) * 8


def quantise(groups: Tensor, bits: int, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round each number up or down to one of 2^bits levels between its group's ends, unbiased.

    With B = 2^bits − 1:  scale = B / (max − min + 2e-6),  f = (x − min) scale,  code = floor(f + u).
    For u uniform on [0, 1) the code's mean is f, and the dequantised number's mean is x; its variance is
    r (1 − r) / scale² <= 1 / (4 scale²), r the fractional part of f.

    Args:
        groups: ``(M, G)`` finite numbers, float32 or float64.
        bits: 1 to 8.
        noise: ``(M, G)`` draws u.

    Returns:
        Codes ``(M, G)``, uint8; scale and offset (the minimum), each ``(M, 1)`` in the type of `groups`.

    Example:
        >>> groups = torch.tensor([[0.0, 1.0, 2.5, 3.0]])
        >>> codes, scale, offset = quantise(groups, 2, torch.tensor([[0.9, 0.9, 0.4, 0.6]]))
        >>> codes
        tensor([[0, 1, 2, 3]], dtype=torch.uint8)

    Reference:
        Jianfei Chen, Lianmin Zheng et al., "ActNN: Reducing Training Memory Footprint via 2-Bit Activation
        Compressed Training", ICML 2021, arXiv:2104.14129, section 3.2.

    Deviations:
        The authors keep scale and offset of float32 inputs in bfloat16, which puts them up to 0.2 % off and
        makes the result biased; here they keep the type of `groups`. Rounding is floor(f + u) rather than
        round(f + u − 1/2), which differs on ties alone.

    """
    offset = groups.amin(1, keepdim=True)
    steps = 2**bits - 1
    scale = steps / (groups.amax(1, keepdim=True) - offset + _RANGE_FLOOR)
    # f is below B, but f + u may round up to B + 1, which eight bits do not hold.
    codes = (groups - offset).mul_(scale).add_(noise).clamp_(max=steps)
    return codes.to(torch.uint8), scale, offset


def dequantise(codes: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Return code / scale + offset, in the type of `scale`.

    Example:
        >>> dequantise(torch.tensor([[0, 3]]), torch.tensor([[1.5]]), torch.tensor([[-1.0]]))
        tensor([[-1., 1.]])

    """
    return codes.to(scale.dtype).div_(scale).add_(offset)


def fields(bits: int) -> list[tuple[int, int]]:
    """Return (lowest bit, width) of the parts, 1, 2, 4 or 8 wide, in which a code of `bits` bits is packed.

    Example:
        >>> fields(7)
        [(0, 4), (4, 2), (6, 1)]

    """
    found, low = [], 0
    for width in (8, 4, 2, 1):
        if bits & width:
            found.append((low, width))
            low += width
    return found


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of `bits` bits (M, G), G a multiple of 8, into bytes (M, G * bits / 8).

    For a field of w bits, byte j of a row holds codes j, j + G w / 8, j + 2 G w / 8 and so on, the first one
    lowest: whole stretches of memory are added at a time.

    Example:
        >>> pack(torch.tensor([[1, 0, 3, 2, 0, 0, 1, 1]], dtype=torch.uint8), 2)
        tensor([[77, 72]], dtype=torch.uint8)

    """
    parts = []
    for low, width in fields(bits):
        field = codes if width == bits else (codes >> low) & (2**width - 1)
        blocks = field.view(len(codes), 8 // width, -1)
        packed = blocks[:, -1]
        for place in range(8 // width - 2, -1, -1):
            packed = torch.add(blocks[:, place], packed, alpha=2**width)
        parts.append(packed)
    return torch.cat(parts, 1)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the codes (M, G) that `pack` made bytes (M, G * bits / 8) of.

    Example:
        >>> unpack(torch.tensor([[77, 72]], dtype=torch.uint8), 2)
        tensor([[1, 0, 3, 2, 0, 0, 1, 1]], dtype=torch.uint8)

    """
    rows, size = len(packed), packed.shape[1] * 8 // bits
    codes = packed.new_zeros(rows, size)
    start = 0
    for low, width in fields(bits):
        part = packed[:, start : start + size * width // 8]
        start += part.shape[1]
        blocks = codes.view(rows, 8 // width, -1)
        for place in range(8 // width):
            blocks[:, place] |= ((part >> (place * width)) & (2**width - 1)) << low
    return codes
