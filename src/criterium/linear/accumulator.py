"""What an accumulator is: statistics of a row's logits that a block of classes at a time adds up to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import NamedTuple

from torch import Tensor

State = tuple[Tensor, ...]
Code = tuple[str, list[float]]


class Block(NamedTuple):
    """The logits of all rows for some classes, and where the picked classes are, which do not count."""

    logits: Tensor
    """(N, B); accumulators may write into it."""
    picked: Tensor
    """(N, m), the logits that were picked; the first is the row's own class's."""
    rows: Tensor
    """(R,), the rows with a picked class in this block."""
    columns: Tensor
    """(R,), and where it is."""
    labels: Tensor | None = None
    """(L, B), numbers of the classes."""
    own_labels: Tensor | None = None
    """(L, N), those of each row's own class."""

    @property
    def own(self) -> Tensor:
        """The logit of each row's own class (N,)."""
        return self.picked[:, 0]

    @property
    def hidden(self) -> Tensor:
        """Where the one picked class of each row is (N,), -1 where it is not here."""
        hidden = self.rows.new_full((len(self.logits),), -1)
        hidden[self.rows] = self.columns
        return hidden

    def hide(self, value: float) -> Tensor:
        """Return the logits with `value` in the places of picked classes."""
        self.logits[self.rows, self.columns] = value
        return self.logits


@dataclass(frozen=True)
class Accumulator(ABC):
    """Statistics of the logits of all classes of a row but the picked ones; its fields are numbers."""

    @property
    def code(self) -> Code:
        """What an operator can be told: its name in `ACCUMULATORS` and its fields."""
        # Added to, not converted: a compiler follows a number that changes from call to call.
        return type(self).__name__, [getattr(self, each.name) + 0.0 for each in fields(self)]

    @abstractmethod
    def empty(self, picked: Tensor, labels: Tensor | None) -> tuple[State, State]:
        """Return what `finish` returns, unfilled."""

    @abstractmethod
    def accumulate(self, block: Block) -> State:
        """Return the state of one block: tensors whose first dimension is N."""

    @abstractmethod
    def merge(self, one: State, other: State) -> State:
        """Return the state of the classes of both."""

    @abstractmethod
    def finish(self, state: State, picked: Tensor) -> tuple[State, State]:
        """Return the statistics, first dimension N, and what else `slope` wants to know."""

    @abstractmethod
    def slope(
        self, block: Block, statistics: State, kept: State, upstream: State
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivative of Σ upstream · statistics by the logits (N, B) and by `block.picked`.

        The first may be anything where a logit is picked; the second is None where there is none.
        """


def vectors(picked: Tensor, number: int) -> State:
    """Return some statistics (N,), unfilled."""
    return tuple(picked.new_empty(picked.shape[0]) for _ in range(number))
