from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from criterium.evaluation.predictions import Predictions

SPLIT = np.array(["validation", "test", "test", "ood"])
TARGET = np.array([0, 2, 1, -1])


def table(seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(rng.normal(size=(4, 3)), TARGET, SPLIT, rng.normal(size=4))


def test_arrays_get_their_types_and_rows_are_chosen_by_split() -> None:
    rows = table()
    assert [rows.logits.dtype, rows.target.dtype, rows.score.dtype] == [np.float32, np.int64, np.float32]
    test = rows.where("test")
    np.testing.assert_array_equal(test.target, [2, 1])
    np.testing.assert_array_equal(test.logits, rows.logits[1:3])
    np.testing.assert_array_equal(test.score, rows.score[1:3])
    assert len(table().where("test").where("ood")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros(4)}, r"logits: got shape \(4,\)"),
        ({"logits": np.zeros((4, 1))}, r"logits: got shape \(4, 1\)"),
        ({"logits": np.array([[0, np.nan], [np.inf, 0], [0, 0], [0, 0]])}, "logits: got 2 of 4 rows"),
        ({"score": np.array([0, 0, np.nan, 0])}, "score: got 1 of 4 rows"),
        ({"score": np.zeros(3)}, r"score: got shape \(3,\), expected \(4,\)"),
        ({"target": np.zeros((4, 1), int)}, r"target: got shape \(4, 1\)"),
        ({"target": np.array([0, 3, 1, -1])}, "target: got 3 in the test split, expected 0 to 2"),
        ({"target": np.array([-1, 2, 1, -1])}, "target: got -1 in the validation split, expected 0 to 2"),
        ({"target": np.array([0, 2, 1, 1])}, "target: got 1 in the ood split, expected -1"),
        (
            {"split": np.array(["validation", "tset", "test", "ood"])},
            "split: got 'tset'.*did you mean 'test'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    good = {"logits": np.zeros((4, 3)), "target": TARGET, "split": SPLIT, "score": np.zeros(4)}
    with pytest.raises(ValueError, match=message):
        Predictions(**{**good, **change})


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_a_file_gives_back_every_bit(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(rows)
    logits = rng.normal(size=(rows, 7)).astype(np.float32) * np.float32(10) ** rng.integers(
        -38, 38, (rows, 1)
    )
    logits[:1, :3] = [-0.0, np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max]
    split = rng.choice(["validation", "test", "ood"], rows).astype(str)
    target = np.where(split == "ood", -1, rng.integers(0, 7, rows))
    before = Predictions(logits, target, split, rng.normal(size=rows))
    before.save(tmp_path / "predictions.parquet")
    after = Predictions.load(tmp_path / "predictions.parquet")
    for name in ("logits", "score"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert after.logits.shape == (rows, 7)
    assert after.target.tolist() == target.tolist()
    assert after.split.tolist() == split.tolist()


def test_the_file_has_the_columns_it_is_known_by(tmp_path: Path) -> None:
    table().save(tmp_path / "p.parquet")
    schema = pq.read_schema(tmp_path / "p.parquet")
    assert schema.names == ["split", "target", "score", "logits"]
    assert pa.types.is_dictionary(schema.field("split").type)
    assert [schema.field(name).type for name in ("target", "score")] == [pa.int32(), pa.float32()]
    assert schema.field("logits").type == pa.list_(pa.float32(), 3)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.parquet"
    table(0).save(path)

    def full_disk(rows: pa.Table, where: BinaryIO, **options: object) -> None:
        where.write(b"PAR1 and then no more room")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        table(1).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]
    np.testing.assert_array_equal(Predictions.load(path).logits, table(0).logits)


def test_what_is_no_such_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        Predictions.load(tmp_path / "none.parquet")
    whole = tmp_path / "p.parquet"
    table().save(whole)
    half = tmp_path / "half.parquet"
    half.write_bytes(whole.read_bytes()[:-20])
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"split": ["test"], "target": [0]}), other)
    for path in (half, other):
        with pytest.raises(ValueError, match=f"{path.name}: is no table of predictions"):
            Predictions.load(path)
