"""What people see in the terminal while a comparison runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from criterium._visible import visible
from criterium.engine.progress import Progress

_SPEED_SECONDS = 3600.0
"""Speed is estimated over this long: runs may take minutes."""
_REST = 48
"""Characters that follow the name of a run: its bar and the rest, or what came out."""


class Live(Progress):
    """One line a finished run, a bar for each that is under way, and the time left for all of them."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`, which is a terminal."""
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", justify="right"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self.all = self.bars.add_task("preparing", total=None, count="")
        self.runs: dict[str, TaskID] = {}
        self.done = 0
        self.total = 0

    def __enter__(self) -> Live:
        """Begin to draw."""
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was, below the finished lines."""
        self.bars.stop()

    def stage(self, title: str, total: int, later: int = 0) -> None:
        """Name the overall bar, which counts the runs of this stage and of later ones."""
        self.total = self.done + total + later
        self.bars.update(self.all, description=title, total=self.total)
        self.running({})

    def running(self, shares: Mapping[str, float]) -> None:
        """Show a bar for each run that is under way."""
        for name in list(self.runs):
            if name not in shares:
                self.bars.remove_task(self.runs.pop(name))
        for name, share in shares.items():
            if name not in self.runs:
                self.runs[name] = self.bars.add_task(f"  {self._fitted(name)}", total=1.0, count="")
            self.bars.update(self.runs[name], completed=share, count=f"{share:.0%}".replace("%", " %"))
        self._count(sum(shares.values()))

    def finished(self, name: str, words: str) -> None:
        """Print one line above the bars."""
        self.done += 1
        if name in self.runs:
            self.bars.remove_task(self.runs.pop(name))
        self._count(sum(task.completed for task in self.bars.tasks if task.id != self.all))
        self.bars.console.print(Text(visible(f"{self._fitted(name):<30}  {words}")))

    def note(self, words: str) -> None:
        """Print one line above the bars."""
        self.bars.console.print(Text(visible(words), style="dim"))

    def _count(self, under_way: float) -> None:
        counted = f"{self.done} of {self.total} runs"
        self.bars.update(self.all, completed=self.done + under_way, count=counted)

    def _fitted(self, name: str) -> str:
        """Return the name of a run, its middle left out where the terminal is too narrow for it."""
        room = max(24, self.bars.console.width - _REST)
        name = visible(name)
        return name if len(name) <= room else f"{name[: room - 12]}…{name[-11:]}"


class Plain(Progress):
    """One line a stage, for output that is no terminal."""

    def __init__(self, console: Console) -> None:
        """Write to `console`."""
        self.console = console

    def stage(self, title: str, total: int, later: int = 0) -> None:
        """Print what begins."""
        self.note(f"{title}: {total} run{'s' * (total > 1)}")

    def note(self, words: str) -> None:
        """Print it."""
        with suppress(OSError):  # nobody reads it, which is no reason to end
            self.console.print(Text(visible(words)), soft_wrap=True)
