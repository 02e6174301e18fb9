"""Compressed activations beside other parts of PyTorch, and in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from typer.testing import CliRunner

from criterium import objectives
from criterium.cli import app
from criterium.data import Dataset, Split
from criterium.techniques.activations import Compression, compress_activations
from criterium.training import Recipe, accelerator_for
from criterium.training.compression import CompressedForward
from criterium.training.trainer import Trainer, build_model, task_of


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))


def batch() -> Tensor:
    return torch.randn(32, 64, generator=noise(1))


def gradient(model: nn.Module, compression: Compression | None, **autocast: object) -> Tensor:
    model.zero_grad()
    if compression is None:
        model(batch()).float().square().sum().backward()
    else:
        with compression:
            loss = model(batch()).float().square().sum()
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def off(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: Tensor = self.model(x)
        return found


def test_autocast() -> None:
    model = Autocast()
    exact = gradient(model, None)
    compression = compress_activations(8, generator=noise())
    assert off(gradient(model, compression), exact) < 0.02
    # Copies of weights in bfloat16 are weights.
    assert [saved.operation for saved in compression.saved if saved.form == "codes"] == ["linear"] * 3
    numbers = 32 * (64 + 2 * 128)
    assert sum(saved.plain_bytes for saved in compression.saved if saved.form != "exact") == 2 * numbers


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.model, self.reentrant = network(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        model = self.model
        # Dropout within: the recomputation must draw the same again.
        hidden = checkpoint(
            lambda x: F.dropout(model[1](model[0](x)), 0.5), x.requires_grad_(), use_reentrant=self.reentrant
        )
        found: Tensor = model[2:](hidden)
        return found


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool) -> None:
    model = Checkpointed(reentrant)
    torch.manual_seed(0)
    exact = gradient(model, None)
    for generator in (noise(), None):
        compression = compress_activations(8, generator=generator)
        torch.manual_seed(0)
        assert off(gradient(model, compression), exact) < 0.02
        assert [saved.shape for saved in compression.saved if saved.form == "codes"] == [(32, 128), (32, 128)]


def test_a_compiled_model_keeps_its_numbers() -> None:
    model = network()
    exact = gradient(model, None)
    compression = compress_activations(1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradient(compiled, compression), exact)
    assert compression.plain_bytes > 4 * 32 * 256
    assert "codes" not in {saved.form for saved in compression.saved}


def test_inside_a_compiled_function_it_says_that_it_does_not_work() -> None:
    model = network()

    def loss(x: Tensor) -> Tensor:
        with compress_activations(2):
            return model(x).sum()

    with pytest.raises(RuntimeError, match="does not work inside a function given to"):
        torch.compile(loss, backend="eager")(batch())


def digits_like() -> Dataset:
    targets = torch.arange(64) % 4
    centres = torch.randn(4, 200, generator=noise(5))
    inputs = centres[targets] + torch.randn(64, 200, generator=noise(6))
    split = Split(inputs, targets)
    names, hashes = tuple("abcd"), {"train": "small"}
    zeros, ones = torch.zeros(200), torch.ones(200)
    return Dataset("small", names, split, split, split, None, None, zeros, ones, hashes, ())


def trained(setting: int | str | None, seed: int = 0) -> tuple[Trainer, list[float]]:
    data, objective = digits_like(), objectives.build("cross-entropy")
    task = task_of(data, 1)
    recipe = Recipe(epochs=6, batch_size=32, compress_activations=setting)
    model = build_model("mlp", objective, data, task, seed)
    trainer = Trainer(model, objective, data, recipe, task, seed, accelerator_for("cpu", "float32"))
    return trainer, [trainer.epoch(epoch) for epoch in range(6)]


def test_training_compresses_the_model_and_learns_as_well() -> None:
    _, plain = trained(None)
    for setting in (2, "L3"):
        trainer, losses = trained(setting)
        assert isinstance(trainer.forward, CompressedForward)
        compression = trainer.forward.compression
        # The model alone, not the loss.
        assert {saved.operation for saved in compression.saved} == {"linear", "relu"}
        assert compression.plain_bytes > 6 * compression.stored_bytes
        assert losses[0] == pytest.approx(plain[0], rel=0.2)
        assert losses[-1] < 0.1 * losses[0]
        assert losses != plain
        assert losses == trained(setting)[1]
    # Other noise, for all that the seed of batches and weights is the same in this model of one layer.
    assert trained(2, seed=1)[1] != trained(2)[1]


def test_an_epoch_depends_on_none_before_it_but_for_the_weights() -> None:
    trainer, _ = trained("L3")
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    first = trainer.epoch(3)
    trainer.model.load_state_dict(state)
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
    trainer.epoch(1)
    trainer.model.load_state_dict(state)
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
    again = trainer.epoch(3)
    trainer.model.load_state_dict(state)
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
    assert trainer.epoch(3) == again
    assert first != again  # the optimiser's momentum was another


@pytest.mark.parametrize("setting", [0, 9, -1, True, "L9", "2", "two"])
def test_recipes_refuse(setting: int | str) -> None:
    with pytest.raises(ValueError, match=f"compress_activations: got {setting!r}, expected"):
        Recipe(compress_activations=setting)


@pytest.mark.parametrize(("text", "kept"), [("2", 2), ("L3", "L3")])
def test_the_command(tmp_path: Path, text: str, kept: int | str) -> None:
    out = tmp_path / "run"
    command = ["train", "cross-entropy", "--epochs", "1", "--ood", "none", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, [*command, "--compress-activations", text, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert (
        json.loads((out / "config.json").read_text())["plan"]["setup"]["recipe"]["compress_activations"]
        == kept
    )
    result = CliRunner().invoke(app, [*command, "--compress-activations", "12", "--out", str(out)])
    assert result.exit_code == 2
    assert "--compress-activations: got 12, expected 1 to 8 bits or a level: L0, L1" in result.output
