"""A run with many classes: one table of logits, and a page of the usual size."""

from __future__ import annotations

import dataclasses
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from criterium.comparison import Study, compare, runs
from criterium.data import Dataset, load
from criterium.evaluation import rows
from criterium.training import Recipe, predict
from criterium.training.devices import accelerator_for

CLASSES = 1200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write one training row a class, and few other rows."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(CLASSES, 4)).astype("float32")
    parts = {"train": np.arange(CLASSES), "val": np.arange(60), "test": np.arange(60, 120)}
    arrays = {f"x_{part}": inputs[labels] + (part != "train") for part, labels in parts.items()}
    path = tmp_path_factory.mktemp("many") / "data.npz"
    np.savez(path, **arrays, **{f"y_{part}": labels for part, labels in parts.items()}, ood_x=inputs[:30] + 9)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def dataset(data: str) -> Dataset:
    return load(data)


@pytest.fixture(scope="module")
def study(data: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study") / "run"
    recipe = Recipe(epochs=1, batch_size=100)
    return compare(
        data, objectives=["cross-entropy"], model="linear", seeds=1, tune=0, recipe=recipe, device="cpu",
        jobs=1, out=folder,
    )  # fmt: skip


def test_the_page_does_not_name_every_class(study: Study) -> None:
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1190 more") == 2  # in the table and as JSON
    assert "1199" not in page


def test_predictions_that_do_not_fit_are_refused_at_once(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 150 rows of 1200 classes: 720,000 bytes.
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}[name])
    with pytest.raises(
        ValueError, match=r"data: got 150 rows to predict and 1200 classes, whose logits take"
    ):
        compare(
            data, objectives=["cross-entropy"], model="linear", seeds=1, tune=0, jobs=1, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_thousand_classes_are_still_named(study: Study) -> None:
    config = {**study.config, "data": {**study.config["data"], "classes": ["cat", *map(str, range(999))]}}
    path = dataclasses.replace(study, config=config).report(study.folder / "named.html")
    assert "cat, 0, 1, 2," in path.read_text(encoding="utf-8")


class Recorder(nn.Module):
    """Returns logits of `CLASSES` classes and remembers how many rows came at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        logits: Tensor = self.linear(inputs)
        return logits


def test_with_many_classes_few_rows_are_predicted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CELLS", 7 * CLASSES)
    model, inputs = Recorder(), torch.randn(20, 4)
    out = torch.empty(20, CLASSES)
    found = predict(model, inputs, accelerator_for("cpu", "float32"), out=out)
    assert found is out
    assert model.sizes == [7, 7, 6]
    torch.testing.assert_close(out, model.linear(inputs))
    assert torch.equal(predict(model, inputs, accelerator_for("cpu", "float32")), out)


def test_a_run_is_scored_without_a_second_table(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CELLS", 3 * CLASSES)
    logits = np.random.default_rng(0).normal(size=(150, CLASSES)).astype("float32")
    runs.judge(logits[:60], dataset, metric="top1_error", k=3)  # the first call imports
    tracemalloc.start()
    try:
        predictions = runs.score(logits, dataset, "mmles", 1.0)
        judged = runs.judge(logits[:60], dataset, metric="top1_error", k=3)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used < logits.nbytes / 3
    assert np.shares_memory(predictions.logits, logits)
    assert [len(predictions.where(split)) for split in ("validation", "test", "ood")] == [60, 60, 30]
    assert judged["validation_error"] > 0.9
