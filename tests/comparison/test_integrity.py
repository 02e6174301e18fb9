"""What lies in the folder of a race is what its runs wrote, or it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from criterium.comparison import compare, open_study, race, resume, study
from criterium.training import Recipe

SHORT: dict[str, Any] = {
    "objectives": ["cross-entropy", "hinge"],
    "model": "linear",
    "repeats": 2,
    "tune": 0,
    "recipe": Recipe(epochs=1, batch_size=16),
    "jobs": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("integrity")
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    np.savez(folder / "flowers.npz", x_train=inputs, y_train=targets, x_test=inputs[:30], y_test=targets[:30])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "write_report", lambda *_, **__: None)
        patch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 2.0))
        compare(f"npz:{folder / 'flowers.npz'}", out=folder / "race", **SHORT)
    return folder / "race"


@pytest.fixture
def copy(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 2.0))
    return Path(shutil.copytree(whole, tmp_path / "race"))


def shown(root: Path) -> str:
    return json.dumps(open_study(root).table.to_dict(), sort_keys=True)


def test_one_changed_byte_is_noticed_or_without_effect(copy: Path) -> None:
    right = shown(copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
    rng = np.random.default_rng(0)
    noticed = 0
    for turn in range(200):
        path = files[turn % len(files)]
        held = path.read_bytes()
        changed = bytearray(held)
        changed[rng.integers(len(held))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            assert shown(copy) == right, path
        except ValueError as error:
            noticed += 1
            assert str(copy) in str(error)
            assert "\n" not in str(error)
        path.write_bytes(held)
    assert shown(copy) == right
    assert noticed > 80


def swap(root: Path) -> None:
    one, other = (root / "runs" / f"{name}-seed0" / "predictions.parquet" for name in SHORT["objectives"])
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap, "predictions.parquet"),
        (
            lambda root: (root / "runs" / "hinge-seed1" / "weights.safetensors").unlink(),
            "weights.safetensors",
        ),
        (lambda root: (root / "runs" / "hinge-seed1" / "weights.safetensors").write_bytes(b""), "weights"),
        (lambda root: (root / "runs" / "hinge-seed1" / "run.json").write_text("[]"), "run.json"),
    ],
)
def test_a_damaged_run_is_named_and_done_again(
    change: Callable[[Path], None], named: str, copy: Path
) -> None:
    right = shown(copy)
    change(copy)
    with pytest.raises(ValueError, match=f"{named}.*the run is done again by: criterium resume"):
        open_study(copy)
    resume(copy)
    assert shown(copy) == right


@pytest.mark.parametrize(
    ("name", "value"), [("model", "mlp"), ("k", 1), ("tune", 3), ("study_seed", 9), ("metric", "nll")]
)
def test_another_plan_is_refused(name: str, value: Any, copy: Path) -> None:
    shutil.rmtree(copy / "runs" / "hinge-seed1")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    was = config["plan"][name]
    config["plan"][name] = value
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for look in (open_study, resume):
        with pytest.raises(ValueError, match=f"{name} is {value!r}.* was made with {was!r}"):
            look(copy)


@pytest.mark.parametrize("name", ["config.json", "settings.json", "cost.json", "runs/hinge-seed1/run.json"])
@pytest.mark.parametrize("value", [None, 5, "text", [], {}, {"plan": 5, "data": None}])
def test_other_json_is_one_line_with_the_file(name: str, value: Any, copy: Path) -> None:
    (copy / name).write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ValueError, match=Path(name).name):
        open_study(copy)


def test_changed_code_is_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 2.0))
    own = tmp_path / "own_integrity.py"
    own.write_text("import torch\ndef body(shape):\n    return torch.nn.Flatten()\n", encoding="utf-8")
    model = "own_integrity:body"
    compare(f"npz:{whole.parent / 'flowers.npz'}", out="race", **{**SHORT, "model": model})
    with pytest.raises(ValueError, match=f"name it again: criterium resume race --model {model}"):
        resume("race")
    shutil.rmtree("race/runs/hinge-seed1")
    own.write_text(own.read_text(encoding="utf-8") + "# other\n", encoding="utf-8")
    with pytest.raises(ValueError, match="its code changed"):
        resume("race", model=model)
