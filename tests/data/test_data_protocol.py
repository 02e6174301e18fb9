"""The clean protocol: the parts share no input, and nothing that is fitted has seen more than training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from criterium.data import Dataset, load
from criterium.data.keys import row_keys


def keys(data: Dataset) -> list[set[int]]:
    parts = (data.train, data.validation, data.test)
    return [set(row_keys(part.inputs.numpy()).tolist()) for part in parts]


def assert_disjoint(data: Dataset) -> None:
    train, validation, test = keys(data)
    assert not train & validation
    assert not train & test
    assert not validation & test


def write_table(path: Path, numbers: np.ndarray, colours: list[str]) -> str:
    lines = [
        f"{row},{number},{colour},{row % 3}"
        for row, (number, colour) in enumerate(zip(numbers, colours, strict=True))
    ]
    path.write_text("row,number,colour,y\n" + "\n".join(lines) + "\n")
    return f"csv:{path}"


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, np.ndarray, list[str]]:
    numbers = np.random.default_rng(0).normal(size=120).astype(object)
    numbers[::7] = ""
    return tmp_path / "table.csv", numbers, [("red", "green")[row % 2] for row in range(120)]


def rows_of(part: torch.Tensor) -> np.ndarray:
    return part[:, 0].long().numpy()  # the first column counts the rows


def test_digits_share_no_input() -> None:
    assert_disjoint(load("digits"))
    assert_disjoint(load("digits", ood="none", validation=0.5))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_fitted_never_saw_validation_or_test_rows(
    table: tuple[Path, np.ndarray, list[str]], part: str
) -> None:
    path, numbers, colours = table
    before = load(write_table(path, numbers, colours), label="y")
    assert_disjoint(before)
    for row in rows_of(getattr(before, part).inputs):
        numbers[row], colours[row] = 1e6 + row, "mauve"
    after = load(write_table(path, numbers, colours), label="y")
    torch.testing.assert_close(after.center, before.center, rtol=0, atol=0)
    torch.testing.assert_close(after.scale, before.scale, rtol=0, atol=0)
    assert after.hashes["train"] == before.hashes["train"]
    assert after.hashes[part] != before.hashes[part]
    assert getattr(after, part).inputs[:, 1].max() > 1e6
    assert (getattr(after, part).inputs[:, 3:] == 0).all()  # no feature was made for mauve


def test_what_is_fitted_follows_the_training_rows(table: tuple[Path, np.ndarray, list[str]]) -> None:
    path, numbers, colours = table
    before = load(write_table(path, numbers, colours), label="y")
    row = rows_of(before.train.inputs)[0]
    numbers[row], colours[row] = 1e6, "mauve"
    after = load(write_table(path, numbers, colours), label="y")
    assert after.center[1] > before.center[1] + 1000
    assert after.train.inputs.shape[1] == before.train.inputs.shape[1] + 1
    assert after.hashes["train"] != before.hashes["train"]
    np.testing.assert_array_equal(rows_of(after.test.inputs), rows_of(before.test.inputs))


def test_the_median_is_that_of_the_training_rows(table: tuple[Path, np.ndarray, list[str]]) -> None:
    path, numbers, colours = table
    data = load(write_table(path, numbers, colours), label="y")
    trained = rows_of(data.train.inputs)
    median = np.median([float(numbers[row]) for row in trained if numbers[row] != ""])
    missing = data.test.inputs[data.test.inputs[:, 2] == 1]
    assert len(missing) > 0
    np.testing.assert_allclose(missing[:, 1], median, rtol=1e-6)


def test_image_statistics_never_saw_test_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "x_train": draw.integers(0, 256, (60, 8, 8)).astype(np.uint8),
        "y_train": np.arange(60) % 2,
        "x_test": draw.integers(0, 256, (30, 8, 8)).astype(np.uint8),
        "y_test": np.arange(30) % 2,
    }
    np.savez(tmp_path / "set.npz", **arrays)
    before = load(f"npz:{tmp_path / 'set.npz'}")
    assert_disjoint(before)
    np.savez(tmp_path / "set.npz", **(arrays | {"x_test": arrays["x_test"] // 2}))
    after = load(f"npz:{tmp_path / 'set.npz'}")
    assert torch.equal(before.center, after.center)
    assert torch.equal(before.scale, after.scale)
    changed = arrays["x_train"].copy()
    changed[changed == before.train.inputs[0, 0].numpy()] = 0
    np.savez(tmp_path / "set.npz", **(arrays | {"x_train": changed}))
    assert not torch.equal(before.center, load(f"npz:{tmp_path / 'set.npz'}").center)


def test_the_split_does_not_depend_on_the_state_of_any_generator() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = load("digits").hashes
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert load("digits").hashes == first
