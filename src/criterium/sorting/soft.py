"""NeuralSort and SoftSort: each rank is a softmax over the elements."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def softsort(scores: Tensor, k: int) -> Tensor:
    """Return ``(..., k, n)`` logits: minus the distance of each element to the r-th largest.

    Prillo & Eisenschlos, "SoftSort", ICML 2020, definition 2 with the absolute distance.
    """
    largest = scores.topk(k, dim=-1).values
    return -(scores.unsqueeze(-2) - largest.unsqueeze(-1)).abs()


def neuralsort(scores: Tensor, k: int) -> Tensor:
    """Return ``(..., k, n)`` logits: (n + 1 - 2r) s_j - sum_i |s_j - s_i|, less their largest for each r.

    Grover et al., "Stochastic Optimization of Sorting Networks via Continuous Relaxations", ICLR 2019,
    theorem 4. From the r-th largest score, where the expression is largest, to the next ones up and down
    it falls by 1, 3, 5, ... times the gaps between neighbours. Summed that way it takes a sort in place of
    all pairs, and there are no large terms that cancel.
    """
    ordered, order = scores.sort(dim=-1, descending=True)
    gaps = (ordered[..., :-1] - ordered[..., 1:]).unsqueeze(-2)
    rank = torch.arange(1, k + 1, device=scores.device).unsqueeze(-1)
    slope = 2 * (torch.arange(1, scores.shape[-1], device=scores.device) - rank) + 1
    below = (slope.clamp_min(0) * gaps).cumsum(-1)
    above = (slope.clamp_max(0) * gaps).flip(-1).cumsum(-1).flip(-1)
    logits = functional.pad(above, (0, 1)) - functional.pad(below, (1, 0))
    return torch.zeros_like(logits).scatter(-1, order.unsqueeze(-2).expand_as(logits), logits)


SOFT_SORTS = {"neuralsort": neuralsort, "softsort": softsort}
