"""Differentiable sorting and top-k: tensors in, tensors out."""

from __future__ import annotations

from criterium.sorting.noised import noised_kth
from criterium.sorting.topk import topk_matrix

__all__ = ["noised_kth", "topk_matrix"]
