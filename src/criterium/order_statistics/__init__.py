"""Order statistics under noise: the k-th largest, the chance to be among the k largest."""

from __future__ import annotations

from criterium.order_statistics.noised import noised_kth
from criterium.order_statistics.smoothed import smoothed_kth

__all__ = ["noised_kth", "smoothed_kth"]
