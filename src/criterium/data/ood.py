"""OOD inputs: classes held out of training, or the inputs of another source in the same form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from criterium._checks import nearest
from criterium.data.array import Array
from criterium.data.keys import row_keys
from criterium.data.names import split_names
from criterium.data.raw import Raw, Rows, keep_classes, listed


def hold_out(raw: Raw, wanted: str) -> tuple[Raw, Array, str]:
    """Return `raw` without the classes in ``"A,B"``, the inputs of these, and a note.

    The inputs are the test rows of a source that has a test part, otherwise all rows of the classes.
    """
    held = sorted({_class_index(raw.classes, name) for name in split_names(wanted, raw.classes)})
    kept = np.setdiff1d(np.arange(len(raw.classes)), held)
    if len(left := np.intersect1d(kept, raw.train.targets)) < 2:
        raise ValueError(
            f"ood: got 'classes:{wanted}', which leaves {len(left)} of {len(raw.classes)} classes to"
            " train on, expected at least two"
        )
    rows = raw.train if raw.test is None else raw.test
    inputs = rows.inputs[np.isin(rows.targets, held)]
    if len(inputs) == 0:
        raise ValueError(f"ood: got 'classes:{wanted}', which have no test rows, expected at least one")
    *others, last = [raw.classes[index] for index in held]
    names = f"{listed(others)} and {last}" if others else last
    many = len(held) > 1
    note = (
        f"Class{'es' * many} {names} {'were' if many else 'was'} left out of training"
        f" and serve{'s' * (not many)} as OOD inputs."
    )
    return keep_classes(raw, kept), inputs, note


def match_form(source: str, inputs: Array, like: Array) -> tuple[Array, list[str]]:
    """Return inputs of another source in the form of `like`, with notes on what was changed."""
    if inputs.ndim != like.ndim:
        kinds = {2: "features", 4: "images"}
        raise ValueError(
            f"ood: {source} holds {kinds[inputs.ndim]}, expected {kinds[like.ndim]} as in the data"
        )
    if inputs.ndim == 2:
        if inputs.shape[1] != like.shape[1]:
            raise ValueError(
                f"ood: {source} holds {inputs.shape[1]} features, expected {like.shape[1]} as in the data"
            )
        return inputs.astype(like.dtype), []
    images, notes = torch.from_numpy(inputs), []
    if images.shape[1] != like.shape[1]:
        images = _to_grey(images) if like.shape[1] == 1 else images.expand(-1, 3, -1, -1)
        notes.append(f"The images from {source} were made {'grey' if like.shape[1] == 1 else 'RGB'}.")
    if images.shape[2:] != like.shape[2:]:
        images = _resize(images, like.shape[2:])
        before, after = (f"{shape[3]}x{shape[2]}" for shape in (inputs.shape, like.shape))
        notes.append(f"The images from {source} were resized from {before} to {after} pixels (bilinear).")
    return images.numpy(), notes


def check_ood(source: str, inputs: Array, parts: dict[str, Rows]) -> list[str]:
    """Return a note where OOD inputs are in the data too; raise a `ValueError` if all are."""
    if len(inputs) == 0:
        raise ValueError(f"ood: {source} holds no rows, expected at least one")
    known = np.concatenate([rows.keys for rows in parts.values()])
    met = int(np.isin(row_keys(inputs), known).sum())
    if met == len(inputs):
        raise ValueError(f"ood: every input of {source} also occurs in the data, expected OOD inputs")
    return [f"{met} of {len(inputs)} OOD inputs also occur in the data."] if met else []


def _class_index(classes: tuple[str, ...], name: str) -> int:
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise ValueError(
        f"ood: no class {name!r}, expected one of {listed(list(classes))}, or a number from 0 to"
        f" {len(classes) - 1}{nearest(name, classes)}"
    )


def _to_grey(images: Tensor) -> Tensor:
    # The luma of ITU-R BT.601, as image libraries use it.
    luma = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("nchw,c->nhw", images.float(), luma).round().to(torch.uint8)[:, None]


def _resize(images: Tensor, size: tuple[int, ...]) -> Tensor:
    # Antialiased: shrinking by picking single pixels would add patterns that give the source away.
    resized = torch.nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
