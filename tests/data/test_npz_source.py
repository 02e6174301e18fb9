"""Arrays in .npz files: forms of inputs and labels, and one line for each thing that can be wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from criterium.data import load

Arrays = dict[str, Any]


def features(rows: int = 40, start: float = 0.0, width: int = 3) -> np.ndarray:
    return start + np.arange(rows * width, dtype=np.float32).reshape(rows, width)


def labels(rows: int = 40, classes: int = 2) -> np.ndarray:
    return np.arange(rows) % classes


def arrays(**changes: Any) -> Arrays:
    made = {
        "x_train": features(),
        "y_train": labels(),
        "x_test": features(20, 1000.0),
        "y_test": labels(20),
    } | changes
    return {name: array for name, array in made.items() if array is not None}


def write(folder: Path, made: Arrays) -> str:
    np.savez(folder / "set.npz", **made)
    return f"npz:{folder / 'set.npz'}"


def test_features_keep_the_parts_of_the_file(tmp_path: Path) -> None:
    data = load(write(tmp_path, arrays(x_val=features(10, 500.0), y_val=labels(10))))
    assert not data.is_image
    assert (data.classes, data.ood) == (("0", "1"), None)
    np.testing.assert_array_equal(data.train.inputs.numpy(), features())
    np.testing.assert_array_equal(data.validation.inputs.numpy(), features(10, 500.0))
    np.testing.assert_array_equal(data.test.inputs.numpy(), features(20, 1000.0))
    np.testing.assert_array_equal(data.test.targets.numpy(), labels(20))
    torch.testing.assert_close(data.center, torch.from_numpy(features().mean(axis=0)))


@pytest.mark.parametrize("kind", ["float16", "float64", "int64", "uint8", "bool"])
def test_numbers_of_any_type_become_float32(tmp_path: Path, kind: str) -> None:
    bits = np.unpackbits(np.arange(60, dtype=np.uint8)[:, None], axis=1)
    made = arrays(x_train=bits[:40].astype(kind), x_test=bits[40:].astype(kind))
    data = load(write(tmp_path, made))
    assert data.train.inputs.dtype == torch.float32
    together = torch.cat([data.train.inputs, data.validation.inputs])
    assert sorted(together.tolist()) == sorted(made["x_train"].astype(np.float32).tolist())


def test_grey_and_colour_images_have_their_channels_first(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for shape in ((8, 9), (8, 9, 1), (8, 9, 3)):
        x_train = draw.integers(0, 256, (40, *shape)).astype(np.uint8)
        x_test = draw.integers(0, 256, (20, *shape)).astype(np.uint8)
        data = load(write(tmp_path, arrays(x_train=x_train, x_test=x_test)))
        channels = shape[2] if len(shape) == 3 else 1
        assert data.is_image
        assert data.test.inputs.dtype == torch.uint8
        assert data.test.inputs.shape == (20, channels, 8, 9)
        np.testing.assert_array_equal(
            data.test.inputs.numpy().transpose(0, 2, 3, 1), x_test.reshape(20, 8, 9, channels)
        )


def test_classes_are_the_labels_that_occur(tmp_path: Path) -> None:
    data = load(write(tmp_path, arrays(y_train=labels() * 5 + 3, y_test=labels(20).astype(float) * 5 + 3)))
    assert data.classes == ("3", "8")
    assert data.test.targets.tolist() == labels(20).tolist()


def test_class_names_are_taken_from_the_file(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow"])
    data = load(write(tmp_path, arrays(classes=names, y_train=labels() + 1, y_test=labels(20) + 1)))
    assert data.classes == ("bee", "cow")
    assert data.test.targets.tolist() == labels(20).tolist()


def test_labels_may_be_a_column(tmp_path: Path) -> None:
    data = load(write(tmp_path, arrays(y_train=labels()[:, None], y_test=labels(20)[:, None])))
    assert data.test.targets.tolist() == labels(20).tolist()


def test_ood_inputs_of_the_file_are_used_by_default(tmp_path: Path) -> None:
    source = write(tmp_path, arrays(ood_x=features(7, 9000.0)))
    data = load(source)
    assert data.ood is not None
    np.testing.assert_array_equal(data.ood.numpy(), features(7, 9000.0))
    assert data.ood_name == "array"
    assert load(source, ood="none").ood is None


with_nan = features()
with_nan[[2, 5], 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "has no y_test, only x_train, y_train, x_test; expected an .npz file with"),
        (
            {"x_train": with_nan},
            "x_train has 2 rows with values that are not finite (first in column 1)",
        ),
        ({"x_test": np.full((20, 3), np.inf)}, "x_test has 20 rows with values that are not finite"),
        (
            {"x_train": features().astype(np.longdouble) * np.longdouble(1e300) ** 2},
            "x_train has 40 rows with values that are not finite",
        ),
        ({"ood_x": np.full((5, 3), -np.inf)}, "ood_x has 5 rows"),
        (
            {"y_train": labels() - 2.0**32},
            "y_train holds the label -4294967296.0, expected whole numbers from",
        ),
        ({"y_test": labels(20) + 0.5}, "y_test holds the label 0.5, expected whole numbers"),
        ({"y_test": np.full(20, np.nan)}, "y_test holds the label nan, expected whole numbers"),
        ({"y_test": np.full(20, 2**40)}, "y_test holds the label 1099511627776, expected whole numbers"),
        ({"y_test": labels(19)}, "y_test has shape (19,), expected (20,), one label a row"),
        ({"y_test": labels(20).astype(str)}, "some of its labels are text and some numbers, expected one"),
        (
            {"y_test": labels(20).astype(complex)},
            "y_test has type complex128, expected whole numbers or text",
        ),
        ({"y_test": labels(20, 3)}, "class '2' occurs in the test part but not in the training part"),
        ({"x_val": features(9, 70), "y_val": labels(9, 3)}, "class '2' occurs in the validation part"),
        ({"x_val": features(9, 70)}, "has one of x_val and y_val, expected both or neither"),
        ({"y_train": labels() * 0, "y_test": labels(20) * 0}, "got one class, '0', expected at least two"),
        ({"x_train": features(0), "y_train": labels(0)}, "data: the training part holds no rows"),
        ({"x_test": features(0), "y_test": labels(0)}, "data: the test part holds no rows"),
        (
            {"x_test": features(20, width=4)},
            "x_test holds float32 rows of shape (4,), expected float32 rows of",
        ),
        ({"x_train": features(40, width=0)}, "x_train has shape (40, 0), expected at least one feature"),
        ({"x_train": np.zeros((40, 8, 8))}, "x_train has shape (40, 8, 8) and type float64, expected uint8"),
        (
            {"x_train": np.zeros((40, 8, 8), np.uint8)},
            "x_test holds float32 rows of shape (3,), expected uint8",
        ),
        ({"x_train": np.zeros((40, 3, 8, 8), np.uint8)}, "x_train has shape (40, 3, 8, 8), expected images"),
        ({"x_train": features().astype(complex)}, "x_train has shape (40, 3) and type complex128"),
        ({"x_train": features().astype(object)}, "needs pickle (an array of Python objects)"),
        (
            {"classes": np.array(["a"])},
            "y_train holds the label 1, expected 0 to 0, as classes has",
        ),
        ({"classes": np.array(["a", "a"])}, "classes has type <U1, expected a list of different names"),
        ({"classes": np.arange(2)}, "classes has type int64, expected a list of different names (text)"),
    ],
)
def test_bad_arrays_get_one_line(tmp_path: Path, changes: Arrays, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(write(tmp_path, arrays(**changes)))
    assert "\n" not in str(caught.value)


def test_bad_files_get_one_line(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with pytest.raises(
        ValueError, match=r"set\.npz: no such file, expected an \.npz file with the arrays x_tr"
    ):
        load(f"npz:{path}")
    for contents in (b"", b"not an archive", b"PK\x03\x04 a broken archive"):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match=r"set\.npz: .*; expected an \.npz file") as caught:
            load(f"npz:{path}")
        assert "\n" not in str(caught.value)
    write(tmp_path, arrays())
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"set\.npz: .*; expected an \.npz file"):
        load(f"npz:{path}")
    whole = write(tmp_path, arrays())
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 0xFF  # inside the values of x_train
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match=r"set\.npz: .*CRC.*; expected an \.npz file"):
        load(whole)
    with path.open("wb") as file:
        np.save(file, features())
    with pytest.raises(ValueError, match=r"set\.npz: File is not a zip file; expected an \.npz file"):
        load(f"npz:{path}")
