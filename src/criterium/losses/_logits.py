"""Rows of logits that are far from 0 or not finite, read as `torch.nn.CrossEntropyLoss` reads them.

A common shift of a row changes no loss. A class at minus infinity has no chance; a row that holds NaN or plus
infinity, or nothing but minus infinity, has no loss: it is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

def flaw(table: Tensor) -> Tensor:
    """Return ``(M, 1)``: 0, or NaN for a row of logits ``(M, C)`` that has no loss."""
    top = table.detach().amax(dim=1, keepdim=True)
    return top - top


def from_own(table: Tensor, own: Tensor) -> Tensor:
    """Return logits ``(M, C)`` less the one of class `own` ``(M, 1)`` of their row, as `from_top` does."""
    return table - (table.gather(1, own) + flaw(table))


def from_top(table: Tensor) -> Tensor:
    """Return logits ``(M, C)`` less the largest of their row, in new memory; all NaN where they have no loss.

    So they keep the digits of their differences to it, wherever they are.
    """
    top = table.detach().amax(dim=1, keepdim=True)
    return table - (top + (top - top))


def unmasked(table: Tensor) -> Tensor:
    """Return logits with a finite one in place of minus infinity, whose products with 0 are NaN."""
    return table.clamp_min(torch.finfo(table.dtype).min)


def surprisal(table: Tensor) -> Tensor:
    """Return −log softmax, finite for a class at minus infinity, so that 0 times it is 0."""
    return (-table.log_softmax(dim=1)).clamp_max(torch.finfo(table.dtype).max)
