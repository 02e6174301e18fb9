"""Rows of top-k cross-entropy: the readable form, and for networks on a CPU one with its gradient by hand."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from criterium._values import looked_at
from criterium.losses._contract import forming_gradient
from criterium.losses._logits import bounded, from_top
from criterium.sorting.chance import chance_and_slope
from criterium.sorting.comparators import Comparator
from criterium.sorting.networks import NETWORKS
from criterium.sorting.topk import rank_probabilities

_NEAR_ONE, _NEAR_ZERO = 1 - 2e-7, 1e-7
"""The reference's bounds on chances, on both sides: away from log(0), and as far from log(1)."""

_FEW = 256
"""Up to so many classes NumPy sorts a row by vector instructions alone."""


ALL = "all"
"""In place of a number of candidates: the true class and all others."""


class Options(NamedTuple):
    """The weight of softmax and that of every rank, and what rows are relaxed with."""

    first: float
    by_rank: tuple[float, ...]
    top1: str
    candidates: int | str | None
    relaxation: str
    rule: Comparator


def rows(table: Tensor, index: Tensor, options: Options) -> Tensor:
    """Return the losses ``(M,)`` of ``(M, C)`` logits, of which `index` ``(M,)`` are the true ones."""
    k, classes, candidates = len(options.by_rank), table.shape[1], options.candidates
    if k >= classes > 1 or k > classes:
        raise ValueError(f"p_k: got {k} weights for C = {classes} classes, expected fewer than C (k >= C)")
    if isinstance(candidates, int) and candidates > classes:
        raise ValueError(f"candidates: got {candidates}, expected at most C = {classes}")
    network = options.relaxation in NETWORKS
    if candidates in (ALL, classes):
        # Only the shares of a network depend on which wire is whose.
        options = options._replace(candidates=classes if network else None)

    # Without a gradient to form the readable form keeps less; traced, it is fused by the compiler.
    formed = (
        network
        and table.dtype == torch.float32
        and table.device.type == "cpu"
        and table.requires_grad
        and torch.is_grad_enabled()
        and looked_at(table)
    )
    if not formed:
        return _rows(table, index, options)
    return forming_gradient(lambda table, index: _with_gradient(table, index, options))(table, index)


def _rows(table: Tensor, index: Tensor, options: Options) -> Tensor:
    table = bounded(from_top(table), _floor(options))
    if isinstance(options.candidates, int):
        table = table.gather(1, _columns(table.detach(), index, options.candidates))
        index = torch.zeros_like(index)
    ranks = rank_probabilities(
        table,
        index,
        len(options.by_rank),
        relaxation=options.relaxation,
        distribution=options.rule.distribution,
        steepness=options.rule.steepness,
        art_lambda=options.rule.art_lambda,
    )
    chance = ranks @ ranks.new_tensor(options.by_rank)
    if options.top1 == "softmax":
        softmax = torch.softmax(table, dim=1).gather(1, index.unsqueeze(1)).squeeze(1)
        chance = options.first * softmax + chance
    losses = -torch.log(chance * _NEAR_ONE + _NEAR_ZERO)
    if options.top1 == "softmax_ce":
        entropy = functional.cross_entropy(table, index, reduction="none")
        losses = options.first * entropy + options.by_rank[0] * losses
    return losses


def _floor(options: Options) -> float:
    """Return below how far from the largest logit no class competes.

    Minus infinity has no mean with other scores, and what is mixed with very large numbers loses its digits.
    """
    return -200 / options.rule.steepness if options.relaxation == "sinkhorn" else -1e6


def _columns(table: Tensor, index: Tensor, candidates: int) -> Tensor:
    """Return where the candidates are: the true class, then the strongest others in descending order."""
    true = index.unsqueeze(1)
    others = table.scatter(1, true, -math.inf).topk(candidates - 1, dim=1).indices
    return torch.cat([true, others], dim=1)


def _with_gradient(table: Tensor, index: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Return `_rows` of a network and its gradient, for float32 on a CPU, in fewer and cheaper calls.

    The arithmetic is that of float64, which small chances need here and only float32 leaves room for.
    """
    if torch.is_grad_enabled():  # the gradient itself is to be differentiated
        losses, pull, *_ = torch.func.vjp(lambda table: _rows(table, index, options), table)
        return losses, pull(torch.ones_like(losses))[0]

    table = table.detach().resolve_neg().clamp_min(torch.finfo(table.dtype).min)
    if not isinstance(options.candidates, int):
        values, slope = _value_and_slope(table.T.double().clone().numpy(), index.numpy(), options)
        return torch.from_numpy(values).float(), torch.from_numpy(slope.T).float()
    if table.shape[1] <= _FEW:
        columns, scores = _strongest_of_few(table.numpy(), index.numpy(), options.candidates)
    else:
        columns = _columns(table, index, options.candidates)
        scores = table.gather(1, columns).T.double().numpy()
    values, slope = _value_and_slope(scores, 0, options)
    gradient = torch.zeros_like(table).scatter_(1, columns, torch.from_numpy(slope.T).float())
    return torch.from_numpy(values).float(), gradient


def _strongest_of_few(table: np.ndarray, index: np.ndarray, candidates: int) -> tuple[Tensor, np.ndarray]:
    """Return `_columns` and their scores ``(n, M)``, by a vectorised sort: several times as fast as topk."""
    rows = np.arange(len(index))
    wide = table.astype(np.float64)
    true = wide[rows, index]
    wide[rows, index] = -np.finfo(np.float64).max
    # The 29 low bits of a float32 as float64 are zero, and the number of a class fits in there.
    bits = wide.view(np.int64)
    bits |= np.arange(table.shape[1])
    wide.sort(axis=1)
    strongest = bits[:, :-candidates:-1]
    columns = np.empty((len(index), candidates), dtype=np.int64)
    columns[:, 0] = index
    np.bitwise_and(strongest, (1 << 29) - 1, out=columns[:, 1:])
    scores = np.empty((candidates, len(index)))
    scores[0] = true
    np.bitwise_and(strongest.T, -(1 << 29), out=scores[1:].view(np.int64))
    return torch.from_numpy(columns), scores


def _value_and_slope(
    scores: np.ndarray, index: np.ndarray | int, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Return losses ``(M,)`` and their derivative by the scores ``(n, M)`` of those that compete."""
    top = scores.max(axis=0)
    # As in `_logits.flaw`; minus infinity has come as the least number there is.
    top[~((top > np.finfo(np.float32).min) & (top < np.inf))] = np.nan
    scores -= top
    np.maximum(scores, _floor(options), out=scores)
    chance, slope = chance_and_slope(scores, index, options.by_rank, options.relaxation, options.rule)
    true = index if isinstance(index, int) else (index, np.arange(len(index)))
    if options.top1 != "sort":
        softmax = np.exp(scores)
        total = softmax.sum(axis=0)
        softmax /= total
    if options.top1 == "softmax":
        share = options.first * softmax[true]
        chance += share
        slope -= share * softmax
        slope[true] += share
    inside = chance * _NEAR_ONE + _NEAR_ZERO
    losses = -np.log(inside)
    slope *= -_NEAR_ONE / inside
    if options.top1 == "softmax_ce":
        losses = options.by_rank[0] * losses + options.first * (np.log(total) - scores[true])
        slope = options.by_rank[0] * slope + options.first * softmax
        slope[true] -= options.first
    return losses, slope
