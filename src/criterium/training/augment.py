"""Changes to a batch of images, made on the device for the whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_flip(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to `padding` pixels, zeros coming in, and mirror half of them.

    `images` (B, C, H, W) may be uint8. Small images are padded by an eighth of their side.
    """
    count, _, height, width = images.shape
    padding = min(padding, max(1, min(height, width) // 8))
    device = images.device
    padded = F.pad(images, (padding, padding, padding, padding))
    down, right = (
        torch.randint(0, 2 * padding + 1, (count, 1), generator=generator, device=device) for _ in range(2)
    )
    mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
    columns = torch.arange(width, device=device)
    columns = torch.where(mirrored, columns.flip(0), columns) + right
    rows = torch.arange(height, device=device) + down
    batch = torch.arange(count, device=device).view(-1, 1, 1)
    # Advanced indices around the channel slice put the channels last.
    return padded[batch, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def cutmix(
    images: Tensor, target: Tensor, num_classes: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste a box of each image's neighbour into it, in a `share` of the batches.

    Box area: 1 - lambda, lambda ~ U(0, 1), at a random place (Yun et al. 2019, arXiv:1905.04899, alpha = 1).
    `generator` is a CPU generator: the box decides shapes, so it must be known here. Targets become the
    mixture by the pixels really pasted.
    """
    draw, area, row, column = torch.rand(4, generator=generator).tolist()
    if draw >= share:
        return images, target
    height, width = images.shape[-2:]
    side = math.sqrt(1 - area)
    top, bottom = (round(min(1.0, max(0.0, row + s * side / 2)) * height) for s in (-1, 1))
    left, right = (round(min(1.0, max(0.0, column + s * side / 2)) * width) for s in (-1, 1))
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
    pasted = (bottom - top) * (right - left) / (height * width)
    one_hot = F.one_hot(target, num_classes).float()
    return mixed, (1 - pasted) * one_hot + pasted * one_hot.roll(1, 0)
