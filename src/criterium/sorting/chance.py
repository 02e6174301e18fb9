"""The chance that an element is among the largest, by a network, with its gradient formed on the way.

What `sweep.carry_row` and a backward pass through it give, on a CPU and in fewer and cheaper calls: with a
hundred rows of some tens of elements their number is what takes the time, and one of NumPy costs a third
of one of torch. Before each layer the wires lie so that the low ends of its comparators are one run of
them and the high ends another, views that change in place. Only ``low - high`` and the share that swaps
are formed of a comparator::

    low' = low - swap (low - high)        high' = high + swap (low - high)

That would cost small chances their digits, so it is done in float64, for scores that are float32.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from criterium.sorting.comparators import Comparator
from criterium.sorting.networks import NETWORKS, Layer


def chance_and_slope(
    scores: np.ndarray, index: np.ndarray | int, by_rank: tuple[float, ...], relaxation: str, rule: Comparator
) -> tuple[np.ndarray, np.ndarray]:
    """Return sum_r by_rank_r P_ir ``(M,)`` and its derivative by the scores, both in float64.

    P is that of `criterium.sorting.topk_matrix` for ``(n, M)`` scores, whose rows are elements here, and i
    the `index` of one element in each column, ``(M,)`` or the same in all.
    """
    n, rows = scores.shape
    plan = _plan(relaxation, n, by_rank)
    # Side by side for every wire: the row of P that is asked for, and the scores.
    state = np.zeros((n, 2, rows))
    state[plan.place[index], 0, slice(None) if isinstance(index, int) else np.arange(rows)] = 1
    np.multiply(scores[plan.order], rule.unit, out=state[:, 1])

    change, along = np.empty((2, sum(plan.sizes), 2, rows))
    push, apart = np.empty((2, n // 2, 2, rows))
    gap, swap = torch.from_numpy(change[:, 1]), torch.from_numpy(along[:, 0])
    gaps, swaps = torch.split(gap, plan.sizes), torch.split(swap, plan.sizes)
    share = along[:, :1]
    for layer, its_gap, its_swap in zip(plan.layers, gaps, swaps, strict=True):
        if layer.turn is not None:
            state = state.take(layer.turn, axis=0)
        low, high, moved = state[layer.low], state[layer.high], push[layer.few]
        np.subtract(low, high, out=change[layer.at])
        rule.share(its_gap, out=its_swap)
        np.multiply(change[layer.at], share[layer.at], out=moved)
        low -= moved
        high += moved
    chance = (plan.weights @ state.reshape(n, 2 * rows))[:rows]

    # Let d be the derivative by a comparator's low output less that by its high one. The derivative by its
    # low input is less than by its low output by `moved`, and for the high ones it is more: for the row by
    # swap d; the scores move the share too, and theirs takes slope (change_row d_row + change_score d_score)
    # in addition.
    slope = rule.slope(gap, swap)
    torch.addcmul(swap, slope, gap, out=torch.from_numpy(along[:, 1]))
    across = slope.mul_(torch.from_numpy(change[:, 0])).numpy()
    crossed = np.empty((n // 2, rows))
    grad = np.zeros_like(state)
    grad[:, 0] = plan.weights[:, None]
    for layer in reversed(plan.layers):
        low, high, d, moved = grad[layer.low], grad[layer.high], apart[layer.few], push[layer.few]
        np.subtract(low, high, out=d)
        np.multiply(d, along[layer.at], out=moved)
        moved[:, 1] += np.multiply(across[layer.at], d[:, 0], out=crossed[layer.few])
        low -= moved
        high += moved
        if layer.turn is not None:
            grad = grad.take(layer.turn_back, axis=0)
    return chance, grad[plan.place, 1] * rule.unit


class _Layer(NamedTuple):
    """A layer of comparators: the runs of wires that are their low and high ends, after a turn of all wires.

    `at` is where they lie among the comparators of all layers, `few` as many from the start.
    """

    low: slice
    high: slice
    at: slice
    few: slice
    turn: np.ndarray | None
    turn_back: np.ndarray | None


class _Plan(NamedTuple):
    """Layers with their sizes; the wires in their first order, the place of each, and last their weights."""

    layers: list[_Layer]
    sizes: list[int]
    order: np.ndarray
    place: np.ndarray
    weights: np.ndarray


@functools.lru_cache(maxsize=32)
def _plan(relaxation: str, n: int, by_rank: tuple[float, ...]) -> _Plan:
    network = [pairs for pairs in NETWORKS[relaxation](n, len(by_rank)) if pairs]
    order = first = _lined_up(network[0], list(range(n))) if network else list(range(n))
    layers: list[_Layer] = []
    done = 0
    for pairs in network:
        size = len(pairs)
        runs, turn, turn_back = _runs(pairs, order), None, None
        if runs is None:
            lined_up = _lined_up(pairs, order)
            turn = np.argsort(order)[lined_up]
            turn_back = np.argsort(turn)
            runs, order = (0, size), lined_up
        low, high = (slice(start, start + size) for start in runs)
        layers.append(_Layer(low, high, slice(done, done + size), slice(size), turn, turn_back))
        done += size

    # At last the r-th largest lies on the r-th wire from the end.
    weights = np.array([by_rank[n - 1 - wire] if n - 1 - wire < len(by_rank) else 0.0 for wire in order])
    return _Plan(layers, [len(pairs) for pairs in network], np.array(first), np.argsort(first), weights)


def _runs(pairs: Layer, order: list[int]) -> tuple[int, int] | None:
    """Return where the runs of low and of high ends begin, if wires in this order make such runs."""
    places = np.argsort(order)[pairs]
    places = places[places[:, 0].argsort()]
    low, high = places[0].tolist()
    return (low, high) if (places - places[0] == np.arange(len(pairs))[:, None]).all() else None


def _lined_up(pairs: Layer, order: list[int]) -> list[int]:
    """Return the wires in a new order: all low ends, the high ends in the same order, those left over."""
    lows, highs = zip(*pairs, strict=True)
    return [*lows, *highs, *(wire for wire in order if wire not in {*lows, *highs})]
