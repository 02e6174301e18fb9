"""The loop does what a bare PyTorch loop does, and training rows are all that it learns from."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from criterium import objectives
from criterium.data import Split
from criterium.losses.complement import ComplementEntropyLoss
from criterium.training import Diverged, predict
from criterium.training.optimizers import optimizer_for
from criterium.training.recipe import Recipe
from criterium.training.seeds import derive
from criterium.training.trainer import build_model, task_of
from small import dropout_net, features, images, run, same, trainer


def bare_optimizer(model: nn.Module, recipe: Recipe, rate: float, decay: float) -> torch.optim.Optimizer:
    """Return the optimiser as one would write it down: nothing decays but matrices and kernels."""
    spared = [p for name, p in model.named_parameters() if name.endswith("bias") or p.dim() == 1]
    decayed = [p for p in model.parameters() if all(p is not other for other in spared)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, foreach=False)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, foreach=False)


@pytest.mark.parametrize(
    ("recipe", "rate", "decay"),
    [
        (Recipe(epochs=3, batch_size=16), 0.1, 5e-4),
        (Recipe(epochs=3, batch_size=16, optimizer="adamw", weight_decay=0.3), 1e-3, 0.3),
        (Recipe(epochs=4, batch_size=25, schedule="step", warmup=0.0, learning_rate=0.02), 0.02, 5e-4),
        (Recipe(epochs=2, batch_size=16, clip=0.3, weight_decay=0.01), 0.1, 0.01),
    ],
    ids=["sgd", "adamw", "step", "clip"],
)
def test_equals_a_bare_loop(recipe: Recipe, rate: float, decay: float) -> None:
    data, ours = features(), dropout_net()
    ours[3] = nn.Identity()  # dropout would draw noise
    bare = copy.deepcopy(ours)
    loop = trainer("cross-entropy", ours, data, recipe)
    steps = math.ceil(60 / recipe.batch_size)
    optimizer = bare_optimizer(bare, recipe, rate, decay)

    def factor(step: int) -> float:
        done, total = step, steps * recipe.epochs
        if recipe.schedule == "step":
            return 1.0 if done < total / 2 else 0.1 if done < 3 * total / 4 else 0.01
        warm = 0.05 * total
        return done / warm if done < warm else (1 + math.cos(math.pi * (done - warm) / (total - warm))) / 2

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for epoch in range(recipe.epochs):
        seen, losses = [], []
        for inputs, target in loop.batches(epoch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(bare(inputs), target)
            loss.backward()
            if recipe.clip:
                norm = torch.cat([p.grad.flatten() for p in bare.parameters()]).norm()
                assert norm > recipe.clip  # else the test would not see the clipping
                for parameter in bare.parameters():
                    parameter.grad *= recipe.clip / norm
            optimizer.step()
            scheduler.step()
            seen.append(inputs)
            losses.append(loss.item())
        assert loop.epoch(epoch) == pytest.approx(sum(losses) / steps, rel=1e-5)
        # Every row once an epoch, in batches that differ by at most one row.
        rows = torch.cat(seen)
        assert torch.equal(rows.sort(0).values, data.train.inputs.sort(0).values)
        assert not torch.equal(rows, data.train.inputs)
        assert max(map(len, seen)) <= recipe.batch_size
        assert max(map(len, seen)) - min(map(len, seen)) <= 1
    for ours_value, bare_value in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours_value, bare_value, rtol=1e-5, atol=1e-6)


def test_decay_spares_norms_and_biases() -> None:
    task = task_of(images(), 2)
    model = build_model("cnn", objectives.build("isomax-plus"), images(), task, 0)
    decayed, spared = optimizer_for(Recipe(weight_decay=0.2), model, 0.1).param_groups
    assert decayed["weight_decay"] == 0.2
    assert spared["weight_decay"] == 0.0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[-1] for p in decayed["params"]} == {"weight", "prototypes"}
    assert all(p.dim() > 1 for p in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert "head.distance_scale" in {names[id(p)] for p in spared["params"]}


def test_factor() -> None:
    cosine = Recipe(warmup=0.2)
    assert [cosine.factor(p) for p in (0.0, 0.05, 0.2)] == pytest.approx([0.0, 0.25, 1.0])
    assert [cosine.factor(p) for p in (0.4, 0.6, 1.0)] == pytest.approx([(2 + math.sqrt(2)) / 4, 0.5, 0.0])
    step = Recipe(schedule="step", warmup=0.1)
    assert [step.factor(p) for p in (0.05, 0.1, 0.49, 0.5, 0.74, 0.75, 0.99)] == pytest.approx(
        [0.5, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert Recipe(warmup=0.0).factor(0.0) == 1.0
    assert Recipe(warmup=1.0).factor(0.5) == 0.5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"optimizer": "sdg"}, "optimizer: got 'sdg'.*did you mean 'sgd'"),
        ({"learning_rate": "abc"}, "learning_rate: got 'abc', expected a finite number above 0"),
        ({"epochs": None}, "epochs: got None, expected a whole number"),
        ({"cutmix": 1.5}, "cutmix: got 1.5, expected a share from 0 to 1"),
        ({"clip": 0.0}, "clip: got 0.0"),
    ],
)
def test_recipe_refuses(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe(**setting)


@pytest.mark.parametrize("changed", ["validation", "test"])
def test_validation_and_test_rows_have_no_influence(changed: str) -> None:
    data, recipe = features(), Recipe(epochs=2, batch_size=16)
    rows = getattr(data, changed)
    noise = torch.randn(rows.inputs.shape, generator=torch.Generator().manual_seed(3))
    other = replace(data, **{changed: Split(noise * 9, rows.targets.roll(7))})
    one, two = (run("noised-topk", dropout_net(), d, recipe) for d in (data, other))
    assert same(one.model, two.model)
    moved = replace(data, train=Split(data.train.inputs * 1.001, data.train.targets))
    assert not same(one.model, run("noised-topk", dropout_net(), moved, recipe).model)


def test_complement_training_is_two_updates_a_batch() -> None:
    data, recipe = features(), Recipe(epochs=2, batch_size=20, weight_decay=0.05)
    ours = dropout_net()
    ours[3] = nn.Identity()
    bare = copy.deepcopy(ours)
    loop = trainer("cot", ours, data, recipe)
    first, second = (bare_optimizer(bare, recipe, 0.1, 0.05) for _ in range(2))
    for epoch in range(2):
        for step, (inputs, target) in enumerate(loop.batches(epoch)):
            for optimizer, criterion in ((first, nn.CrossEntropyLoss()), (second, ComplementEntropyLoss())):
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 * recipe.factor((epoch * 3 + step) / 6)
                optimizer.zero_grad()
                criterion(bare(inputs), target).backward()
                optimizer.step()
        loop.epoch(epoch)
    assert int(ours[1].num_batches_tracked) == 2 * 2 * 3
    for ours_value, bare_value in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours_value, bare_value, rtol=1e-5, atol=1e-6)
    one, two = (optimizer.state_dict()["state"][0]["momentum_buffer"] for optimizer in loop.optimizers)
    assert not torch.allclose(one, two)


def test_diverged() -> None:
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=1e30, warmup=0.0)
    with pytest.raises(Diverged, match=r"the lo(ss|gits) of cross-entropy .* epoch 1"):
        run("cross-entropy", dropout_net(), features(), recipe)


class _Spoiled(nn.Linear):
    """A layer whose outputs are not finite in evaluation only."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) if self.training else super().forward(inputs) / 0


