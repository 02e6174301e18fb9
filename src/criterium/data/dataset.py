"""The data of a race: three disjoint splits, OOD inputs, and statistics of the training rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from criterium.data.array import Array
from criterium.data.hierarchy import Hierarchy
from criterium.data.raw import Rows


@dataclass(frozen=True)
class Split:
    """Inputs, uint8 images (N, C, H, W) or float32 features (N, F), with int64 class indices (N,).

    `groups` (N,) numbers the patient, user or the like that each row belongs to, where that is known.
    """

    inputs: Tensor
    targets: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.targets)

    @property
    def units(self) -> int:
        """The number of rows that are independent of each other: of groups, or of all rows."""
        return len(self) if self.groups is None else len(torch.unique(self.groups))


@dataclass(frozen=True)
class Dataset:
    """Everything a race knows of its data; class i is called ``classes[i]``.

    `center` and `scale` are mean and standard deviation of the training rows, per channel (C, 1, 1) of
    images on the scale 0 to 1, per feature (F,) otherwise; where nothing varies the scale is 1. `ood`
    holds OOD inputs, in the form of the other inputs. `hashes` names the contents of each part and the names
    of classes and columns (sha256), and `notes` says what a reader of the results must know about the data.
    `hierarchy` is the tree that the classes hang in, where there is one. `test_varies` says whether each
    repeat tests on rows of its own, rather than all on the same ones.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    ood: Tensor | None
    ood_name: str | None
    center: Tensor
    scale: Tensor
    hashes: dict[str, str]
    notes: tuple[str, ...]
    hierarchy: Hierarchy | None = None
    test_varies: bool = False

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The number of training rows of each class."""
        return tuple(torch.bincount(self.train.targets, minlength=len(self.classes)).tolist())

    @property
    def is_image(self) -> bool:
        """Whether inputs are images (N, C, H, W) rather than features (N, F)."""
        return self.train.inputs.dim() == 4


def assemble(
    name: str,
    classes: tuple[str, ...],
    parts: dict[str, Rows],
    ood: Array | None,
    ood_name: str | None,
    notes: tuple[str, ...],
    hierarchy: Hierarchy | None,
    *,
    hashes: dict[str, str],
    test_varies: bool,
) -> Dataset:
    """Return the `Dataset` of finished parts, with its `hashes` and the statistics of its training rows."""
    center, scale = statistics(parts["train"].inputs)
    hashes = {part: content_hash(rows.inputs, rows.targets) for part, rows in parts.items()} | hashes
    if ood is not None:
        hashes["ood"] = content_hash(ood)
    if hierarchy is not None:
        hashes["hierarchy"] = hashlib.sha256(json.dumps(hierarchy).encode()).hexdigest()
    return Dataset(
        name=name,
        classes=classes,
        **{part: _split(rows) for part, rows in parts.items()},
        ood=None if ood is None else _tensor(ood),
        ood_name=ood_name,
        center=_tensor(center),
        scale=_tensor(scale),
        hashes=hashes,
        notes=notes,
        hierarchy=hierarchy,
        test_varies=test_varies,
    )


def content_hash(*arrays: Array) -> str:
    """Return the sha256 of types, shapes and values, the same on every machine."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(plain.data)
    return digest.hexdigest()


def statistics(inputs: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation, per channel of images / 255 or per feature, as float32."""
    if inputs.ndim == 4:
        moments = np.array([_channel_moments(inputs[:, channel]) for channel in range(inputs.shape[1])])
        mean, deviation = moments.T[..., None, None] / 255
    else:
        mean = inputs.mean(axis=0, dtype=np.float64)
        deviation = inputs.std(axis=0, dtype=np.float64)
        # The rounded mean of equal values can miss them by a unit in the last place.
        deviation[inputs.min(axis=0) == inputs.max(axis=0)] = 0.0
    # A deviation too small for float32 would make the model divide by zero.
    varies = deviation >= np.finfo(np.float32).tiny
    return mean.astype(np.float32), np.where(varies, deviation, 1.0).astype(np.float32)


def _channel_moments(values: Array) -> tuple[float, float]:
    # Pixels have 256 values, so their counts give both moments, in little memory and to the last digit.
    counts = sum(np.bincount(block.ravel(), minlength=256) for block in np.array_split(values, 16))
    share = counts / values.size
    mean = float(share @ np.arange(256))
    return mean, float(np.sqrt(share @ (np.arange(256) - mean) ** 2))


def _split(rows: Rows) -> Split:
    groups = None if rows.groups is None else _tensor(rows.groups)
    return Split(_tensor(rows.inputs), _tensor(rows.targets), groups)


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
