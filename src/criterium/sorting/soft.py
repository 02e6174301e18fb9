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
    """Return ``(..., k, n)`` logits, those of rank r largest at the r-th largest element.

    Grover et al., "Stochastic Optimization of Sorting Networks via Continuous Relaxations", ICLR 2019,
    theorem 4: (n + 1 - 2r) s_j - sum_i |s_j - s_i|. Up to a constant over j, which a softmax does not
    see, that is (2r - 1)(max s - s_j) - 2 sum_i max(0, s_i - s_j). In this form every term is small
    where the softmax is large, so no digits are lost, and the sum needs a sort, not all pairs.
    """
    rank = torch.arange(1, k + 1, device=scores.device, dtype=scores.dtype).unsqueeze(-1)
    behind = scores.amax(dim=-1, keepdim=True) - scores
    return (2 * rank - 1) * behind.unsqueeze(-2) - 2 * _excess(scores).unsqueeze(-2)


def _excess(scores: Tensor) -> Tensor:
    """Return the sum over i of max(0, s_i - s_j) for every j, by the gaps of the sorted scores."""
    ordered, order = scores.sort(dim=-1, descending=True)
    gaps = ordered[..., :-1] - ordered[..., 1:]
    above = torch.arange(1, scores.shape[-1], device=scores.device, dtype=scores.dtype)
    excess = functional.pad((gaps * above).cumsum(dim=-1), (1, 0))
    return torch.zeros_like(scores).scatter(-1, order, excess)


SOFT_SORTS = {"neuralsort": neuralsort, "softsort": softsort}
