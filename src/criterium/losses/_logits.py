"""Rows of logits that are far from 0 or not finite, read as `torch.nn.CrossEntropyLoss` reads them.

A common shift of a row changes no loss. A class at minus infinity has no chance; a row that holds NaN or plus
infinity, or nothing but minus infinity, has no loss: it and its gradient are NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._values import transforming


def flaw(table: Tensor) -> Tensor:
    """Return ``(M, 1)``: 0, or NaN for a row of logits ``(M, C)`` that has no loss."""
    top = table.detach().amax(dim=1, keepdim=True)
    return top - top


def from_top(table: Tensor) -> Tensor:
    """Return logits ``(M, C)`` less the largest of their row, in new memory; all NaN where they have no loss.

    So they keep the digits of their differences to it, wherever they are.
    """
    top = table.detach().amax(dim=1, keepdim=True)
    return table - (top + (top - top))


def below_top(table: Tensor) -> Tensor:
    """Return `from_top` for a softmax, which makes a row NaN that has one: so one entry is enough."""
    return table - table.detach().amax(dim=1, keepdim=True)


def bounded(table: Tensor, least: float | None = None) -> Tensor:
    """Return logits with a finite one in place of minus infinity, whose products with 0 are NaN.

    It takes the place of all that are below it; NaN stays, and its gradient, which a clamp would take for 0.
    """
    least = torch.finfo(table.dtype).min if least is None else least
    return table.masked_fill(table < least, least)


def put(table: Tensor, own: Tensor, value: Tensor | float) -> Tensor:
    """Return ``(M, C)`` numbers with others at the classes `own` ``(M, 1)``; their memory is reused."""
    # In place this has no rule under vmap.
    return table.scatter(1, own, value) if transforming() else table.scatter_(1, own, value)


def surprisal(table: Tensor) -> Tensor:
    """Return −log softmax, finite for a class at minus infinity, so that 0 times it is 0."""
    return -bounded(table.log_softmax(dim=1))


def positive_part(excess: Tensor) -> Tensor:
    """Return max(0, excess), of whose gradient NaN makes NaN, where `relu` has 0."""
    return excess.masked_fill(excess <= 0, 0.0)
