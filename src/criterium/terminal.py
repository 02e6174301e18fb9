"""What people see in the terminal while a comparison runs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from criterium.comparison import Progress


class Live(Progress):
    """One line a finished run, a bar for each that is under way, and the time left for all of them."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`, which is a terminal."""
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self.all: TaskID | None = None
        self.runs: dict[str, TaskID] = {}

    def __enter__(self) -> Live:
        """Begin to draw."""
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was, below the finished lines."""
        self.bars.stop()

    def stage(self, title: str, total: int) -> None:
        """Show a new overall bar."""
        if self.all is not None:
            self.bars.remove_task(self.all)
        for task in self.runs.values():
            self.bars.remove_task(task)
        self.runs = {}
        self.all = self.bars.add_task(f"[bold]{title}[/bold]", total=total, left="time left")

    def running(self, shares: Mapping[str, float]) -> None:
        """Show a bar for each run that is under way."""
        for name in list(self.runs):
            if name not in shares:
                self.bars.remove_task(self.runs.pop(name))
        for name, share in shares.items():
            if name not in self.runs:
                self.runs[name] = self.bars.add_task(f"  {_plain(name)}", total=100, left="%")
            self.bars.update(self.runs[name], completed=round(100 * share))

    def finished(self, name: str, words: str) -> None:
        """Print one line above the bars."""
        self.bars.console.print(f"{_plain(name):<34} {_plain(words)}", highlight=False)
        if self.all is not None:
            self.bars.advance(self.all)

    def note(self, words: str) -> None:
        """Print one line above the bars."""
        self.bars.console.print(f"[dim]{_plain(words)}[/dim]", highlight=False)


class Plain(Progress):
    """One line a stage, for output that is no terminal."""

    def __init__(self, console: Console) -> None:
        """Write to `console`."""
        self.console = console

    def stage(self, title: str, total: int) -> None:
        """Print what begins."""
        self.console.print(f"{title}: {total} runs", highlight=False)

    def note(self, words: str) -> None:
        """Print it."""
        self.console.print(_plain(words), highlight=False)


def _plain(text: str) -> str:
    """Return `text` so that rich takes no part of it for markup."""
    return text.replace("[", r"\[")
