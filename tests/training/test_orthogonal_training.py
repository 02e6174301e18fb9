"""Orthogonal training in the loop and from the command line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from criterium import cli, objectives, orthogonal
from criterium.comparison import race, study
from criterium.training import loop
from criterium.training.orthogonal import OrthogonalTraining, parse
from criterium.training.recipe import Recipe
from criterium.training.trainer import build_model, task_of
from small import dropout_net, features, images, run, same, trainer

ALL = (*orthogonal.METHODS, "gram_schmidt:stochastic=0.25", "gradient_descent:stochastic=0.5")


def network(name: str = "cross-entropy") -> nn.Module:
    data = images()
    return build_model("cnn", objectives.build(name), data, task_of(data, 2), 0)


@pytest.mark.parametrize("how", ALL)
def test_what_is_trained_is_a_plain_model(how: str) -> None:
    recipe = Recipe(epochs=2, batch_size=20, orthogonal=how)
    model = network("isomax")
    trained, fresh = run("isomax", model, images(), recipe).model, network("isomax")
    assert [type(layer) for layer in trained.modules()] == [type(layer) for layer in fresh.modules()]
    fresh.load_state_dict(trained.state_dict())
    # The layers of the backbone are orthogonal, the head is not.
    assert len(orthogonal.rotations(model)) == 3 == len(orthogonal.rotations(model.get_submodule("backbone")))
    assert orthogonal.orthogonality_error(model) <= (0.1 if how == "regularised" else 1e-5)
    inputs = images().test.inputs
    assert torch.equal(trained.eval()(inputs), model.eval()(inputs))


def test_bfloat16_and_compressed_activations_leave_the_matrices_in_float32() -> None:
    model = network()
    recipe = Recipe(epochs=2, batch_size=20, orthogonal="lowdin", compress_activations=2)
    trained = run("cross-entropy", model, images(), recipe, precision="bf16").model.eval()
    assert orthogonal.orthogonality_error(model) <= 1e-5
    expected = model.eval()(inputs := images().test.inputs)
    assert torch.equal(trained(inputs), expected)
    # Autocast sits in the model's own forward: that of the copy is to use the copy's weights.
    with torch.no_grad():
        trained.get_parameter("head.weight").zero_()
    assert not torch.equal(trained(inputs), expected)
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("how", ["cayley", "gradient_descent", "regularised"])
def test_it_learns(how: str) -> None:
    recipe = Recipe(epochs=12, batch_size=20, learning_rate=0.03, orthogonal=how)
    history = run("cross-entropy", dropout_net(), features(), recipe).history
    assert history["train_loss"][-1] < 0.6 * history["train_loss"][0]
    assert history["validation_error"][-1] <= 0.35  # chance is 0.75


def test_all_objectives_begin_from_the_same_neurons() -> None:
    recipe = Recipe(epochs=1, orthogonal="lowdin:stochastic=0.5")
    one, other = (trainer(name, network(name), images(), recipe).model for name in ("exact", "isomax"))
    assert same(one.get_submodule("backbone"), other.get_submodule("backbone"))
    different = trainer("exact", network("exact"), images(), recipe, seed=1).model
    assert not same(one.get_submodule("backbone"), different.get_submodule("backbone"))


class _Killed(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("how", ["householder", "gradient_descent:stochastic=0.5"])
def test_resumed_to_the_same_bits(
    how: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of 15 steps, and so two episodes; two criteria, and so two optimisers of each kind."""
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", -1.0)
    recipe = Recipe(epochs=3, batch_size=4, optimizer=optimizer, orthogonal=how)
    whole = run("cot", dropout_net(), features(), recipe)
    path = tmp_path / "state.safetensors"

    def kill(done: int, _: int) -> None:
        if done == 2:
            raise _Killed

    with pytest.raises(_Killed):
        run("cot", dropout_net(), features(), recipe, resume=path, progress=kill)
    resumed = run("cot", dropout_net(), features(), recipe, resume=path)
    assert same(whole.model, resumed.model)
    assert whole.history["train_loss"] == resumed.history["train_loss"]


