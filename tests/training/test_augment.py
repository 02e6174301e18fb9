"""Changes to images, against the same done slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from criterium.training.augment import crop_flip, cutmix


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    shape = (count, channels, height, width)
    return torch.randint(1, 256, shape, generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 1), (32, 40, 4), (9, 20, 1)])
def test_every_crop_is_a_shifted_or_mirrored_image(height: int, width: int, padding: int) -> None:
    images = pictures(300, 2, height, width)
    found = crop_flip(images, generator(1))
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    padded = F.pad(images, (padding,) * 4)
    used = set()
    for image, result in zip(padded, found, strict=True):
        fits = [
            (down, right, mirrored)
            for down in range(2 * padding + 1)
            for right in range(2 * padding + 1)
            for mirrored in (False, True)
            for crop in [image[:, down : down + height, right : right + width]]
            if torch.equal(crop.flip(-1) if mirrored else crop, result)
        ]
        assert len(fits) == 1
        used.update(fits)
    for mirrored in (False, True):
        assert {d for d, _, m in used if m == mirrored} == set(range(2 * padding + 1))
        assert {r for _, r, m in used if m == mirrored} == set(range(2 * padding + 1))


def test_generators_decide() -> None:
    images = pictures(20, 3, 16, 16)
    assert torch.equal(crop_flip(images, generator(2)), crop_flip(images, generator(2)))
    assert not torch.equal(crop_flip(images, generator(2)), crop_flip(images, generator(3)))
    target = torch.arange(20) % 5
    one, two, three = (cutmix(images, target, 5, 1.0, generator(seed)) for seed in (2, 2, 3))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], three[0])


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_targets_are_the_pixels_counted(seed: int) -> None:
    count, height, width = 6, 11, 14
    target = torch.arange(count)
    images = target.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, height, width).contiguous()
    untouched = images.clone()
    mixed, shares = cutmix(images, target, count, 1.0, generator(seed))
    assert mixed.dtype == torch.uint8
    assert torch.equal(images, untouched)
    pixels = torch.stack([(mixed[:, 0] == label).sum((1, 2)) for label in range(count)], dim=1)
    torch.testing.assert_close(shares, pixels / (height * width), rtol=0, atol=1e-6)
    # The pasted pixels are a box.
    other = mixed[0, 0] != 0
    rows, columns = other.any(1).sum(), other.any(0).sum()
    assert other.sum() == rows * columns


def test_cutmix_in_a_share_of_the_batches() -> None:
    images, target = pictures(4, 1, 8, 8), torch.arange(4)
    source = generator(0)
    mixed = [cutmix(images, target, 4, 0.25, source)[1].is_floating_point() for _ in range(2000)]
    assert sum(mixed) / 2000 == pytest.approx(0.25, abs=0.03)
    same, labels = cutmix(images, target, 4, 0.0, source)
    assert same is images
    assert labels is target


def test_cutmix_box_areas_are_uniform() -> None:
    images, target, source = pictures(2, 1, 64, 64), torch.arange(2), generator(4)
    areas = torch.stack([cutmix(images, target, 2, 1.0, source)[1][0, 1] for _ in range(2000)])
    # A side s around a uniform centre, cut where it leaves the image, is s - s^2 / 4 long on average; with
    # s^2 uniform the mean area is the integral of 2 s (s - s^2 / 4)^2 over 0 to 1: 1/2 - 1/5 + 1/48.
    assert float(areas.mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)
