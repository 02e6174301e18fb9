"""A race on data whose classes hang in a tree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from criterium.cli import app
from criterium.comparison import race
from criterium.evaluation.hierarchy import level_errors, mistake_distance
from criterium.evaluation.predictions import Predictions

TREE = (("north", "0"), ("north", "1"), ("south", "2"), ("south", "3"))
FAST = ("--model", "linear", "--epochs", "1", "--tune", "0", "--jobs", "1", "--device", "cpu", "--quiet")


def criterium(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noisy classes, of which two and two lie near each other, and their tree."""
    place = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 3.0], [1.0, 3.0], [0.0, -3.0], [1.0, -3.0]])
    target = np.arange(400) % 4
    inputs = (centers[target] + rng.normal(size=(400, 2))).astype(np.float32)
    arrays = {
        "x_train": inputs[:240],
        "y_train": target[:240],
        "x_test": inputs[240:],
        "y_test": target[240:],
    }
    np.savez(place / "data.npz", **arrays)
    (place / "tree.csv").write_text("".join(f"{name},{parent}\n" for parent, name in TREE), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, dict[str, object]]:
    words = ("--data", f"npz:{folder / 'data.npz'}", "--hierarchy", folder / "tree.csv", *FAST)
    out = folder / "race"
    with pytest.MonkeyPatch.context() as patch:  # the cost has its own tests
        patch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 1.0))
        result = criterium("compare", "cross-entropy", "hcot", "--seeds", 2, *words, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_the_table_holds_every_level(finished: tuple[Path, dict[str, object]]) -> None:
    out, table = finished
    assert table["metrics"][:4] == ["top1_error", "topk_error", "level1_error", "mistake_distance"]
    assert table["differences"]["hcot"]["level1_error"]["verdict"] == "secondary"
    stored = pq.read_table(out / "results.parquet").to_pylist()
    assert len(stored) == 4
    for row in stored:
        found = Predictions.load(
            out / "runs" / f"{row['objective']}-seed{row['seed']}" / "predictions.parquet"
        )
        test = found.where("test")
        assert (row["level1_error"],) == level_errors(test.logits, test.target, TREE)
        assert row["mistake_distance"] == mistake_distance(test.logits, test.target, TREE)
        assert 0 < row["level1_error"] < row["top1_error"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "level-1 error" in page
    assert "tree.csv" in page


def test_it_is_redone_from_files_alone(finished: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    out, table = finished
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    assert config["data"]["hierarchy"] == [list(way) for way in TREE]
    # Neither the data nor the file of the tree are asked for.
    config["plan"]["setup"]["source"] |= {"data": "npz:gone.npz", "hierarchy": "gone.csv"}
    (moved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    again = json.loads(criterium("evaluate", moved, "--json").stdout)
    assert again["cells"] == table["cells"]
    assert criterium("report", moved).exit_code == 0


def test_a_tree_that_changed_is_noticed(
    finished: tuple[Path, dict[str, object]], folder: Path, tmp_path: Path
) -> None:
    out, _ = finished
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    other = tmp_path / "tree.csv"
    other.write_text("0,east\n1,west\n2,east\n3,west\n", encoding="utf-8")
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    config["plan"]["setup"]["source"]["hierarchy"] = str(other)
    (moved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    result = criterium("resume", moved)
    assert result.exit_code == 2
    assert "changed since the comparison began: hierarchy" in result.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "hcot"], ["objective hcot: hierarchy: got none", "--hierarchy FILE"]),
        (
            ["train", "hcot", "--hierarchy", "cifar10"],
            ["hierarchy: got 'cifar10'", "did you mean 'cifar100'"],
        ),
        (["train", "hcot", "--hierarchy", "gone.csv"], ["gone.csv: no such file"]),
        (["compare", "hcot", "--hierarchy", "cifar100"], ["cifar100 lacks the class", "expected the parent"]),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "named.npz"
    inputs = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    arrays = {
        "x_train": inputs[:40],
        "y_train": np.arange(40) % 2,
        "x_test": inputs[40:],
        "y_test": np.arange(20) % 2,
    }
    np.savez(path, **arrays, classes=np.array(["rose", "thorn"]))
    fast = FAST if words[0] == "compare" else FAST[:4]
    result = criterium(*words, "--data", f"npz:{path}", *fast, "--out", tmp_path / "run")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert all(part in line for part in parts), line
    assert not (tmp_path / "run").exists()