def test_episodes_begin_anew_without_momentum() -> None:
    recipe = Recipe(epochs=10, batch_size=4, orthogonal="cayley:stochastic=0.5")
    turning = trainer("cross-entropy", dropout_net(), features(), recipe)
    axes = turning.modules["model"].get_buffer("0.parametrizations.weight.0.axes")
    (matrix, _), seen = orthogonal.rotations(turning.modules["model"]), []
    turning.epoch(0)
    before = axes.clone()
    momentum = turning.optimizers[0].state[matrix]["momentum_buffer"]
    assert momentum.abs().max() > 0
    assert isinstance(turning.weights, OrthogonalTraining)
    assert [step for step in range(61) if turning.weights.episode_ends(step, 150)] == [20, 40, 60]
    assert [step for step in range(99) if turning.weights.episode_ends(step, 20_000)] == [50]
    for seed in range(5):
        turning.weights.next_episode(turning.optimizers, torch.Generator().manual_seed(seed))
        seen.append(tuple(axes.tolist()))
    assert momentum.abs().max() == 0
    assert len({tuple(before.tolist()), *seen}) > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cayly", r"orthogonal: got 'cayly', expected one of cayley, .*did you mean 'cayley'\?"),
        ("lowdin:0.25", r"orthogonal: got 'lowdin:0.25', expected lowdin, or lowdin:stochastic=SHARE"),
        ("lowdin:stochastic=2", "a share above 0, at most 1"),
        ("lowdin:stochastic=nan", "a share above 0, at most 1"),
        ("lowdin:share=0.5", "expected lowdin, or lowdin:stochastic=SHARE"),
    ],
)
def test_spelling(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(orthogonal=text)
    assert parse("lowdin") == ("lowdin", None)
    assert parse("lowdin:stochastic=1") == ("lowdin", 1.0)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a small comparison, without figures and the measurement of the cost, which take seconds."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 2.0))
    rows, target = np.random.default_rng(0).normal(size=(90, 5)).astype("float32"), np.arange(90) % 3
    parts = {"x_train": rows, "y_train": target, "x_test": rows[:30], "y_test": target[:30]}
    np.savez(tmp_path / "blobs.npz", **parts)
    data = ["--data", f"npz:{tmp_path / 'blobs.npz'}", "--epochs", "1", "--device", "cpu"]
    return [*data, "--ood", "none", "--out", str(tmp_path / "out")]


def test_from_the_command_line(command: list[str], tmp_path: Path) -> None:
    plain, turned = "cross-entropy", "cross-entropy:orthogonal=cayley:stochastic=0.5"
    words = ["compare", plain, turned, *command, "--seeds", "1", "--tune", "0", "--jobs", "1"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    one, other = (load_file(path) for path in sorted((tmp_path / "out").glob("runs/*/weights.safetensors")))
    assert one.keys() == other.keys() == {
        *(f"backbone.standardize.{name}" for name in ("center", "scale")),
        *(f"backbone.body.{layer}.{name}" for layer in (1, 3) for name in ("weight", "bias")),
        *(f"head.{name}" for name in ("weight", "bias")),
    }  # fmt: skip


def test_option_of_train(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["train", "cross-entropy", *command, "--orthogonal", "gram_schmidt"])
    assert result.exit_code == 0, result.output
    assert '"orthogonal": "gram_schmidt"' in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--orthogonal", "cayly"], "orthogonal: got 'cayly'"),
        (["--orthogonal", "cayley", "--model", "linear"], "without a layer that can be orthogonal"),
    ],
)
def test_refused_before_anything_is_trained(
    words: list[str], message: str, command: list[str], tmp_path: Path
) -> None:
    result = CliRunner().invoke(cli.app, ["train", "cross-entropy", *command, *words])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.glob("out/runs/*"))


HOW = "gram_schmidt:stochastic=0.5"
SHARED = Recipe(epochs=2, batch_size=4, orthogonal=HOW)


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    turning = trainer("cross-entropy", plain(), features(), SHARED)
    losses = [turning.epoch(epoch) for epoch in range(2)]
    torch.save({"losses": losses, "weights": turning.trained().state_dict()}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def plain() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


def test_two_processes_turn_alike(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = trainer("cross-entropy", plain(), features(), SHARED)
    torch.testing.assert_close(one["losses"], [alone.epoch(epoch) for epoch in range(2)], rtol=1e-4, atol=0)
    for key, value in alone.trained().state_dict().items():
        assert torch.equal(one["weights"][key], two["weights"][key])
        torch.testing.assert_close(one["weights"][key], value, rtol=1e-3, atol=1e-5)