def test_diverged_after_the_last_step() -> None:
    with pytest.raises(Diverged, match="the logits of cross-entropy are not finite after epoch 1"):
        run("cross-entropy", _Spoiled(6, 4), features(), Recipe(epochs=1, batch_size=16))


def test_history_and_predictions() -> None:
    data, told = features(), []
    trained = run(
        "cross-entropy",
        dropout_net(),
        data,
        Recipe(epochs=5, batch_size=16),
        progress=lambda *now: told.append(now),
    )
    assert told == [(epoch, 5) for epoch in range(6)]
    assert trained.history["epoch"] == [1, 2, 3, 4, 5]
    loop = trainer("cross-entropy", trained.model, data, Recipe())
    logits = predict(trained.model, data.validation.inputs, loop.accelerator, batch_size=7)
    torch.testing.assert_close(logits, trained.model.eval()(data.validation.inputs))
    wrong = (logits.argmax(1) != data.validation.targets).float().mean()
    assert trained.history["validation_error"][-1] == pytest.approx(float(wrong))
    assert wrong < 0.4
    assert trained.history["train_loss"][-1] < trained.history["train_loss"][0]


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(1)
    model = dropout_net()
    before = torch.get_rng_state()
    run("noised-topk", model, features(), Recipe(epochs=1))
    build_model("mlp", objectives.build("isomax-plus"), features(), task_of(features(), 2), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_derived_seeds_differ() -> None:
    seeds = {derive(s, p, e) for s in range(20) for p in ("order", "noise") for e in range(20)}
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_ties_are_wrong_in_the_history_as_in_all_errors() -> None:
    class Undecided(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * 0

    history = run("cross-entropy", Undecided(6, 4), features(), Recipe(epochs=1)).history
    assert history["validation_error"] == [1.0]
