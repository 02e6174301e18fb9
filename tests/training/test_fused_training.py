"""Training with fused losses ends where training with logits does."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from criterium import objectives
from criterium.data import Dataset
from criterium.objectives import OBJECTIVES
from criterium.training import Recipe, accelerator_for, predict
from criterium.training.fused import FusedModel
from criterium.training.trainer import Trainer, build_model, task_of
from small import features, images

CLASSES = 70
RECIPE = Recipe(epochs=2, batch_size=30, learning_rate=0.1)
# As good as without noise, which the fused form draws otherwise.
SETTINGS = {"noised-topk": {"epsilon": 1e-6}, "noised-topk-imbalanced": {"epsilon": 1e-6}}
TREE = tuple(("even" if number % 2 == 0 else "odd", str(number)) for number in range(CLASSES))


def many() -> Dataset:
    return dataclasses.replace(features(rows=3 * CLASSES, classes=CLASSES), hierarchy=TREE)


def trainer(name: str, data: Dataset, recipe: Recipe) -> Trainer:
    objective, task = objectives.build(name, SETTINGS.get(name, {})), task_of(data, 2)
    # In float32 some losses amplify rounding too much to be compared after several steps.
    model = build_model("mlp", objective, data, task, seed=1).double()
    return Trainer(model, objective, data, recipe, task, 0, accelerator_for("cpu", "float32"))


def both(name: str, data: Dataset, **recipe: object) -> tuple[Trainer, Trainer]:
    plain = trainer(name, data, dataclasses.replace(RECIPE, **recipe))
    fused = trainer(name, data, dataclasses.replace(RECIPE, **recipe, fused=True))
    for epoch in range(2):
        torch.testing.assert_close(fused.epoch(epoch), plain.epoch(epoch), rtol=1e-5, atol=1e-5)
    return plain, fused


def check(plain: Trainer, fused: Trainer) -> None:
    ours, theirs = fused.modules["model"].state_dict(), plain.modules["model"].state_dict()
    assert ours.keys() == theirs.keys()  # a checkpoint of one is one of the other
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"smooth-topk-svm"}))
def test_fused_training_is_the_same_training(name: str) -> None:
    data = many()
    plain, fused = both(name, data)
    check(plain, fused)
    assert isinstance(fused.model, FusedModel)
    accelerator = accelerator_for("cpu")
    logits = predict(fused.model, data.test.inputs, accelerator)
    torch.testing.assert_close(logits, predict(fused.modules["model"], data.test.inputs, accelerator))


@pytest.mark.parametrize("name", ["dismax", "cross-entropy"])
def test_mixed_images_have_soft_targets(name: str) -> None:
    check(*both(name, images(), cutmix=1.0))


def test_the_smooth_svm_sees_its_strongest_classes() -> None:
    data = many()
    plain, fused = (
        trainer("smooth-topk-svm", data, dataclasses.replace(RECIPE, fused=f)) for f in (False, True)
    )
    whole, part = plain.epoch(0), fused.epoch(0)
    assert 0.9 * whole < part < whole  # 64 of 70 classes
    assert fused.epoch(1) < part


def test_what_cannot_be_fused_says_so() -> None:
    with pytest.raises(ValueError, match="candidates: got None, expected a number"):
        trainer("topk", features(), dataclasses.replace(RECIPE, fused=True)).epoch(0)
    with pytest.raises(ValueError, match="fused: got True, expected False with compress_activations"):
        Recipe(fused=True, compress_activations=4)
