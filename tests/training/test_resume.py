"""A run that was interrupted goes on to the same bits."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from criterium import objectives
from criterium.training import Recipe, Trained
from criterium.training.checkpoint import load_tensors, save_tensors
from criterium.training.trainer import build_model, task_of
from small import dropout_net, features, images, run, same

EPOCHS = 4


class _Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _save_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("criterium.training.loop._CHECKPOINT_SECONDS", -1.0)


def interrupted(name: str, recipe: Recipe, path: Path, after: int) -> None:
    def kill(done: int, _: int) -> None:
        if done == after:
            raise _Killed

    with pytest.raises(_Killed):
        run(name, dropout_net(), features(), recipe, resume=path, progress=kill)


def timeless(trained: Trained) -> dict[str, list[float]]:
    return {key: values for key, values in trained.history.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("cross-entropy", "sgd"),
        ("cross-entropy", "adamw"),
        ("exact", "sgd"),
        ("cot", "sgd"),
        ("noised-topk", "adamw"),
    ],
)
def test_same_bits(tmp_path: Path, name: str, optimizer: str) -> None:
    recipe = Recipe(epochs=EPOCHS, batch_size=16, optimizer=optimizer)
    whole = run(name, dropout_net(), features(), recipe)
    for after in range(1, EPOCHS):
        path = tmp_path / f"{after}.safetensors"
        interrupted(name, recipe, path, after)
        done = []
        with torch.random.fork_rng():
            torch.manual_seed(after)  # the global generator's state is no part of a run
            resumed = run(
                name,
                dropout_net(),
                features(),
                recipe,
                resume=path,
                progress=lambda now, _, d=done: d.append(now),
            )
        assert done[0] == after
        assert same(whole.model, resumed.model)
        assert timeless(whole) == timeless(resumed)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_bits_with_convolutions_that_hold_channels_last(tmp_path: Path, optimizer: str) -> None:
    data = images()
    recipe = Recipe(epochs=3, batch_size=16, optimizer=optimizer, augment="crop-flip", cutmix=0.5)
    task = task_of(data, 1)

    def network() -> nn.Module:
        return build_model("cnn", objectives.build("cross-entropy"), data, task, seed=0)

    convolution = next(p for p in network().parameters() if p.dim() == 4 and p.shape[1] > 1)
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.is_contiguous()
    whole = run("cross-entropy", network(), data, recipe)
    path = tmp_path / "state.safetensors"

    def kill(done: int, _: int) -> None:
        if done == 2:
            raise _Killed

    with pytest.raises(_Killed):
        run("cross-entropy", network(), data, recipe, resume=path, progress=kill)
    assert same(whole.model, run("cross-entropy", network(), data, recipe, resume=path).model)


def test_taking_up_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    recipe, path = Recipe(epochs=2, batch_size=16), tmp_path / "state.safetensors"
    whole = run("exact", dropout_net(), features(), recipe, resume=path)
    again = run("exact", dropout_net(), features(), recipe, resume=path)
    assert same(whole.model, again.model)
    assert whole.history == again.history


def test_another_run_is_set_aside(tmp_path: Path) -> None:
    path, recipe = tmp_path / "state.safetensors", Recipe(epochs=3, batch_size=16)
    interrupted("exact", recipe, path, 1)
    wider = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    other, longer = path.with_name("other-state.safetensors"), Recipe(epochs=9, batch_size=16)
    held = path.read_bytes()
    for words, name, model, how, seed in (
        (r"holds another run: model/.* has shape .*, expected", "exact", wider, recipe, 0),
        ("its objective was 'exact', expected 'cot'", "cot", dropout_net(), recipe, 0),
        (r"its recipe was .*'epochs': 3.*expected.*'epochs': 9", "exact", dropout_net(), longer, 0),
        ("its seed was 0, expected 8", "exact", dropout_net(), recipe, 8),
    ):
        path.write_bytes(held)
        kept = copy.deepcopy(model)
        trained = run(name, model, features(), how, seed=seed, resume=path)
        (note,) = trained.notes
        assert re.search(words, note)
        assert note.endswith("; it is set aside as other-state.safetensors")
        assert other.read_bytes() == held
        assert same(trained.model, run(name, kept, features(), how, seed=seed).model)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    interrupted("cot", Recipe(epochs=3), path, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"state\.safetensors: not a readable safetensors file"):
        run("cot", dropout_net(), features(), Recipe(epochs=3), resume=path)


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    tied = nn.Linear(3, 3)
    tensors = {"a": tied.weight, "b": tied.weight, "c": tied.weight.T, "d": torch.tensor(2)}
    save_tensors(tmp_path / "x", tensors, {"note": [1, None]})
    loaded, note = load_tensors(tmp_path / "x")
    assert note == {"note": [1, None]}
    assert loaded.keys() == load_file(tmp_path / "x").keys() == tensors.keys()
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
