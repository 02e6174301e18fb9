"""Arrays that other code made, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from criterium._checks import choice
from criterium.evaluation.predictions import Predictions

Kind = Literal["logits", "probabilities", "classes"]

KINDS = {
    "logits": "scores before softmax, (N, C)",
    "probabilities": "rows of probabilities that add up to 1, (N, C)",
    "classes": "the predicted class of each row, (N,)",
}
"""What predictions may be. It is never guessed from the values."""


def repeats_of(predictions: Mapping[str, Any], kind: Kind) -> dict[str, list[np.ndarray]]:
    """Return the predictions of each name as arrays, one a repeat; all have as many."""
    choice("kind", kind, KINDS)
    if len(predictions) < 2:
        raise ValueError(f"predictions: got {len(predictions)} names, expected at least two to compare")
    found = {
        str(name): _one_a_repeat(f"predictions of {name}", given, 1 if kind == "classes" else 2)[0]
        for name, given in predictions.items()
    }
    (first, base), *others = found.items()
    for name, parts in others:
        if len(parts) != len(base):
            raise ValueError(
                f"predictions: got {len(parts)} repeats of {name} and {len(base)} of {first}, expected as"
                " many"
                " of each, paired in their order"
            )
    return found


def targets_of(targets: Any, repeats: int) -> tuple[list[np.ndarray], bool]:
    """Return the targets of each repeat, and whether they were given for each."""
    found, each = _one_a_repeat("targets", targets, 1)
    if not each:
        found *= repeats
    if len(found) != repeats:
        raise ValueError(f"targets: got {len(found)} arrays, expected one, or {repeats}, one a repeat")
    for target in found:
        if target.ndim != 1 or len(target) == 0:
            raise ValueError(f"targets: got shape {target.shape}, expected (N,), the class index of each row")
        if target.dtype.kind not in "iu":
            raise ValueError(f"targets: got {target.dtype}, expected whole numbers, a class index each")
    return [target.astype(np.int64) for target in found], each


def as_predictions(
    label: str, values: np.ndarray, target: np.ndarray, kind: Kind, classes: int = 2
) -> Predictions:
    """Return predictions of one run as test rows.

    Args:
        label: what they are called in messages.
        values: what `kind` says.
        target: (N,) class indices.
        kind: one of `KINDS`.
        classes: how many there are, where `kind` is ``"classes"``.
    """
    choice("kind", kind, KINDS)
    wanted = 1 if kind == "classes" else 2
    if values.ndim != wanted:
        raise ValueError(f"{label}: got shape {values.shape}, expected {KINDS[kind]}, as kind is {kind}")
    if kind == "classes" and (values.dtype.kind not in "iu" or (values < 0).any()):
        raise ValueError(f"{label}: got {values.dtype}, expected whole numbers from 0, as kind is classes")
    if len(values) != len(target):
        raise ValueError(f"{label}: got {len(values)} rows, expected {len(target)}, as there are targets")
    if kind == "classes":
        logits = np.zeros((len(values), classes), np.float32)
        logits[np.arange(len(values)), values] = 1
    elif kind == "probabilities":
        logits = _of_probabilities(label, values)
    else:
        logits = values.astype(np.float32)
    highest = logits.shape[1] - 1
    if target.min() < 0 or target.max() > highest:
        wrong = int(target[(target < 0) | (target > highest)][0])
        raise ValueError(f"targets: got class {wrong}, expected 0 to {highest}, the classes of {label}")
    try:
        return Predictions(logits, target, np.full(len(target), "test"), logits.max(axis=1))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _of_probabilities(label: str, values: np.ndarray) -> np.ndarray:
    p = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) <= 1e-3))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{label}: got row {row} with sum {p[row].sum():.4g} and least value {p[row].min():.4g}, expected"
            " probabilities that add up to 1; is kind logits?"
        )
    # A probability of 0 counts as the least that float32 has: a log-likelihood of 87 nats.
    logits: np.ndarray = np.log(np.maximum(p, np.finfo(np.float32).tiny)).astype(np.float32)
    return logits


def _one_a_repeat(name: str, given: Any, dimensions: int) -> tuple[list[np.ndarray], bool]:
    """Return arrays of that many dimensions, and whether there was a list of them or one more dimension."""
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError(f"{name}: got an empty list, expected an array for each repeat")
        if np.ndim(_as_numpy(given[0])) >= dimensions:
            return [_array(name, part) for part in given], True
    found = _array(name, given)
    return (list(found), True) if found.ndim == dimensions + 1 else ([found], False)


def _as_numpy(value: Any) -> Any:
    """Return what a tensor holds; other things as they are."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _array(name: str, value: Any) -> np.ndarray:
    try:
        found = np.asarray(_as_numpy(value))
    except ValueError as error:
        raise ValueError(f"{name}: rows are not all of one length ({error})") from error
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got values of type {found.dtype}, expected numbers")
    return found
