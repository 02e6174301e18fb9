"""Sources of NumPy arrays: ``.npz`` files, read without pickle, their headers checked before their values."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from criterium.data.array import Array
from criterium.data.files import existing_file, reason
from criterium.data.limits import fits, no_bomb
from criterium.data.raw import Raw, Rows, counted, listed

_PARTS = ("train", "val", "test")
_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_GROUPS = {"train": "groups", "val": "groups_val", "test": "groups_test"}
_EXPECTED = f"an .npz file with the arrays {', '.join(_REQUIRED)}, or x and y"
_BROKEN = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # as zipfile raises
_OPTIONAL = ("x_val", "y_val", "ood_x", "classes", *_GROUPS.values())


def read_npz(path: Path) -> Raw:
    """Return the contents of an ``.npz`` file with the arrays that `SOURCES` names."""
    existing_file(path, _EXPECTED)
    if zipfile.is_zipfile(path) and _is_undivided(path):
        found = load_arrays(path, ("x", "y"), ("groups", "classes", "ood_x"))
        found |= {"x_train": found.pop("x"), "y_train": found.pop("y")}
    else:
        found = load_arrays(path, _REQUIRED, _OPTIONAL)
    if ("x_val" in found) != ("y_val" in found):
        raise ValueError(f"{path}: has one of x_val and y_val, expected both or neither")
    names = [name for name in ("x_train", "x_val", "x_test", "ood_x") if name in found]
    origin = _origin({name: found[name] for name in names})
    inputs = as_inputs(path, {name: found[name] for name in names}, origin)
    wanted = inputs["x_train"]
    for name, array in inputs.items():
        if array.shape[1:] != wanted.shape[1:] or array.dtype != wanted.dtype:
            raise ValueError(
                f"{path}: {name} holds {found[name].dtype} rows of shape {found[name].shape[1:]}, expected"
                f" {found['x_train'].dtype} rows of shape {found['x_train'].shape[1:]} as in x_train"
            )
    rows = {part: len(inputs[f"x_{part}"]) for part in _PARTS if f"x_{part}" in found}
    labels = {part: as_labels(path, f"y_{part}", found[f"y_{part}"], rows[part]) for part in rows}
    classes, targets = _name_classes(path, labels, found.get("classes"))
    groups = _number_groups(path, found, rows)
    parts = {part: Rows(inputs[f"x_{part}"], targets[part], groups.get(part)) for part in rows}
    return Raw(
        classes, parts["train"], parts.get("val"), parts.get("test"), inputs.get("ood_x"), origin=origin
    )


def npz_test_inputs(path: Path, origin: Array | None = None) -> Array:
    """Return the test inputs alone, less the `origin` of the data; the file need hold nothing else."""
    return as_inputs(path, load_arrays(path, ("x_test",)), origin)["x_test"]


def _is_undivided(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except _BROKEN:  # what is wrong is said where the arrays are read
        return False
    return {"x", "y"} <= names and "x_train" not in names


def load_arrays(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """Return the named arrays of an ``.npz`` file; raise a `ValueError` where they cannot be had."""
    expected = f"an .npz file with the arrays {', '.join(required)}"
    existing_file(path, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if missing := [name for name in required if name not in members]:
                held = listed(list(members), 20) or "no named arrays"
                raise ValueError(f"has no {', '.join(missing)}, only {held}")
            wanted = [name for name in (*required, *optional) if name in members]
            size = sum(members[name].file_size for name in wanted)
            no_bomb("what it holds", path.stat().st_size, size)
            return {name: _load(archive, members[name], name) for name in wanted}
    except _BROKEN as error:
        raise ValueError(f"{path}: {reason(error)}; expected {expected}") from error


def _load(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    """Return an array whose header says as many bytes as its member holds."""
    with archive.open(member) as file:
        shape, kind = _header(file, name)
        held, said = member.file_size - file.tell(), math.prod(shape) * kind.itemsize
        if held != said:
            raise ValueError(f"{name} says that it holds {said:,} bytes, but holds {held:,}")
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(file)
    except Exception as error:  # NumPy parses it as Python, and raises what that meets
        raise ValueError(f"{name} has a broken header ({reason(error)})") from error
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"{name} has the shape {shape}, expected whole numbers")
    if kind.hasobject:
        raise ValueError(f"{name} needs pickle (an array of Python objects), which can run any code")
    if math.prod(shape) == 0 and max(shape, default=0) > 2**31:
        raise ValueError(f"{name} has the shape {shape}, expected fewer columns")
    return shape, kind


def as_inputs(path: Path, found: dict[str, Array], origin: Array | None = None) -> dict[str, Array]:
    """Return images (N, H, W[, C]) as (N, C, H, W) uint8, or features (N, F) as finite floats of one type."""
    images = {name for name, array in found.items() if array.dtype == np.uint8 and array.ndim in (3, 4)}
    inputs = {name: _as_images(path, name, found[name]) for name in images}
    features = {name: array for name, array in found.items() if name not in images}
    for name, array in features.items():
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise ValueError(
                f"{path}: {name} has shape {array.shape} and type {array.dtype}, expected uint8 images"
                " (N, H, W[, C]) or numbers (N, F)"
            )
        if array.shape[1] == 0:
            raise ValueError(f"{path}: {name} has shape {array.shape}, expected at least one feature")
        if origin is not None and array.shape[1] == len(origin) and array.dtype.kind in "iu":
            features[name] = _less(array, origin)
    for name, array in _same_type(path, features).items():
        inputs[name] = _finite(path, name, array)
    return {name: inputs[name] for name in found}


def _as_images(path: Path, name: str, array: Array) -> Array:
    images = array[..., None] if array.ndim == 3 else array
    if images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise ValueError(
            f"{path}: {name} has shape {array.shape}, expected images (N, H, W) or (N, H, W, C) of 1 or 3"
            " channels"
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _same_type(path: Path, features: dict[str, Array]) -> dict[str, Array]:
    """Return floats that keep all values of the arrays apart: float32 where that is enough."""
    if not features:
        return {}
    kind = np.result_type(*(array.dtype for array in features.values()), np.float16)
    kind = np.dtype(np.float32 if kind.itemsize <= 4 else np.float64)
    fits(f"{path}: its inputs", sum(array.size for array in features.values()) * kind.itemsize)
    with np.errstate(over="ignore"):  # what overflows is found by `_finite`
        return {name: array.astype(kind) for name, array in features.items()}


def _origin(found: dict[str, Array]) -> Array | None:
    """Return what to subtract from columns of integers that float64 cannot tell apart, if there are any."""
    wide = [array for array in found.values() if array.dtype.kind in "iu" and array.dtype.itemsize == 8]
    wide = [array for array in wide if array.ndim == 2 and array.size]
    if len(wide) < len(found):
        return None
    least = np.min([array.min(axis=0).astype(object) for array in wide], axis=0)
    most = np.max([array.max(axis=0).astype(object) for array in wide], axis=0)
    large = (np.maximum(np.abs(least), np.abs(most)) > 2**53).astype(bool)
    return np.where(large, least, 0) if large.any() else None


def _less(array: Array, origin: Array) -> Array:
    # Differences of 64-bit integers are exact modulo 2^64.
    step = np.array([value % 2**64 for value in origin.tolist()], dtype=np.uint64)
    return (array.astype(np.uint64) - step).view(np.int64)


def _finite(path: Path, name: str, features: Array) -> Array:
    bad = ~np.isfinite(features)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        raise ValueError(
            f"{path}: {name} has {counted(int(bad.any(axis=1).sum()), 'row')} with values that are not finite"
            f" (first in column {column}), expected finite numbers"
        )
    return features


def as_labels(path: Path, name: str, array: Array, rows: int) -> Array:
    """Return the labels, one a row: text, or whole numbers as int64."""
    labels = array[:, 0] if array.shape == (rows, 1) else array
    if labels.shape != (rows,):
        raise ValueError(f"{path}: {name} has shape {array.shape}, expected ({rows},), one label a row")
    if labels.dtype.kind in "U":
        return labels
    if labels.dtype.kind not in "iufb":
        raise ValueError(f"{path}: {name} has type {array.dtype}, expected whole numbers or text")
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    wrong = (labels < -(2**31)) | (labels >= 2**31) | (labels != np.floor(labels))
    if wrong.any():
        raise ValueError(
            f"{path}: {name} holds the label {labels[wrong][0]}, expected whole numbers from {-(2**31)} to"
            f" {2**31 - 1}"
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
    if len({y.dtype.kind for y in labels.values()}) > 1:
        raise ValueError(f"{path}: some of its labels are text and some numbers, expected one of the two")
    if names is None or labels["train"].dtype.kind == "U":
        # Labels may start at 1 or leave numbers out; classes are those that occur.
        values = np.unique(np.concatenate(list(labels.values())))
        classes = tuple(map(str, values.tolist()))
        return classes, {part: np.searchsorted(values, y) for part, y in labels.items()}
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < len(names):
        raise ValueError(f"{path}: classes has type {names.dtype}, expected a list of different names (text)")
    for part, y in labels.items():
        if len(y) and not 0 <= (wrong := y.max() if y.min() >= 0 else y.min()) < len(names):
            raise ValueError(
                f"{path}: y_{part} holds the label {wrong}, expected 0 to {len(names) - 1}, as classes has"
            )
    return tuple(names.tolist()), labels
