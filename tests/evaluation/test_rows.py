"""Tables too large for a copy: what is measured block by block is the same, and needs little memory."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from criterium.evaluation import rows
from criterium.evaluation.accuracy import topk_error
from criterium.evaluation.calibration import calibration_error, confidences, fit_temperature, nll
from criterium.evaluation.detection import SCORES, detection_score
from criterium.evaluation.hierarchy import predicted_class
from criterium.evaluation.measures import measure
from criterium.evaluation.predictions import Predictions

CLASSES = 500
FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "topk_error": lambda logits, target: topk_error(logits, target, 3),
    "nll": lambda logits, target: nll(logits, target, 1.3),
    "calibration_error": lambda logits, target: calibration_error(logits, target, temperature=1.3),
    "confidences": lambda logits, target: np.stack(confidences(logits, target, 0.7)).tolist(),
    "fit_temperature": fit_temperature,
    "predicted_class": lambda logits, target: predicted_class(logits, target).tolist(),
    **{kind: lambda logits, _, kind=kind: detection_score(logits, kind, 0.9).tolist() for kind in SCORES},
}


def table(count: int = 200) -> Predictions:
    rng = np.random.default_rng(0)
    target = rng.integers(0, CLASSES, count)
    logits = rng.normal(size=(count, CLASSES))
    logits[np.arange(count), target] += 4
    split = np.repeat(["validation", "test", "ood"], [count // 2, count // 4, count // 4])
    return Predictions(logits, np.where(split == "ood", -1, target), split, logits.max(axis=1))


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Predictions:
    """Return a table of 100 blocks."""
    made, small = table(), table(20)
    measure(small, k=3)  # the first calls import
    small.save(tmp_path / "small.parquet")
    Predictions.load(tmp_path / "small.parquet")
    monkeypatch.setattr(rows, "CELLS", made.logits.size // 100)
    return made


@pytest.fixture
def arrow() -> Iterator[pa.MemoryPool]:
    """Let Arrow take its memory from a pool that counts."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(before)


def peak(function: Callable[[], object]) -> int:
    """Return the most bytes that Python and NumPy held at once beside what they held before."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_block_is_never_less_than_a_row() -> None:
    assert rows.rows_at_once(2 * rows.CELLS) == 1
    assert rows.blocks(0, 3) == [slice(0, 0)]
    assert rows.by_rows(lambda part: part.sum(axis=1), np.zeros((0, 3))).tolist() == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_blocks_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = table().where("validation")
    whole = FUNCTIONS[name](known.logits, known.target)
    monkeypatch.setattr(rows, "CELLS", 3 * CLASSES)
    assert FUNCTIONS[name](known.logits, known.target) == whole


@pytest.mark.parametrize("name", [*FUNCTIONS, "measure"])
def test_no_second_table_is_needed(name: str, predictions: Predictions) -> None:
    known = predictions.where("validation")
    used = peak(
        (lambda: measure(predictions, k=3))
        if name == "measure"
        else lambda: FUNCTIONS[name](known.logits, known.target)
    )
    assert used < predictions.logits.nbytes / 5


def test_a_file_is_written_and_read_without_a_second_table(
    tmp_path: Path, predictions: Predictions, arrow: pa.MemoryPool
) -> None:
    path, size = tmp_path / "p.parquet", predictions.logits.nbytes
    assert peak(lambda: predictions.save(path)) < size / 5
    assert arrow.max_memory() < size / 2  # pages and buffers of a fixed size among it
    found: list[Predictions] = []
    assert peak(lambda: found.append(Predictions.load(path))) < 1.2 * size
    assert arrow.max_memory() < size / 2
    assert found[0].logits.tobytes() == predictions.logits.tobytes()


def test_rows_that_lie_together_are_not_copied(predictions: Predictions) -> None:
    assert np.shares_memory(predictions.where("test").logits, predictions.logits)
    mixed = Predictions(predictions.logits, [0, 1] * 100, ["test", "validation"] * 100, predictions.score)
    np.testing.assert_array_equal(mixed.where("test").logits, predictions.logits[::2])


def test_measured_predictions_are_let_go() -> None:
    predictions = table(20)
    held = weakref.ref(predictions.logits)
    gc.disable()
    try:
        measure(predictions, k=3)
        del predictions
        assert held() is None
    finally:
        gc.enable()
