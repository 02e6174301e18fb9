"""How many bits each sample, or each layer, gets out of a common budget."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 8
"""Bits that everything starts with."""


def allocate(cost: Tensor, target: float, weight: Tensor | None = None) -> Tensor:
    """Share `target` bits out so that the sum of cost_i / (2^b_i − 1)² stays small.

    All start at 8 bits. Again and again the one gives up a bit for which this adds least to the sum, per
    weight, until sum weight_i b_i <= target or all have one bit. What the next bit costs only rises, so the
    order of all these steps is found by one sort.

    Args:
        cost: ``(n,)`` sensitivities, at least 0.
        target: bits to share out.
        weight: ``(n,)`` numbers stored at b_i bits each; one each if not given.

    Returns:
        ``(n,)`` whole numbers b from 1 to 8, on the CPU.

    Example:
        >>> allocate(torch.tensor([0.1, 0.1, 100.0, 1.0]), target=8)
        tensor([1, 1, 4, 2])

    Reference:
        Chen et al., ActNN, ICML 2021, arXiv:2104.14129, section 4; the same bits as the authors' priority
        queue.

    """
    cost = cost.detach().to("cpu", torch.float64)
    weights = torch.ones_like(cost) if weight is None else weight.to("cpu", torch.float64)
    bits = torch.arange(MOST, 0, -1, dtype=torch.float64)
    error = (2**bits - 1) ** -2
    # (n, 7): what the steps 8 to 7, ..., 2 to 1 add, per weight.
    added = cost[:, None] * error.diff() / weights[:, None]
    order = added.flatten().argsort(stable=True) // (MOST - 1)
    excess = MOST * weights.sum() - target
    given_up = weights[order].cumsum(0)
    count = int(torch.searchsorted(given_up, excess)) + 1 if excess > 0 else 0
    return MOST - torch.bincount(order[:count], minlength=len(cost))
