"""How many training rows each class has: what the losses for imbalanced data are told, and its checks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_counts(class_counts: Tensor) -> Tensor:
    """Return `class_counts` if it is (C,) and, as far as can be seen for nothing, positive and finite."""
    if class_counts.dim() != 1 or class_counts.shape[0] == 0:
        raise ValueError(f"class_counts: got shape {tuple(class_counts.shape)}, expected (C,)")
    # On a GPU a look would stall the queue at every step, and while a graph is traced there is none.
    if class_counts.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = map(float, class_counts.aminmax())
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"class_counts: got values from {low:g} to {high:g}, expected finite numbers above 0"
                " (count a class without training rows as 1)"
            )
    return class_counts


def counts_for(table: Tensor, class_counts: Tensor) -> Tensor:
    """Return the counts, one for each class of (M, C) logits, in the type and on the device of these."""
    check_counts(class_counts)
    if class_counts.shape[0] != table.shape[1]:
        raise ValueError(
            f"class_counts: got shape {tuple(class_counts.shape)}, expected ({table.shape[1]},),"
            " one number a class"
        )
    return class_counts.to(table)
