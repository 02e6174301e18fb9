"""Splits in which no input is met twice: rows that look the same stay together, and rows of one group.

A draw is a function of the data and the number of the repeat: of the positions of the rows and their classes,
not of the seed of a run nor of a random number generator whose stream may change from release to release.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from criterium.data.array import Array
from criterium.data.keys import position_keys
from criterium.data.raw import Raw, Rows, listed, shown

TEST_FRACTION = 0.2


def draw(keys: Array, targets: Array, fraction: float, repeat: int = 0) -> Array:
    """Return a mask of about `fraction` of the inputs of each class; another `repeat` draws others.

    Rows with the same key are drawn together; they count for the rarest of their classes. A class gives
    at least one input and keeps at least one; it gives none if it has one alone.
    """
    counts = np.bincount(targets)
    rank = np.empty(len(counts), dtype=np.int64)
    by_rarity = np.argsort(counts, kind="stable")
    rank[by_rarity] = np.arange(len(counts))

    _, first, unit = np.unique(keys, return_index=True, return_inverse=True)
    stratum = np.full(len(first), len(counts))
    np.minimum.at(stratum, unit, rank[targets])

    chosen = np.zeros(len(first), dtype=bool)
    # The hash of a position is as good as a random number, and is the same everywhere.
    named = first[:, None] if repeat == 0 else np.stack([first, np.full_like(first, repeat)], axis=1)
    shuffled = np.argsort(position_keys(named), kind="stable")
    for members in _by_stratum(shuffled, stratum[shuffled]):
        wanted = max(1, int(fraction * len(members) + 0.5))
        chosen[members[: min(wanted, max(0, len(members) - 1))]] = True
    return chosen[unit]


def test_on_latest(raw: Raw, times: Array) -> tuple[Raw, str]:
    """Return `raw` with about the latest 20 % of its rows as its test part, and a note.

    A group is as late as its latest row, so that it is on one side, and no training row is after the cut.
    """
    _, unit = np.unique(
        np.arange(len(times)) if raw.train.groups is None else raw.train.groups, return_inverse=True
    )
    latest = np.full(int(unit.max()) + 1, times.min())
    np.maximum.at(latest, unit, times)
    late = latest[unit]
    moments, counts = np.unique(late, return_counts=True)
    if len(moments) < 2:
        raise ValueError("time: all rows have the same time, expected different ones")
    after = np.cumsum(counts[::-1])[::-1][1:]  # rows from each moment but the first on
    in_test = late >= moments[1:][np.abs(after - TEST_FRACTION * len(times)).argmin()]
    note = f"The test part is the latest {in_test.mean():.0%} of the rows: {in_test.sum()} of {len(times)}."
    return replace(raw, train=raw.train[~in_test], test=raw.train[in_test]), note


def split(raw: Raw, fraction: float, repeat: int = 0) -> tuple[dict[str, Rows], list[str]]:
    """Return train, validation and test rows of a repeat, with notes on how they came to be.

    The source's own parts are kept; `fraction` of the rows that are not test become validation where
    the source has none, and 20 % of all rows become test where it has none. Fractions are of the inputs
    of a class, or of its groups.
    """
    if raw.test is None:
        parts, notes = _three_ways(raw, fraction, repeat)
    else:
        parts, notes = _official(raw, raw.test, fraction, repeat)
    for name, rows in parts.items():
        missing = np.setdiff1d(np.arange(len(raw.classes)), rows.targets)
        if len(rows) == 0 or (name == "train" and len(missing)):
            lost = f"rows of class {shown(raw.classes[missing[0]])}" if len(rows) else "rows"
            raise ValueError(f"data: no {lost} are left for {name}, {_why_few(raw)}")
        if len(missing):
            notes.append(f"Classes without {name} rows: {listed([raw.classes[i] for i in missing])}.")
    return parts, notes + _group_notes(parts)


def _three_ways(raw: Raw, fraction: float, repeat: int) -> tuple[dict[str, Rows], list[str]]:
    kind = "row" if raw.train.groups is None else "group"
    counts = _count_units(raw.train, len(raw.classes))
    if (least := int(counts.min())) < 3:
        raise ValueError(
            f"data: class {shown(raw.classes[counts.argmin()])} has {least} {kind}{'s' * (least > 1)},"
            " expected at least 3, one each for training, validation and test"
        )
    in_test = draw(raw.train.units, raw.train.targets, TEST_FRACTION, repeat)
    rest, rest_units = raw.train[~in_test], raw.train.units[~in_test]
    in_validation = draw(rest_units, rest.targets, fraction, repeat)
    parts = {"train": rest[~in_validation], "validation": rest[in_validation], "test": raw.train[in_test]}
    drew = "a fixed draw" if repeat == 0 else f"draw {repeat}"
    notes = [f"The source has no test part: {drew} within each class took {TEST_FRACTION:.0%} for it."]
    keys = raw.train.keys
    _, unit, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if repeated := int((sizes[unit] > 1).sum()):
        notes.append(
            f"{repeated} of {len(keys)} rows have the same input as another row;"
            " rows with the same input were kept in one split."
        )
    return parts, notes


def _official(raw: Raw, test: Rows, fraction: float, repeat: int) -> tuple[dict[str, Rows], list[str]]:
    met = np.isin(raw.train.keys, test.keys)
    notes = []
    if repeated := int(met.sum()):
        notes.append(f"{repeated} training rows have an input that also occurs among the test rows.")
    if raw.train.groups is not None and test.groups is not None:
        shared = np.isin(raw.train.groups, test.groups)
        if repeated := int(shared.sum()):
            notes.append(f"{repeated} training rows are of a group that also occurs among the test rows.")
        met |= shared
    if raw.validation is not None:
        if repeated := int(np.isin(raw.validation.keys, test.keys).sum()):
            notes.append(f"{repeated} validation rows have an input that also occurs among the test rows.")
        return {"train": raw.train, "validation": raw.validation, "test": test}, notes
    free = np.flatnonzero(~np.isin(raw.train.units, raw.train.units[met]))
    in_validation = np.zeros(len(raw.train), dtype=bool)
    in_validation[free] = draw(raw.train.units[free], raw.train.targets[free], fraction, repeat)
    parts = {"train": raw.train[~in_validation], "validation": raw.train[in_validation], "test": test}
    return parts, notes


def _count_units(rows: Rows, classes: int) -> Array:
    """Return for each class the number of its rows, or of its groups."""
    if rows.groups is None:
        return np.bincount(rows.targets, minlength=classes)
    pairs = np.unique(np.stack([rows.groups, rows.targets]), axis=1)
    return np.bincount(pairs[1], minlength=classes)


def _why_few(raw: Raw) -> str:
    inputs = raw.train.inputs
    if len(inputs) and (inputs == inputs[:1]).all():
        return "as all inputs are the same" if inputs.ndim == 4 else "as no column varies"
    kind = "an input" if raw.train.groups is None else "an input and a group"
    return f"too few rows have {kind} of their own"


def _group_notes(parts: dict[str, Rows]) -> list[str]:
    counts = {name: len(np.unique(rows.groups)) for name, rows in parts.items() if rows.groups is not None}
    if not counts:
        return []
    listing = ", ".join(f"{count} in {name}" for name, count in counts.items())
    return [f"Groups: {listing}."]


def _by_stratum(members: Array, stratum: Array) -> list[Array]:
    order = np.argsort(stratum, kind="stable")
    return np.split(members[order], np.flatnonzero(np.diff(stratum[order])) + 1)
