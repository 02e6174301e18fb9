"""Signs that a side did not get a fair chance, or was no contest, each from what a race records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

OUTER = 0.1
"""Share of a range, in its logarithm, that counts as its end."""

SHARE = 0.8
"""Of the repeats, how many must have ended there."""


@dataclass(frozen=True)
class Flag:
    """What is wrong, in a word or two for the table, and as the end of a sentence about the objective."""

    name: str
    words: str


Flags = tuple[Flag, ...]


def edge_of_range(chosen: Sequence[Mapping[str, float]], ranges: Mapping[str, tuple[float, float]]) -> Flags:
    """Flag options whose best value lay at one end of what was searched, in at least four of five repeats.

    By chance alone 36 % of winners lie in an outer tenth of two dimensions, so one repeat shows nothing.

    Args:
        chosen: the best setting of each repeat; options it lacks are not counted.
        ranges: low and high of each option that was searched.

    >>> [flag.name for flag in edge_of_range([{"rate": 0.9}] * 4, {"rate": (0.01, 1.0)})]
    ['edge of range']
    """
    found = []
    for option, (low, high) in ranges.items():
        places = [math.log(one[option] / low) / math.log(high / low) for one in chosen if option in one]
        for end, count in (
            ("lower", sum(place < OUTER for place in places)),
            ("upper", sum(place > 1 - OUTER for place in places)),
        ):
            # Two of two could be chance.
            if len(chosen) >= 3 and count >= SHARE * len(chosen):
                found.append(
                    Flag(
                        "edge of range",
                        f"its best {option.replace('_', ' ')} lay at the {end} end of the range"
                        f" ({low:g} to {high:g}) in {count} of {len(chosen)} repeats, so it may do better"
                        " beyond",
                    )
                )
    return tuple(found)


def not_converged(
    histories: Sequence[Sequence[float]], margin: float, better: Literal["lower", "higher"] = "lower"
) -> Flags:
    """Flag a validation metric that still improved over the last fifth of training, mean of repeats.

    Improved by more than the larger of the margin and a fifth of what it ended at.

    Args:
        histories: of each repeat, the metric after each epoch.
        margin: the least difference that matters.
        better: which values are.

    >>> [flag.name for flag in not_converged([[0.9, 0.6, 0.5, 0.4, 0.3]], margin=0.01)]
    ['not converged']
    """
    pairs = [(one[len(one) - 1 - max(1, len(one) // 5)], one[-1]) for one in histories if len(one) > 1]
    if not pairs:
        return ()
    before, after = np.mean(pairs, axis=0)
    gain = float(before - after) * (1 if better == "lower" else -1)
    if not gain > max(margin, abs(float(after)) / 5):
        return ()
    words = (
        f"its validation metric still improved from {before:.3g} to {after:.3g} over the last fifth of"
        " training, so longer training may change its place"
    )
    return (Flag("not converged", words),)


def no_better_than_commonest(
    values: Sequence[float], commonest: Sequence[float], better: Literal["lower", "higher"]
) -> Flags:
    """Flag a mean that always naming the commonest class of the training rows reaches too.

    >>> [flag.name for flag in no_better_than_commonest([0.32], [0.301], "lower")]
    ['no better than the commonest class']
    """
    mine, base = float(np.mean(values)), float(np.mean(commonest))
    if (mine < base) if better == "lower" else (mine > base):
        return ()
    words = f"it does no better than always naming the commonest class ({mine:.3g} against {base:.3g})"
    return (Flag("no better than the commonest class", words),)


def failed_repeats(diverged: Sequence[bool], collapsed: Sequence[bool]) -> Flags:
    """Flag repeats that diverged (not finite) or collapsed (one class for every row).

    >>> failed_repeats([False, True], [False, False])[0].words
    'it diverged in 1 of 2 repeats, counted as the commonest class'
    """
    found = []
    if any(diverged):
        words = f"it diverged in {sum(diverged)} of {len(diverged)} repeats, counted as the commonest class"
        found.append(Flag("diverged", words))
    if any(collapsed):
        words = f"it names one class for every row in {sum(collapsed)} of {len(collapsed)} repeats"
        found.append(Flag("collapsed", words))
    return tuple(found)


def unstable(values: Sequence[float], control: Sequence[float], margin: float) -> Flags:
    """Flag values that scatter over repeats by more than the margin, and three times what the control's do.

    >>> [flag.name for flag in unstable([0.1, 0.3, 0.1, 0.3], [0.1, 0.11, 0.1, 0.11], margin=0.01)]
    ['unstable']
    """
    if min(len(values), len(control)) < 4:
        return ()
    mine, base = float(np.std(values, ddof=1)), float(np.std(control, ddof=1))
    if not mine > max(margin, 3 * base):
        return ()
    words = f"it is unstable: its standard deviation over repeats is {mine:.2g}, the control's {base:.2g}"
    return (Flag("unstable", words),)


def identical(runs: Sequence[Mapping[str, float]], control: Sequence[Mapping[str, float]]) -> Flags:
    """Flag runs whose every number is the control's, to the bit, in every repeat.

    >>> [flag.name for flag in identical([{"nll": 0.25}], [{"nll": 0.25}])]
    ['identical to the control']
    """
    same = [_same(mine, base) for mine, base in zip(runs, control, strict=True)]
    if not same or not all(same):
        return ()
    return (Flag("identical to the control", "it gave the control's numbers to the bit in every repeat"),)


def unfit_head(distance_head: bool, raw_columns: bool) -> Flags:
    """Flag an output layer of distances or cosines to prototypes that sits on the raw columns of a table.

    >>> [flag.name for flag in unfit_head(True, True)]
    ['head does not suit the model']
    """
    if not (distance_head and raw_columns):
        return ()
    words = "its output layer of prototypes needs learned features, and this model gives it raw columns"
    return (Flag("head does not suit the model", words),)


def constant_loss(losses: Sequence[Sequence[float]]) -> Flags:
    """Flag a training loss that never changed: it has no gradient for this task.

    >>> [flag.name for flag in constant_loss([[0.0, 0.0, 0.0]])]
    ['constant loss']
    """
    if not losses or any(len(one) < 2 or min(one) != max(one) for one in losses):
        return ()
    return (Flag("constant loss", "its loss was constant in training, so the model never learned"),)


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        value == other[name] or (math.isnan(value) and math.isnan(other[name])) for name, value in one.items()
    )
