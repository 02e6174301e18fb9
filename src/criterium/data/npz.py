"""Sources of NumPy arrays: ``.npz`` files, read without pickle."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from criterium.data.array import Array
from criterium.data.files import existing_file, reason
from criterium.data.raw import Raw, Rows

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_INPUTS = ("x_train", "x_val", "x_test", "ood_x")
_GROUPS = {"train": "groups", "val": "groups_val", "test": "groups_test"}


def read_npz(path: Path) -> Raw:
    """Return the contents of an ``.npz`` file with the arrays that `SOURCES` names."""
    found = load_arrays(path, _REQUIRED, ("x_val", "y_val", "ood_x", "classes", *_GROUPS.values()))
    if ("x_val" in found) != ("y_val" in found):
        raise ValueError(f"{path}: has one of x_val and y_val, expected both or neither")
    inputs = {name: as_inputs(path, name, found[name]) for name in _INPUTS if name in found}
    wanted = inputs["x_train"]
    for name, array in inputs.items():
        if (array.shape[1:], array.dtype) != (wanted.shape[1:], wanted.dtype):
            raise ValueError(
                f"{path}: {name} holds {found[name].dtype} rows of shape {found[name].shape[1:]}, expected"
                f" {found['x_train'].dtype} rows of shape {found['x_train'].shape[1:]} as in x_train"
            )
    rows = {part: len(inputs[f"x_{part}"]) for part in ("train", "val", "test") if f"x_{part}" in found}
    labels = {part: as_labels(path, f"y_{part}", found[f"y_{part}"], rows[part]) for part in rows}
    classes, targets = _name_classes(path, labels, found.get("classes"))
    groups = _number_groups(path, found, rows)
    parts = {part: Rows(inputs[f"x_{part}"], targets[part], groups.get(part)) for part in rows}
    return Raw(classes, parts["train"], parts.get("val"), parts["test"], inputs.get("ood_x"))


def npz_test_inputs(path: Path) -> Array:
    """Return the test inputs alone; the file need hold nothing else."""
    return as_inputs(path, "x_test", load_arrays(path, ("x_test",))["x_test"])


def load_arrays(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """Return the named arrays of an ``.npz`` file; raise a `ValueError` where they cannot be had."""
    expected = f"an .npz file with the arrays {', '.join(required)}"
    existing_file(path, expected)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            held = archive.files if isinstance(archive, np.lib.npyio.NpzFile) else []
            missing = [name for name in required if name not in held]
            if missing:
                raise ValueError(f"has no {', '.join(missing)}, only {', '.join(held) or 'no named arrays'}")
            return {name: archive[name] for name in (*required, *optional) if name in held}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = reason(error)
        if "allow_pickle" in why:
            why = "needs pickle (an array of Python objects), which can run any code"
        raise ValueError(f"{path}: {why}; expected {expected}") from error


def as_inputs(path: Path, name: str, array: Array) -> Array:
    """Return images (N, H, W[, C]) as (N, C, H, W) uint8, or features (N, F) as finite float32."""
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        images = array[..., None] if array.ndim == 3 else array
        if images.shape[3] not in (1, 3):
            raise ValueError(
                f"{path}: {name} has shape {array.shape}, expected images (N, H, W) or (N, H, W, C) of 1 or 3"
                " channels"
            )
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{path}: {name} has shape {array.shape} and type {array.dtype}, expected uint8 images"
            " (N, H, W[, C]) or numbers (N, F)"
        )
    if array.shape[1] == 0:
        raise ValueError(f"{path}: {name} has shape {array.shape}, expected at least one feature")
    with np.errstate(over="ignore"):  # what overflows float32 is found by the next line
        features = array.astype(np.float32)
    bad = ~np.isfinite(features)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        raise ValueError(
            f"{path}: {name} has {int(bad.any(axis=1).sum())} rows with values that are not finite in float32"
            f" (first in column {column}), expected finite numbers"
        )
    return features


def as_labels(path: Path, name: str, array: Array, rows: int) -> Array:
    """Return whole numbers of at least 0, one a row, as int64."""
    labels = array[:, 0] if array.shape == (rows, 1) else array
    if labels.shape != (rows,):
        raise ValueError(f"{path}: {name} has shape {array.shape}, expected ({rows},), one label a row")
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {name} has type {array.dtype}, expected whole numbers")
    wrong = (labels < 0) | (labels >= 2**31) | (labels != np.floor(labels))
    if wrong.any():
        raise ValueError(
            f"{path}: {name} holds the label {labels[wrong][0]}, expected whole numbers from 0 to {2**31 - 1}"
        )
    return labels.astype(np.int64)


def _number_groups(path: Path, found: dict[str, Array], rows: dict[str, int]) -> dict[str, Array]:
    """Return a number for each row of the parts that have groups, the same for one group in all parts."""
    given = {part: found[name] for part, name in _GROUPS.items() if name in found and part in rows}
    for part, groups in given.items():
        if groups.shape != (rows[part],) or groups.dtype.kind not in "iuU":
            raise ValueError(
                f"{path}: {_GROUPS[part]} has shape {groups.shape} and type {groups.dtype}, expected"
                f" ({rows[part]},), a whole number or text for each row"
            )
        if (groups.dtype.kind == "U") != (next(iter(given.values())).dtype.kind == "U"):
            raise ValueError(
                f"{path}: {_GROUPS[part]} holds other types than {_GROUPS[next(iter(given))]}, expected whole"
                " numbers in both or text in both"
            )
    names = np.unique(np.concatenate(list(given.values()))) if given else np.empty(0)
    return {part: np.searchsorted(names, groups) for part, groups in given.items()}


def _name_classes(
    path: Path, labels: dict[str, Array], names: Array | None
) -> tuple[tuple[str, ...], dict[str, Array]]:
    if names is None:
        # Labels may start at 1 or leave numbers out; classes are those that occur.
        values = np.unique(np.concatenate(list(labels.values())))
        return tuple(map(str, values)), {part: np.searchsorted(values, y) for part, y in labels.items()}
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < len(names):
        raise ValueError(f"{path}: classes has type {names.dtype}, expected a list of different names (text)")
    for part, y in labels.items():
        if len(y) and y.max() >= len(names):
            raise ValueError(
                f"{path}: y_{part} holds the label {y.max()}, expected less than {len(names)}, the length of"
                " classes"
            )
    return tuple(names.tolist()), labels
