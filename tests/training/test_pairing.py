"""Objectives with the same seed start from the same backbone and see the same batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from criterium import objectives
from criterium.training.recipe import Recipe
from criterium.training.trainer import build_model, task_of
from small import images, same, trainer

RECIPE = Recipe(epochs=2, batch_size=16, augment="crop-flip", cutmix=0.5)
OTHERS = ["exact", "noised-topk", "noised-topk-imbalanced", "isomax-plus", "cot"]


def built(name: str, seed: int) -> nn.Module:
    data = images()
    return build_model("cnn", objectives.build(name), data, task_of(data, 2), seed)


def seen(name: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the batches of two epochs, recorded while the model trains on them."""
    loop = trainer(name, built(name, seed), images(), RECIPE, seed)
    found: list[tuple[Tensor, Tensor]] = []
    update = loop.update

    def record(inputs: Tensor, target: Tensor, rate: float) -> Tensor:
        found.append((inputs.clone(), target.clone()))
        return update(inputs, target, rate)

    loop.update = record
    for epoch in range(2):
        loop.epoch(epoch)
    return found


@pytest.mark.parametrize("other", [*OTHERS, "dismax"])
def test_same_backbone(other: str) -> None:
    one, two = built("cross-entropy", 3).backbone, built(other, 3).backbone
    assert same(one, two)
    assert not same(one, built(other, 4).backbone)


def test_same_batches() -> None:
    baseline = seen("cross-entropy", 3)
    assert len(baseline) == 6
    assert {target.is_floating_point() for _, target in baseline} == {True, False}  # some batches are mixed
    for other in OTHERS:
        for (inputs, target), (theirs, wanted) in zip(baseline, seen(other, 3), strict=True):
            assert torch.equal(inputs, theirs)
            assert torch.equal(target, wanted)
    different = seen("cross-entropy", 4)
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(baseline, different, strict=True))


def test_epochs_differ() -> None:
    batches = seen("cross-entropy", 3)
    first, second = (torch.cat([inputs for inputs, _ in part]) for part in (batches[:3], batches[3:]))
    assert not torch.equal(first, second)


def test_dismax_mixes_its_own_way_on_the_same_rows() -> None:
    """It sees the same augmented rows; quadrants are exchanged in the second half, and CutMix is left out."""
    data = images()
    plain = trainer(
        "cross-entropy", built("cross-entropy", 3), data, Recipe(batch_size=16, augment="crop-flip"), 3
    )
    mixed = trainer("dismax", built("dismax", 3), data, RECIPE, 3)
    for (inputs, target), (theirs, shares) in zip(plain.batches(0), mixed.batches(0), strict=True):
        half = len(inputs) // 2
        assert torch.equal(inputs[:half], theirs[:half])
        assert torch.equal(inputs[half:, :, :4, :4], theirs[half:, :, :4, :4])
        assert not torch.equal(inputs[half:], theirs[half:])
        assert torch.equal(shares[:half], nn.functional.one_hot(target[:half], 4).float())
        torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
