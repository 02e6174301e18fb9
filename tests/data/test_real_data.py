"""Real sets, read from the folder that the environment variable CRITERIUM_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from test_data_protocol import assert_disjoint

from criterium.data import load

FOLDER = Path(os.environ.get("CRITERIUM_DATA", ""))

pytestmark = pytest.mark.skipif(
    "CRITERIUM_DATA" not in os.environ, reason="CRITERIUM_DATA names no folder of real data"
)


def test_mnist_with_digits_as_ood() -> None:
    data = load("mnist", data_dir=FOLDER, ood="digits")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48_000, 12_000, 10_000]
    assert data.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(float(data.center[0]) - 0.1307) < 5e-4  # mean and deviation of all 60,000
    assert abs(float(data.scale[0]) - 0.3081) < 5e-4
    assert np.abs(np.bincount(data.validation.targets) / np.bincount(data.train.targets) - 0.25).max() < 1e-3
    assert data.ood is not None
    assert data.ood.shape == (1797, 1, 28, 28)
    train, validation, test = (
        part.inputs.flatten(1).double() for part in (data.train, data.validation, data.test)
    )
    weights = torch.arange(1, 785, dtype=torch.double).sqrt()  # tells images apart by one number
    sums = [set((part @ weights).tolist()) for part in (train, validation, test)]
    assert not sums[1] & sums[2]
    assert not sums[0] & sums[1]


@pytest.mark.parametrize(
    ("name", "rows", "classes", "features"),
    [
        ("car", 1728, 4, 21),
        ("cylinder-bands", 540, 2, 701),
        ("adult", 48_842, 2, 109),
        ("annealing", 898, 5, 67),
    ],
)
def test_tables(name: str, rows: int, classes: int, features: int) -> None:
    path = FOLDER / "uci" / f"{name}.parquet"
    data = load(f"parquet:{path}", label="__label__")
    table = pyarrow.parquet.read_table(path)
    assert data.classes == tuple(sorted(map(str, set(table["__label__"].to_pylist()))))
    assert len(data.classes) == classes
    assert sum(map(len, (data.train, data.validation, data.test))) == rows
    assert abs(len(data.test) / rows - 0.2) < 0.01
    assert data.train.inputs.shape[1] == features
    for part in (data.train, data.validation, data.test):
        assert part.inputs.isfinite().all()
        standardised = (part.inputs - data.center) / data.scale
        assert standardised.isfinite().all()
    standardised = (data.train.inputs - data.center) / data.scale
    assert standardised.mean(dim=0).abs().max() < 1e-3
    assert (standardised.std(dim=0, unbiased=False) - 1).abs().max() < 1e-3
    assert_disjoint(data)


def test_missing_cells_of_adult_are_marked() -> None:
    path = FOLDER / "uci" / "adult.parquet"
    data = load(f"parquet:{path}", label="__label__")
    table = pyarrow.parquet.read_table(path)
    missing = sum(table[name].null_count for name in table.column_names)
    # Each missing cell is the category "missing", so every row has one hot feature a text column.
    texts = [
        name
        for name in table.column_names
        if table.schema.field(name).type == "string" and name != "__label__"
    ]
    assert missing > 6000
    rows = torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs])
    numbers = len(table.column_names) - 1 - len(texts)
    hot = [column for column in rows.T if set(column.unique().tolist()) <= {0.0, 1.0}]
    assert len(hot) == rows.shape[1] - numbers
    assert (
        abs(float(sum(column.sum() for column in hot)) - len(rows) * len(texts)) <= 5
    )  # but for unseen ones
