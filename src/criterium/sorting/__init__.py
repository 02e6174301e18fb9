"""Differentiable sorting and top-k: tensors in, tensors out."""

from __future__ import annotations

from criterium.sorting.noised import noised_kth
from criterium.sorting.smoothed import smoothed_kth
from criterium.sorting.topk import sort_matrix, topk_matrix

__all__ = ["noised_kth", "smoothed_kth", "sort_matrix", "topk_matrix"]
