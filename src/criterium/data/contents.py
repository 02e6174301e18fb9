"""The contents of a source, read once, and from them the `Dataset` of each repeat."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from criterium.data.array import Array
from criterium.data.columns import fit
from criterium.data.dataset import Dataset, assemble, content_hash
from criterium.data.files import one_line
from criterium.data.hierarchy import Hierarchy
from criterium.data.neighbours import near_note
from criterium.data.raw import Raw
from criterium.data.rounding import Rounding
from criterium.data.splits import split


@dataclass(frozen=True)
class Contents:
    """All rows of a source, with what is the same in every repeat.

    Reading is the slow part and is done once; `split` makes the `Dataset` of a repeat from it.

    Example:
        >>> from criterium.data import read
        >>> digits = read("digits")
        >>> first, second = digits.split(0), digits.split(1)
        >>> len(first.test) == len(second.test), first.hashes["test"] == second.hashes["test"]
        (True, False)
    """

    name: str
    raw: Raw
    ood: Array | None = None
    ood_name: str | None = None
    notes: tuple[str, ...] = ()
    hierarchy: Hierarchy | None = None
    validation: float = 0.2
    same_split: bool = False
    place: str = ""

    @property
    def test_varies(self) -> bool:
        """Whether each repeat tests on rows of its own, rather than all on the same ones."""
        return self.raw.test is None and not self.same_split

    @cached_property
    def hash(self) -> str:
        """The sha256 of all that was read, whatever is made of it in a repeat."""
        digest = hashlib.sha256(self._names_hash.encode())
        for part, rows in self.raw.parts().items():
            arrays = (rows.inputs, rows.targets, rows.groups, rows.times)
            digest.update(part.encode())
            digest.update(content_hash(*(array for array in arrays if array is not None)).encode())
        if self.ood is not None:
            digest.update(content_hash(self.ood).encode())
        return digest.hexdigest()

    @cached_property
    def _names_hash(self) -> str:
        columns = [[column.name, column.categories] for column in self.raw.columns or ()]
        return hashlib.sha256(json.dumps([self.raw.classes, columns, self.hierarchy]).encode()).hexdigest()

    def split(self, repeat: int = 0) -> Dataset:
        """Return the data of a repeat, split anew, with all that is fitted on its own training rows.

        Where the source has no test part, each repeat draws its own test, validation and training rows;
        where it has one (or times, which make one), each repeat divides the other rows into training and
        validation, unless the source does that too. With `same_split` all repeats are split as repeat 0.

        Args:
            repeat: the number of the repeat, at least 0.

        Returns:
            The `Dataset`; the same for the same repeat, in any order and on any machine.

        Raises:
            ValueError: in one line, which class is too small to be split, or that no column varies.

        """
        if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 0:
            raise ValueError(f"repeat: got {repeat!r}, expected a whole number of at least 0")
        with one_line(self.place):
            return self._dataset(repeat)

    def _dataset(self, repeat: int) -> Dataset:
        parts, notes = split(self.raw, self.validation, 0 if self.same_split else repeat)
        ood, fit_notes = self.ood, list[str]()
        if self.raw.columns is not None:
            encode, fit_notes = fit(self.raw.columns, parts["train"].inputs)
            parts = {part: replace(rows, inputs=encode(rows.inputs)) for part, rows in parts.items()}
            ood = None if self.ood is None else encode(self.ood)
        elif parts["train"].inputs.ndim == 2:
            rounding = Rounding.fit(parts["train"].inputs)
            parts = {part: replace(rows, inputs=rounding(rows.inputs)) for part, rows in parts.items()}
            ood = None if self.ood is None else rounding(self.ood)
        if parts["train"].groups is None:
            fit_notes += near_note(parts["train"].inputs, parts["test"].inputs)
        return assemble(
            self.name,
            self.raw.classes,
            parts,
            ood,
            self.ood_name,
            (*self.notes, *notes, *fit_notes),
            self.hierarchy,
            hashes={"names": self._names_hash},
            test_varies=self.test_varies,
        )
