"""What a trained model said about the rows it did not learn from, as one table that can be kept on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from criterium._checks import choice
from criterium._files import whole
from criterium.evaluation.rows import finite, rows_at_once

OOD_SPLITS = ("ood", "near", "far")
"""Inputs of none of the classes; near to the data and far from it where two sources of them are given."""

SPLITS = ("validation", "test", *OOD_SPLITS)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits, targets and scores of the validation rows, the test rows and the OOD inputs.

    Args:
        logits: (N, C), as the model gives them, before any temperature; kept as float32.
        target: (N,) class indices 0 to C - 1; -1 for OOD inputs.
        split: (N,) words, each one of `SPLITS`.
        score: (N,), higher where the model takes the input for one of its classes; kept as float32.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, a target is no class or a split unknown.

    Example:
        >>> logits, split = [[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]], ["validation", "test", "ood"]
        >>> rows = Predictions(logits, [0, 1, -1], split, [2.0, 1.0, 0.5])
        >>> rows.where("test").target
        array([1])

    """

    logits: np.ndarray
    target: np.ndarray
    split: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        """Bring the four arrays to their types and check them."""
        types = {"logits": np.float32, "target": np.int64, "split": str, "score": np.float32}
        for name, dtype in types.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        if self.logits.ndim != 2 or self.logits.shape[1] < 2:
            raise ValueError(f"logits: got shape {self.logits.shape}, expected (N, C) with C at least 2")
        rows, classes = self.logits.shape
        for name in ("target", "split", "score"):
            if getattr(self, name).shape != (rows,):
                shape = getattr(self, name).shape
                raise ValueError(f"{name}: got shape {shape}, expected ({rows},), one a row of logits")
        for split in np.unique(self.split):
            choice("split", str(split), SPLITS)
        for name, sound in (("logits", finite(self.logits)), ("score", np.isfinite(self.score))):
            if not sound.all():
                bad = rows - np.count_nonzero(sound)
                raise ValueError(f"{name}: got {bad} of {rows} rows with values that are not finite")
        ood = np.isin(self.split, OOD_SPLITS)
        wrong = np.where(ood, self.target != -1, (self.target < 0) | (self.target >= classes))
        if wrong.any():
            row = int(wrong.argmax())
            wanted = "-1" if ood[row] else f"0 to {classes - 1}"
            got = f"{self.target[row]} in the {self.split[row]} split"
            raise ValueError(f"target: got {got}, expected {wanted}")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.target)

    def where(self, split: str) -> Predictions:
        """Return the rows of one split; none, where it is empty.

        Rows that lie together are not copied: they share their numbers with the whole table.
        """
        found = np.flatnonzero(self.split == choice("split", split, SPLITS))
        together = len(found) > 0 and found[-1] - found[0] < len(found)
        rows = slice(found[0], found[-1] + 1) if together else found
        return Predictions(self.logits[rows], self.target[rows], self.split[rows], self.score[rows])

    def ood_scores(self, where: str | None = None) -> np.ndarray:
        """Return the scores of OOD inputs: of all, or of the ``"near"`` or the ``"far"`` ones."""
        kinds = OOD_SPLITS if where is None else (choice("where", where, OOD_SPLITS),)
        return self.score[np.isin(self.split, kinds)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as one Parquet file, which appears under its name only once it is whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        logits = pa.FixedSizeListArray.from_arrays(pa.array(self.logits.ravel()), self.logits.shape[1])
        table = pa.table(
            {
                "split": pa.array(self.split, pa.string()).dictionary_encode(),
                "target": pa.array(self.target.astype(np.int32)),
                "score": pa.array(self.score),
                "logits": logits,
            }
        )
        # The writer keeps two more numbers for each one of a row group.
        group = min(rows_at_once(self.logits.shape[1]), 2**20)
        with whole(path) as partial, pa.OSFile(str(partial), "wb") as file:
            pq.write_table(table, file, row_group_size=group, use_dictionary=["split"])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read what `save` wrote, to the bit.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no Parquet file, or one without the four columns.

        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            # Opened here, since the reader takes some names for addresses; mapped: no byte is held twice.
            with pa.memory_map(os.fspath(path)) as opened, pq.ParquetFile(opened) as file:
                columns = _read(file)
        except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: is no table of predictions ({error})") from error
        return cls(*columns)


def _read(file: Any) -> tuple[np.ndarray, ...]:
    """Return logits, target, split and score; of the logits no more is held twice than a row group."""
    classes = file.schema_arrow.field("logits").type.list_size
    others = file.read(columns=["target", "split", "score"])
    logits = np.empty((len(others), classes), np.float32)
    first = 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=["logits"])["logits"].combine_chunks()
        logits[first : first + len(rows)] = rows.flatten().to_numpy().reshape(-1, classes)
        first += len(rows)
    return logits, *(others[name].to_numpy() for name in ("target", "split", "score"))
