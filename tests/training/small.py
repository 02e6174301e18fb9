"""Data and models small enough to train many times in a test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from criterium import objectives
from criterium.data import Dataset, Split
from criterium.training.devices import accelerator_for
from criterium.training.loop import Trained, train
from criterium.training.recipe import Recipe
from criterium.training.trainer import Trainer, task_of


def features(rows: int = 60, classes: int = 4, width: int = 6) -> Dataset:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(classes, width, generator=generator)

    def split(count: int) -> Split:
        targets = torch.arange(count) % classes
        return Split(centres[targets] + 0.7 * torch.randn(count, width, generator=generator), targets)

    return _dataset(split(rows), split(20), split(20), classes, torch.zeros(width), torch.ones(width))


def images(rows: int = 40, classes: int = 4, side: int = 8) -> Dataset:
    generator = torch.Generator().manual_seed(6)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
        return Split(pixels, torch.arange(count) % classes)

    shape = torch.zeros(3, 1, 1)
    return _dataset(split(rows), split(12), split(12), classes, shape + 0.5, shape + 0.3)


def _dataset(
    train: Split, validation: Split, test: Split, classes: int, center: Tensor, scale: Tensor
) -> Dataset:
    names = tuple(map(str, range(classes)))
    hashes = {"train": "small"}
    return Dataset("small", names, train, validation, test, None, None, center, scale, hashes, ())


def dropout_net(width: int = 6, classes: int = 4) -> nn.Module:
    """Return a network with batch norm and dropout, the same each time."""
    torch.manual_seed(11)
    first = nn.Linear(width, 16, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, classes))


def run(name: str, model: nn.Module, data: Dataset, recipe: Recipe, seed: int = 0, **more: Any) -> Trained:
    precision = more.pop("precision", "float32")
    return train(
        model,
        objectives.build(name),
        data,
        recipe,
        task=task_of(data, 2),
        seed=seed,
        accelerator=accelerator_for("cpu", precision),
        **more,
    )


def trainer(name: str, model: nn.Module, data: Dataset, recipe: Recipe, seed: int = 0) -> Trainer:
    objective = objectives.build(name)
    return Trainer(model, objective, data, recipe, task_of(data, 2), seed, accelerator_for("cpu", "float32"))


def same(one: nn.Module, other: nn.Module) -> bool:
    """Return whether all weights and buffers are equal to the bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
