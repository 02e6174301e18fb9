"""`criterium judge` and `criterium summarise`, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from criterium.cli import app
from criterium.evaluation.predictions import Predictions

TARGET = np.arange(300) % 3


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, strength, seed in (("a", 4.0, 0), ("b", 1.5, 1), ("a1", 4.0, 2), ("b1", 1.5, 3)):
        z = strength * np.eye(3)[TARGET] + np.random.default_rng(seed).normal(size=(300, 3))
        np.savez(f"{name}.npz", logits=z, targets=TARGET, ids=np.arange(300))
        np.savez(f"{name}-classes.npz", classes=z.argmax(1), targets=TARGET)
        split = np.repeat(["validation", "test", "ood"], 100)
        Predictions(z, np.where(split == "ood", -1, TARGET), split, z.max(axis=1)).save(f"{name}.parquet")
    return tmp_path


def judge(*words: object) -> Result:
    return CliRunner().invoke(app, ["judge", *map(str, words)])


def complaint(*words: object) -> str:
    result = judge(*words)
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    return line


def test_two_files() -> None:
    result = judge("a.npz", "b.npz", "--out", "page.html")
    assert result.exit_code == 0, result.output
    assert "- b: worse than a. Top-1 error " in result.stdout
    assert Path("page.html").read_text().startswith("<!doctype html>")


def test_repeats_by_name_and_json() -> None:
    result = judge("plain=a.npz", "plain=a1.npz", "weak=b.npz", "weak=b1.npz", "--json", "--metric", "nll")
    found = json.loads(result.stdout)
    assert (found["baseline"], found["seeds"]) == ("plain", [0, 1])
    assert found["verdicts"][0]["metric"] == "nll"
    assert found["verdicts"][0]["objective"] == "weak"


def test_predictions_of_a_race_fit_a_temperature_and_tell_ood() -> None:
    found = json.loads(judge("a.parquet", "b.parquet", "--json").stdout)
    assert {"nll", "auroc", "aupr"} <= set(found["metrics"])
    assert not found["notes"]
    assert found["judgement"]["margin"] <= 0.01


def test_classes_beside_logits() -> None:
    found = json.loads(judge("a.npz", "b-classes.npz", "--json").stdout)
    assert found["metrics"] == ["top1_error", "class_mean_error"]


def test_what_does_not_pair_is_one_line() -> None:
    z = np.eye(3)[TARGET]
    np.savez("short.npz", logits=z[:-1], targets=TARGET[:-1])
    np.savez("shuffled.npz", logits=z[::-1], targets=TARGET[::-1])
    np.savez("others.npz", logits=z, targets=TARGET, ids=np.arange(300)[::-1])
    np.savez("bare.npz", logits=z)
    np.savez("strange.npz", logit=z, targets=TARGET)
    np.savez("objects.npz", logits=np.array([{}]), targets=TARGET)
    Path("text.npz").write_text("no zip")
    Path("table.csv").write_text("a,b")
    assert "short.npz: got 299 test rows, expected 300, as in a.npz" in complaint("a.npz", "short.npz")
    assert "shuffled.npz: got target 2 in row 0, expected 0" in complaint("a.npz", "shuffled.npz")
    assert "others.npz: its ids are not those of a.npz" in complaint("a.npz", "others.npz")
    assert "got 1 of y and 2 of x" in complaint("x=a.npz", "x=a1.npz", "y=b.npz")
    assert "bare.npz: got no targets" in complaint("a.npz", "bare.npz")
    assert "strange.npz: got logit, targets, expected one of logits" in complaint("a.npz", "strange.npz")
    assert "objects.npz: cannot be read" in complaint("a.npz", "objects.npz")
    assert "text.npz: cannot be read" in complaint("a.npz", "text.npz")
    assert "missing.npz: no such file" in complaint("a.npz", "missing.npz")
    assert "table.csv: got a .csv, expected .npz or .parquet" in complaint("a.npz", "table.csv")
    assert "expected at least two names" in complaint("a.npz")
    assert "--train-rows" in complaint("x=a.npz", "x=shuffled.npz", "y=b.npz", "y=shuffled.npz")
    own = judge("x=a.npz", "x=shuffled.npz", "y=b.npz", "y=shuffled.npz", "--train-rows", "900")
    assert own.exit_code == 0, own.output
