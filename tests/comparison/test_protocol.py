"""The promises of the protocol: what must not be seen is not seen, and what must be alike is alike."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from criterium.comparison import Study, compare
from criterium.comparison.labels import parse
from criterium.comparison.plan import Plan, configure
from criterium.comparison.tuning import TUNING_SEED, best, draw_settings
from criterium.data import Source
from criterium.engine.setup import Setup
from criterium.objectives import OBJECTIVES
from criterium.training import Recipe

OBJECTIVES_RUN = ("cross-entropy", "exact", "dismax", "cot")


def blobs(path: Path, *, test_labels_shuffled: bool = False) -> str:
    """Write four overlapping Gaussian classes; the test part can be made to say something else."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 160), ("val", 80), ("test", 120)):
        labels = np.arange(count) % 4
        inputs = generator.normal(size=(count, 6)) + 1.2 * np.eye(6)[labels]
        arrays |= {f"x_{part}": inputs.astype("float32"), f"y_{part}": labels}
    if test_labels_shuffled:
        arrays["y_test"] = generator.permutation(arrays["y_test"])
        arrays["x_test"] = arrays["x_test"][::-1] * 3
    np.savez(path, **arrays, ood_x=generator.normal(size=(50, 6)).astype("float32") * 4)
    return f"npz:{path}"


def race(folder: Path, **options: Any) -> Study:
    return compare(
        blobs(folder / "data.npz", test_labels_shuffled=options.pop("test_labels_shuffled", False)),
        objectives=options.pop("objectives", OBJECTIVES_RUN),
        model="linear",
        seeds=2,
        recipe=Recipe(epochs=3, batch_size=32),
        jobs=1,
        device="cpu",
        out=folder / "run",
        **options,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return race(tmp_path_factory.mktemp("plain"), tune=3)


def runs(study: Study, *names: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((study.folder / "runs").glob("*/run.json"))]


def test_no_choice_and_no_fitted_constant_depends_on_test_rows(study: Study, tmp_path: Path) -> None:
    other = race(tmp_path, tune=3, test_labels_shuffled=True)
    assert (study.folder / "settings.json").read_text() == (other.folder / "settings.json").read_text()
    for mine, theirs in zip(runs(study), runs(other), strict=True):
        assert mine["threshold"] == theirs["threshold"]
        assert mine["metrics"]["temperature"] == theirs["metrics"]["temperature"]
        # The test rows did change what is reported, so they are read where they should be.
        assert mine["metrics"]["top1_error"] != theirs["metrics"]["top1_error"]
    for path in sorted((study.folder / "runs").glob("*/weights.safetensors")):
        ours, others = load_file(path), load_file(other.folder / path.relative_to(study.folder))
        assert ours.keys() == others.keys()
        assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_tuning_leaves_no_test_predictions(study: Study) -> None:
    tries = sorted((study.folder / "tuning").iterdir())
    assert len(tries) == 3 * len(OBJECTIVES_RUN)
    for folder in tries:
        assert [entry.name for entry in folder.iterdir()] == ["run.json"]
        found = json.loads((folder / "run.json").read_text())
        assert found["seed"] == TUNING_SEED
        assert "metrics" not in found


def test_runs_of_a_seed_share_the_backbone_they_start_from(tmp_path: Path) -> None:
    study = compare(
        blobs(tmp_path / "data.npz"),
        objectives=OBJECTIVES_RUN,
        seeds=2,
        tune=0,
        recipe=Recipe(epochs=1),
        jobs=1,
        device="cpu",
        out=tmp_path / "run",
    )
    by_seed: dict[int, set[str]] = {}
    for found in runs(study):
        by_seed.setdefault(found["seed"], set()).add(found["backbone"])
    assert [len(hashes) for hashes in by_seed.values()] == [1, 1]
    assert by_seed[0] != by_seed[1]


def test_the_chosen_setting_is_the_best_on_validation_rows(study: Study) -> None:
    chosen = json.loads((study.folder / "settings.json").read_text())
    for label in OBJECTIVES_RUN:
        found = [
            json.loads((study.folder / "tuning" / f"{label}-{n}" / "run.json").read_text()) for n in range(3)
        ]
        ranks = [(entry["validation_error"], entry["validation_nll"]) for entry in found]
        assert chosen[label] == found[ranks.index(min(ranks))]["setting"]
        assert all(entry["setting"] == chosen[label] for entry in runs(study) if entry["objective"] == label)


def test_a_setting_that_diverged_is_never_the_best() -> None:
    good = {"validation_error": 0.9, "validation_nll": 3.0}
    assert best([{"diverged": "nan"}, good, {"diverged": "nan"}]) == 1
    assert best([{**good, "validation_nll": 4.0}, good]) == 1


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "setup": Setup(Source(), Recipe(), "cpu", "auto", jobs=1, threads=1),
        "model": "mlp",
        "objectives": ("cross-entropy", "exact"),
        "seeds": (0, 1),
        "k": 3,
        "tune": 5,
    }
    return Plan(**(values | changes))


def test_every_objective_tries_the_same_learning_rates_and_weight_decays() -> None:
    drawn = {label: draw_settings(plan(objectives=tuple(OBJECTIVES)), label) for label in OBJECTIVES}
    assert {len(settings) for settings in drawn.values()} == {5}
    for settings in drawn.values():
        assert settings[0] == {}  # as published
    for name in ("learning_rate", "weight_decay"):
        columns = [[setting[name] for setting in settings[1:]] for settings in drawn.values()]
        assert all(column == columns[0] for column in columns)
        assert len(set(columns[0])) == 4


def test_what_the_user_fixes_is_not_tuned() -> None:
    recipe = Recipe(learning_rate=0.2)
    fixed = plan(setup=dataclasses.replace(plan().setup, recipe=recipe), objectives=("exact:margin=0.5",))
    for setting in draw_settings(fixed, "exact:margin=0.5")[1:]:
        assert setting.keys() == {"weight_decay", "end"}
    objective, changed = configure("exact:margin=0.5,epochs=7", {"weight_decay": 0.1}, recipe)
    assert (objective.margin, changed.epochs, changed.weight_decay, changed.learning_rate) == (
        0.5,
        7,
        0.1,
        0.2,
    )  # type: ignore[attr-defined]


def test_a_plan_survives_json() -> None:
    before = plan(objectives=("cross-entropy:cutmix=0.5", "topk:candidates=none"), seeds=(3, 5))
    assert Plan.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_options_of_a_label() -> None:
    assert parse("topk:relaxation=bitonic,candidates=none,first=0.25") == (
        "topk",
        {"relaxation": "bitonic", "candidates": None, "first": 0.25},
    )


def test_the_cost_of_the_baseline_is_one_and_two_updates_cost_more(study: Study) -> None:
    assert study.cost.keys() == set(OBJECTIVES_RUN)
    assert study.cost["cross-entropy"] == 1
    assert study.cost["cot"] > 1.2


def test_the_folder_holds_what_is_needed_to_run_it_again(study: Study) -> None:
    config = json.loads((study.folder / "config.json").read_text())
    assert Plan.from_dict(config["plan"]) == study.plan
    assert config["data"]["hashes"].keys() == {"train", "validation", "test", "ood", "names"}
    assert config["machine"]["torch"] == torch.__version__
    assert config["data"]["rows"] == {"train": 160, "validation": 80, "test": 120, "ood": 50}
