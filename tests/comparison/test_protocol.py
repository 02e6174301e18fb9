"""The promises of the protocol: what must not be seen is not seen, and what must be alike is alike."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from criterium._sealed import read_sealed, write_sealed
from criterium.comparison import Study, compare, open_study
from criterium.comparison.labels import parse
from criterium.comparison.plan import Plan, configure
from criterium.comparison.race import trials_of
from criterium.comparison.tuning import best
from criterium.data import Source
from criterium.engine.setup import Setup
from criterium.evaluation.detection import detection_score
from criterium.evaluation.predictions import Predictions
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
        repeats=options.pop("repeats", 2),
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


def test_trials_leave_no_test_predictions_and_no_weights(study: Study) -> None:
    tries = sorted((study.folder / "tuning").iterdir())
    assert len(tries) == 2 * 3 * len(OBJECTIVES_RUN)
    for folder in tries:
        assert [entry.name for entry in folder.iterdir()] == ["run.json"]
        assert "metrics" not in json.loads((folder / "run.json").read_text())


def test_what_is_reported_is_a_trial_and_not_trained_again(study: Study) -> None:
    for found in runs(study):
        label, seed = found["objective"], found["seed"]
        place = study.folder / "tuning" / f"{label}-seed{seed}-{found['trial']}"
        tried = json.loads((place / "run.json").read_text())
        assert found["files"]["weights.safetensors"] == tried["files"]["weights.safetensors"]
        shared = tried.keys() - {"files", "seal"}
        assert {name: found[name] for name in shared} == {name: tried[name] for name in shared}


def test_each_repeat_draws_settings_of_its_own(study: Study) -> None:
    drawn = {repeat: [trial.setting for trial in trials_of(study.plan, "cot", repeat)] for repeat in (0, 1)}
    assert drawn[0] != drawn[1]
    other = [trial.setting for trial in trials_of(study.plan, "dismax", 0)]
    assert [setting["learning_rate"] for setting in drawn[0][-1:]] != [s["learning_rate"] for s in other[-1:]]


def test_runs_of_a_seed_share_the_backbone_they_start_from(tmp_path: Path) -> None:
    study = compare(
        blobs(tmp_path / "data.npz"),
        objectives=OBJECTIVES_RUN,
        repeats=2,
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
        for repeat in (0, 1):
            places = [study.folder / "tuning" / f"{label}-seed{repeat}-{n}" for n in range(3)]
            found = [json.loads((place / "run.json").read_text()) for place in places]
            ranks = [(entry["validation_loss"], entry["validation_nll"]) for entry in found]
            best_one = ranks.index(min(ranks))
            assert chosen[label][str(repeat)] == {"trial": best_one, "setting": found[best_one]["setting"]}


def test_settings_are_chosen_by_the_metric_that_decides(tmp_path: Path) -> None:
    study = race(tmp_path, tune=3, metric="nll", objectives=("cross-entropy", "hinge"))
    for place in sorted((study.folder / "tuning").iterdir()):
        found = json.loads((place / "run.json").read_text())
        assert found["validation"] == found["validation_loss"] == found["validation_nll"]
    assert study.verdicts[0].metric == "nll"
    assert study.margin == 0.02


def test_isomax_is_scored_at_temperature_one_as_its_authors_do(tmp_path: Path) -> None:
    study = race(tmp_path, tune=0, objectives=("cross-entropy", "isomax"), repeats=1)
    for run in runs(study):
        found = Predictions.load(study.folder / "runs" / f"{run['objective']}-seed0" / "predictions.parquet")
        at = 1.0 if run["objective"] == "isomax" else run["metrics"]["temperature"]
        expected = detection_score(found.logits, OBJECTIVES[run["objective"]].score, at)
        np.testing.assert_allclose(found.score, expected, rtol=1e-5)


def test_the_margin_is_fixed_by_validation_rows(study: Study) -> None:
    (control,) = (run for run in runs(study) if (run["objective"], run["seed"]) == ("cross-entropy", 0))
    assert study.margin == pytest.approx(min(0.01, control["validation"] / 5))


def test_with_an_official_test_part_rows_are_a_source_of_chance(study: Study) -> None:
    assert not study.config["data"]["test_varies"]
    assert "for these training rows" in study.table.sentences[0]
    spread = study.table.judgement.assessments["cot"].spread
    assert (spread.rows, spread.repeats) == (120, 2)
    assert spread.floor > 0


def test_a_split_a_repeat_and_its_correction(tmp_path: Path) -> None:
    study = compare(
        "digits",
        objectives=["cross-entropy", "hinge"],
        model="linear",
        repeats=2,
        tune=0,
        recipe=Recipe(epochs=1),
        jobs=1,
        device="cpu",
        out=tmp_path / "run",
    )
    by_repeat = {run["seed"]: run["data"]["test"] for run in runs(study)}
    assert by_repeat[0] != by_repeat[1]
    spread = study.table.judgement.assessments["hinge"].spread
    units = study.config["data"]["units"]
    assert spread.floor == pytest.approx(spread.deviation**2 * units["test"] / units["other"])
    same = compare(
        "digits",
        objectives=["cross-entropy", "hinge"],
        model="linear",
        repeats=2,
        tune=0,
        recipe=Recipe(epochs=1),
        jobs=1,
        device="cpu",
        out=tmp_path / "same",
        same_split=True,
    )
    assert len({run["data"]["test"] for run in runs(same)}) == 1
    assert "on the same test rows" in same.table.sentences[0]


def test_runs_that_are_not_paired_are_refused(study: Study, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(study.folder, tmp_path / "copy"))
    path = copied / "runs" / "cot-seed1" / "run.json"
    for what, words in (("backbone", "began with other weights"), ("data", "saw other rows")):
        held = read_sealed(path)
        write_sealed(path, {**held, what: "another"})
        with pytest.raises(ValueError, match=f"{words} than cross-entropy in repeat 1"):
            open_study(copied)
        write_sealed(path, held)


def test_repeats_are_added_until_the_verdicts_are_in(tmp_path: Path) -> None:
    good, bad = ("cross-entropy:learning_rate=0.1", "cross-entropy:learning_rate=1e-6")
    study = race(tmp_path, tune=0, objectives=(good, bad), repeats="auto:8")
    assert study.table.seeds == (0, 1)
    assert study.verdicts[0].verdict == "worse"
    assert open_study(study.folder).table.seeds == (0, 1)
    assert study.table.judgement.assessments[bad].p == pytest.approx(
        4 * study.table.differences[bad]["top1_error"].p
    )


def test_a_setting_that_diverged_is_never_the_best() -> None:
    good = {"validation_loss": 0.9, "validation_nll": 3.0}
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


def test_what_the_user_fixes_is_not_tuned() -> None:
    recipe = Recipe(learning_rate=0.2)
    fixed = plan(setup=dataclasses.replace(plan().setup, recipe=recipe), objectives=("exact:margin=0.5",))
    for trial in trials_of(fixed, "exact:margin=0.5", 0):
        assert not {"learning_rate", "margin"} & trial.setting.keys()
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
