"""Predictions from files: what other code saved with NumPy, or what a race left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from criterium._checks import nearest
from criterium.evaluation.predictions import Predictions
from criterium.judging.inputs import KINDS, Kind, as_predictions
from criterium.judging.judged import Judged, judge_runs

TARGETS = ("targets", "target", "y", "labels")
IDS = ("ids", "id")


@dataclass(frozen=True, eq=False)
class File:
    """What a file holds of one run: predictions, what names its rows, and the kind that it says."""

    path: Path
    run: Predictions
    ids: np.ndarray | None
    kind: Kind


def judge_files(
    words: Sequence[str],
    *,
    train_rows: int | None = None,
    metric: str | None = None,
    margin: float | None = None,
    k: int | None = None,
    control: str | None = None,
) -> Judged:
    """Compare predictions in files, ``FILE`` or ``NAME=FILE``; the files of a name are its repeats, in order.

    A file is an ``.npz`` with an array ``logits``, ``probabilities`` or ``classes``, and ``targets``; where
    two have ``ids`` too, these must agree. Or it is the ``predictions.parquet`` of a run of a race, whose
    validation rows then fit a temperature.

    Args:
        words: the files.
        train_rows: rows that each model was trained and chosen on, where repeats have test rows of their own.
        metric, margin, k, control: as in `compare_predictions`.

    Raises:
        ValueError: in one line, for a file that cannot be read, or rows that do not pair.
    """
    named: dict[str, list[File]] = {}
    for word in words:
        name, _, path = word.rpartition("=")
        named.setdefault(name or _stem(path), []).append(read_run(Path(path)))
    if len(named) < 2:
        given = ", ".join(named) or "none"
        raise ValueError(f"files: got {given}, expected at least two names to compare, as a=a.npz b=b.npz")
    own_test = _paired(named, train_rows)
    kinds = {file.kind for files in named.values() for file in files}
    # Predicted classes can be compared with any model's, but by them alone.
    kind: Kind = "classes" if "classes" in kinds else "logits"
    most = max(file.run.logits.shape[1] for files in named.values() for file in files)
    return judge_runs(
        {name: [_widened(file, most) for file in files] for name, files in named.items()},
        kind=kind,
        own_test=own_test,
        train_rows=train_rows,
        metric=metric,
        margin=margin,
        k=k,
        control=control,
    )


def read_run(path: Path) -> File:
    """Return what a file holds.

    Raises:
        ValueError: if it is no such file, or lacks an array.
    """
    if path.suffix == ".parquet":
        return File(path, Predictions.load(path), None, "logits")
    if path.suffix != ".npz":
        raise ValueError(f"{path}: got a {path.suffix or 'file without suffix'}, expected .npz or .parquet")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read as .npz without pickle ({error})") from error
    kinds = [kind for kind in KINDS if kind in arrays]
    if len(kinds) != 1:
        got = ", ".join(arrays) or "nothing"
        hint = "".join(nearest(name, KINDS) for name in arrays)[:60] if not kinds else ""
        raise ValueError(f"{path}: got {got}, expected one of {', '.join(KINDS)}, and targets{hint}")
    target = next((arrays[name] for name in TARGETS if name in arrays), None)
    if target is None or target.ndim != 1 or target.dtype.kind not in "iu":
        raise ValueError(f"{path}: got no targets of whole numbers, expected the class index of each row")
    kind: Kind = kinds[0]  # type: ignore[assignment]  # KINDS has no other
    values = arrays[kind]
    classes = 2 if kind != "classes" or not values.size else max(2, 1 + int(max(values.max(), target.max())))
    run = as_predictions(str(path), values, target.astype(np.int64), kind, classes)
    return File(path, run, next((arrays[name] for name in IDS if name in arrays), None), kind)


def _paired(named: dict[str, list[File]], train_rows: int | None) -> bool:
    """Check that files pair by repeat and row, and say whether each repeat has test rows of its own."""
    (first, base), *others = named.items()
    for name, files in others:
        if len(files) != len(base):
            raise ValueError(
                f"files: got {len(files)} of {name} and {len(base)} of {first}, expected one of each for"
                " every"
                " repeat, in order"
            )
        for mine, other in zip(base, files, strict=True):
            _same_rows(mine, other)
    if len(base) == 1:
        return False
    if train_rows is not None:
        return True
    for repeat in base[1:]:
        try:
            _same_rows(base[0], repeat)
        except ValueError as error:
            raise ValueError(
                f"{error}; if each repeat has test rows of its own, --train-rows says how many it was"
                " trained on"
            ) from error
    return False


def _same_rows(one: File, other: File) -> None:
    mine, theirs = one.run.where("test").target, other.run.where("test").target
    if len(mine) != len(theirs):
        raise ValueError(
            f"{other.path}: got {len(theirs)} test rows, expected {len(mine)}, as in {one.path}: the same"
            " rows"
            " in the same order"
        )
    if one.ids is not None and other.ids is not None and not np.array_equal(one.ids, other.ids):
        raise ValueError(f"{other.path}: its ids are not those of {one.path}, expected the same rows")
    if not np.array_equal(mine, theirs):
        row = int((mine != theirs).argmax())
        raise ValueError(
            f"{other.path}: got target {theirs[row]} in row {row}, expected {mine[row]}, as in {one.path}:"
            " the"
            " same rows in the same order"
        )


def _widened(file: File, classes: int) -> Predictions:
    """Return predicted classes with a column for each class that any file names; others as they are."""
    missing = classes - file.run.logits.shape[1]
    if file.kind != "classes" or not missing:
        return file.run
    return replace(file.run, logits=np.pad(file.run.logits, ((0, 0), (0, missing))))


def _stem(path: str) -> str:
    """Return what a file is called: its folder, for a run of a race."""
    file = Path(path)
    return file.resolve().parent.name if file.name == "predictions.parquet" else file.stem
