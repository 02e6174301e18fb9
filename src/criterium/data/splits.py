"""Splits in which no input is met twice: rows that look the same stay together.

The draw is fixed: it depends on the positions of the rows and on their classes, not on the seed of a
run nor on a random number generator whose stream may change from release to release.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from criterium.data.raw import Array, Raw, Rows, listed

TEST_FRACTION = 0.2


def row_keys(inputs: Array) -> Array:
    """Return a 64-bit hash of each row; rows that a model cannot tell apart have the same one."""
    if inputs.dtype.kind == "f":
        inputs = inputs.astype(np.float32) + np.float32(0.0)  # makes 0.0 of -0.0, which has other bits
    width = math.prod(inputs.shape[1:])
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), width)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8")


def draw(keys: Array, targets: Array, fraction: float) -> Array:
    """Return a mask of about `fraction` of the inputs of each class.

    Rows with the same key are drawn together; they count for the rarest of their classes. A class gives
    at least one input and keeps at least one; it gives none if it has one alone.
    """
    counts = np.bincount(targets)
    rank = np.empty(len(counts), dtype=np.int64)
    by_rarity = np.argsort(counts, kind="stable")
    rank[by_rarity] = np.arange(len(counts))

    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    stratum = np.full(len(first), len(counts))
    np.minimum.at(stratum, group, rank[targets])

    chosen = np.zeros(len(first), dtype=bool)
    # The hash of a position is as good as a random number, and is the same everywhere.
    shuffled = np.argsort(row_keys(first[:, None].astype("<i8")), kind="stable")
    for members in _by_stratum(shuffled, stratum[shuffled]):
        wanted = max(1, int(fraction * len(members) + 0.5))
        chosen[members[: min(wanted, max(0, len(members) - 1))]] = True
    return chosen[group]


def split(raw: Raw, fraction: float) -> tuple[dict[str, Rows], list[str]]:
    """Return train, validation and test rows, with notes on how they came to be.

    The source's own parts are kept; `fraction` of the rows that are not test become validation where
    the source has none, and 20 % of all rows become test where it has none.
    """
    if raw.test is None:
        parts, notes = _three_ways(raw, fraction)
    else:
        parts, notes = _official(raw, raw.test, fraction)
    for name, rows in parts.items():
        missing = np.setdiff1d(np.arange(len(raw.classes)), rows.targets)
        if len(rows) == 0 or (name == "train" and len(missing)):
            lost = f"rows of class {raw.classes[missing[0]]!r}" if len(rows) else "rows"
            raise ValueError(f"data: no {lost} are left for {name}, too few rows have an input of their own")
        if len(missing):
            notes.append(f"Classes without {name} rows: {listed([raw.classes[i] for i in missing])}.")
    return parts, notes


def _three_ways(raw: Raw, fraction: float) -> tuple[dict[str, Rows], list[str]]:
    counts = np.bincount(raw.train.targets)
    if (least := int(counts.min())) < 3:
        raise ValueError(
            f"data: class {raw.classes[counts.argmin()]!r} has {least} row{'s' * (least > 1)},"
            " expected at least 3, one each for training, validation and test"
        )
    keys = row_keys(raw.train.inputs)
    in_test = draw(keys, raw.train.targets, TEST_FRACTION)
    rest, rest_keys = raw.train[~in_test], keys[~in_test]
    in_validation = draw(rest_keys, rest.targets, fraction)
    parts = {"train": rest[~in_validation], "validation": rest[in_validation], "test": raw.train[in_test]}
    notes = [f"The source has no test part: a fixed draw within each class took {TEST_FRACTION:.0%} for it."]
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if repeated := int((sizes[group] > 1).sum()):
        notes.append(
            f"{repeated} of {len(keys)} rows have the same input as another row;"
            " rows with the same input were kept in one split."
        )
    return parts, notes


def _official(raw: Raw, test: Rows, fraction: float) -> tuple[dict[str, Rows], list[str]]:
    keys, test_keys = row_keys(raw.train.inputs), row_keys(test.inputs)
    met = np.isin(keys, test_keys)
    notes = []
    if repeated := int(met.sum()):
        notes.append(f"{repeated} training rows have an input that also occurs among the test rows.")
    if raw.validation is not None:
        if repeated := int(np.isin(row_keys(raw.validation.inputs), test_keys).sum()):
            notes.append(f"{repeated} validation rows have an input that also occurs among the test rows.")
        return {"train": raw.train, "validation": raw.validation, "test": test}, notes
    free = np.flatnonzero(~met)
    in_validation = np.zeros(len(raw.train), dtype=bool)
    in_validation[free] = draw(keys[free], raw.train.targets[free], fraction)
    parts = {"train": raw.train[~in_validation], "validation": raw.train[in_validation], "test": test}
    return parts, notes


def _by_stratum(members: Array, stratum: Array) -> list[Array]:
    order = np.argsort(stratum, kind="stable")
    return np.split(members[order], np.flatnonzero(np.diff(stratum[order])) + 1)
