"""The data of a study, held by one owner in each process."""

from __future__ import annotations

from criterium.data import Contents, Dataset, Source


class Held:
    """The contents of a source, read once, and the split that was asked for last.

    It is handed to whoever needs data. Pickled, it takes the source along and not the rows: in a worker
    process it is the one that was there, or reads the source anew, once.
    """

    def __init__(self, source: Source) -> None:
        """Read the source as it is now.

        Raises:
            ValueError: in one line, what in which file was wrong and what was expected.

        """
        self.source = source
        self.contents: Contents = source.read()
        self._split: dict[int, Dataset] = {}

    def split(self, repeat: int = 0) -> Dataset:
        """Return the data of a repeat."""
        if repeat not in self._split:
            self._split = {repeat: self.contents.split(repeat)}
        return self._split[repeat]

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the rows."""
        return _arrive, (self.source, self.contents.hash)


_arrived: Held | None = None


def _arrive(source: Source, digest: str) -> Held:
    """Return this process's holder of `source`."""
    global _arrived
    if _arrived is None or _arrived.source != source or _arrived.contents.hash != digest:
        _arrived = Held(source)
    if _arrived.contents.hash != digest:
        raise ValueError(f"data: {source.data} changed since the study began")
    return _arrived
