"""Differentiable sorting and top-k: tensors in, tensors out."""

from __future__ import annotations

from criterium.sorting.topk import sort_matrix, topk_matrix

__all__ = ["sort_matrix", "topk_matrix"]
