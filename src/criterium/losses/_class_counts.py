"""How many training rows each class has: what the losses for imbalanced data are told, and its checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from criterium._values import looked_at


def check_counts(class_counts: Tensor | Sequence[float], device: torch.device | None = None) -> Tensor:
    """Return `class_counts` if it is (C,) and, as far as can be seen for nothing, positive and finite."""
    if not isinstance(class_counts, Tensor):
        # Whole numbers stay whole ones, and others keep their digits.
        class_counts = torch.as_tensor(np.asarray(class_counts), device=device)
    if class_counts.dim() != 1 or class_counts.shape[0] == 0:
        raise ValueError(f"class_counts: got shape {tuple(class_counts.shape)}, expected (C,)")
    if looked_at(class_counts):
        low, high = map(float, class_counts.aminmax())
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"class_counts: got values from {low:g} to {high:g}, expected finite numbers above 0"
                " (count a class without training rows as 1)"
            )
    return class_counts


def counts_for(table: Tensor, class_counts: Tensor | Sequence[float]) -> Tensor:
    """Return the counts, one for each class of (M, C) logits, in the type and on the device of these."""
    class_counts = check_counts(class_counts, table.device)
    if class_counts.shape[0] != table.shape[1]:
        raise ValueError(
            f"class_counts: got shape {tuple(class_counts.shape)}, expected ({table.shape[1]},),"
            " one number a class"
        )
    return class_counts.to(table)
