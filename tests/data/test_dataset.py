"""The form of a loaded dataset: names, statistics, hashes, listing without torch."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from criterium.data import SOURCES, Dataset, load
from criterium.data.dataset import content_hash, statistics


def test_sources_and_models_are_listed_without_torch() -> None:
    code = (
        "import sys; from criterium.data import SOURCES; from criterium.models import MODELS;"
        "print(len(SOURCES), len(MODELS), 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == [str(len(SOURCES)), "5", "False", "False"]


def test_a_name_that_data_lacks_is_an_attribute_error() -> None:
    import criterium.data

    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = criterium.data.laod


def test_digits_by_default() -> None:
    digits = load()
    assert isinstance(digits, Dataset)
    assert digits.name == "digits"
    assert digits.is_image
    assert digits.classes == tuple("01234567")
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [925, 230, 288]
    assert digits.train.inputs.dtype == torch.uint8
    assert digits.train.targets.dtype == torch.int64
    assert digits.ood is not None
    assert (digits.ood.shape, digits.ood.dtype) == ((354, 1, 8, 8), torch.uint8)
    assert digits.ood_name == "classes:8,9"
    assert digits.notes[0] == "Classes 8 and 9 were left out of training and serve as OOD inputs."


def test_digits_spread_sixteen_steps_over_the_bytes() -> None:
    from sklearn.datasets import load_digits

    digits = load(ood="none")
    assert (digits.classes, digits.ood, digits.ood_name) == (tuple("0123456789"), None, None)
    images = torch.cat([digits.train.inputs, digits.validation.inputs, digits.test.inputs])
    steps = (images.double() * 16 / 255).round()
    assert (images.double() - steps * 255 / 16).abs().max() <= 0.5
    original = torch.from_numpy(load_digits().data)
    assert sorted(map(tuple, steps.flatten(1).tolist())) == sorted(map(tuple, original.tolist()))


def test_image_statistics_are_those_of_the_training_rows_per_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 9, 7)).astype(np.uint8)
    images[:, 1] = 51
    center, scale = statistics(images)
    np.testing.assert_allclose(center[:, 0, 0], (images / 255).mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(scale[[0, 2], 0, 0], (images / 255).std(axis=(0, 2, 3))[[0, 2]], rtol=1e-6)
    assert scale[1, 0, 0] == 1.0
    assert (center.dtype, center.shape, scale.shape) == (np.float32, (3, 1, 1), (3, 1, 1))


def test_feature_statistics_keep_constant_columns_finite() -> None:
    features = np.random.default_rng(1).normal(5.0, 2.0, (1000, 4)).astype(np.float32)
    features[:, 1] = 0.1  # its rounded mean is not 0.1
    features[:, 2] = 0.0
    features[0, 2] = 1e-40  # a deviation that float32 cannot hold
    center, scale = statistics(features)
    np.testing.assert_allclose(center[[0, 3]], features.mean(axis=0)[[0, 3]], rtol=1e-5)
    np.testing.assert_allclose(scale[[0, 3]], features.std(axis=0)[[0, 3]], rtol=1e-5)
    assert scale[1] == scale[2] == 1.0


def test_statistics_of_a_large_offset_keep_their_digits() -> None:
    features = (1e6 + np.arange(10_000) % 2).astype(np.float32)[:, None]
    center, scale = statistics(features)
    assert abs(float(scale[0]) - 0.5) < 1e-6
    assert abs(float(center[0]) - 1_000_000.5) < 0.1


def test_statistics_of_digits_match_their_training_rows() -> None:
    digits = load()
    values = digits.train.inputs.double() / 255
    torch.testing.assert_close(digits.center, values.mean().float().reshape(1, 1, 1))
    torch.testing.assert_close(digits.scale, values.std(unbiased=False).float().reshape(1, 1, 1))


def test_content_hash_is_the_same_in_every_process() -> None:
    inputs = np.arange(6, dtype=np.float32).reshape(2, 3)
    targets = np.array([0, 1])
    contents = b"<f4(2, 3)" + struct.pack("<6f", *range(6)) + b"<i8(2,)" + struct.pack("<2q", 0, 1)
    assert content_hash(inputs, targets) == hashlib.sha256(contents).hexdigest()
    assert content_hash(inputs.astype(">f4"), targets) == content_hash(inputs, targets)
    assert content_hash(np.asfortranarray(inputs), targets) == content_hash(inputs, targets)
    assert content_hash(inputs.reshape(3, 2), targets) != content_hash(inputs, targets)
    assert content_hash(inputs.astype(np.int32), targets) != content_hash(inputs, targets)


def test_hashes_name_each_part() -> None:
    digits = load()
    assert set(digits.hashes) == {"train", "validation", "test", "ood", "names"}
    assert digits.hashes["test"] == content_hash(digits.test.inputs.numpy(), digits.test.targets.numpy())
    assert load().hashes == digits.hashes
    assert set(load(ood="none").hashes) == {"train", "validation", "test", "names"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "digit"}, "data: got 'digit', expected one of .*did you mean 'digits'"),
        ({"data": "npz"}, "data: got 'npz', expected one of .*did you mean 'npz:FILE'"),
        ({"data": "npz:"}, "data: got 'npz:', expected a path after the colon"),
        ({"data": "digits:8"}, "data: got 'digits:8', expected one of"),
        ({"data": "digits", "label": "x"}, "label: got 'x' for digits, expected it only with parquet or csv"),
        ({"validation": 0.0}, "validation: got 0.0, expected a number between 0 and 1"),
        ({"validation": 1.0}, "validation: got 1.0, expected a number between 0 and 1"),
        ({"validation": float("nan")}, "validation: got nan"),
    ],
)
def test_bad_arguments_get_one_line(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(**arguments)
    assert "\n" not in str(caught.value)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path}/none.npz: no such file"):
        load("npz:~/none.npz")
