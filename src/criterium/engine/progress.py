"""What a comparison tells while it works; the terminal draws it, and silence is the default."""

from __future__ import annotations

from collections.abc import Mapping


class Progress:
    """Does nothing; a display overrides what it shows."""

    def stage(self, title: str, total: int, later: int = 0) -> None:
        """Begin a stage of `total` runs, with `later` ones to come in other stages."""

    def running(self, shares: Mapping[str, float]) -> None:
        """Show which runs are under way, and the share of each that is done."""

    def finished(self, name: str, words: str) -> None:
        """One run is done; `words` says what came out."""

    def note(self, words: str) -> None:
        """Say something that is no run."""
