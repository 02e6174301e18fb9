"""Targets, class weights and reductions: what is checked before a loss of rows, and what is done after it.

Losses of logits (`_contract.per_example_loss`) and losses of features (`criterium.linear`) share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from criterium._checks import choice
from criterium._values import looked_at


def check(
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    *,
    classes: int,
    indices: Sequence[int],
    probabilities: Sequence[int],
    given: tuple[str, Sequence[int]],
) -> bool:
    """Raise a `ValueError` for arguments that do not fit; return whether the target is soft.

    `indices` is the shape that class indices must have, `probabilities` that of class probabilities, for
    what is `given`: its name and its shape.
    """
    choice("reduction", reduction, ("none", "mean", "sum"))
    soft = target.is_floating_point()
    wanted = tuple(probabilities if soft else indices)
    if tuple(target.shape) != wanted:
        kind = "class probabilities" if soft else "class indices"
        raise ValueError(
            f"target: got {kind} of shape {tuple(target.shape)}, expected {wanted}"
            f" for {given[0]} of shape {tuple(given[1])} and {classes} classes"
        )
    if target.dtype == torch.bool or target.is_complex():
        raise ValueError(f"target: got dtype {target.dtype}, expected class indices or class probabilities")
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(
            f"weight: got shape {tuple(weight.shape)}, expected ({classes},), one number a class"
        )
    return soft


class Targets(NamedTuple):
    """The targets of M rows as losses for rows take them, and how much each row counts."""

    classes: Tensor
    """``(M,)`` class indices, safe to gather with, or ``(M, C)`` class probabilities."""
    valid: Tensor | None
    """``(M,)``, which rows count; None: all of them."""
    weight: Tensor | None
    """``(M,)``, the class weight of each row, 0 where it does not count; None: all alike."""
    counting: Tensor | None
    """``(M,)``, which rows are valid and of a weight other than 0; None: all of them."""

    @classmethod
    def read(
        cls, target: Tensor, classes: int, dtype: torch.dtype, weight: Tensor | None, ignore_index: int | None
    ) -> Targets:
        """Return what ``(M,)`` class indices or ``(M, C)`` class probabilities say.

        Raises:
            ValueError: a class index out of range, where that can be seen.
        """
        class_weight = None if weight is None else weight.to(device=target.device, dtype=dtype)
        if target.is_floating_point():
            distribution = target.to(dtype)
            if class_weight is None:
                return cls(distribution, None, None, None)
            row_weight = distribution @ class_weight
            return cls(distribution, None, row_weight, row_weight != 0)
        index, valid = _rows_that_count(target.long(), classes, ignore_index)
        if class_weight is None:
            return cls(index, valid, None, valid)
        row_weight = class_weight[index]
        row_weight = row_weight if valid is None else row_weight.where(valid, 0)
        return cls(index, valid, row_weight, row_weight != 0)

    @property
    def all_alike(self) -> bool:
        """Whether there is a row, and every row counts for one."""
        return self.valid is None and self.weight is None and len(self.classes) > 0

    def reduce(self, losses: Tensor, shape: Sequence[int], reduction: str) -> Tensor:
        """Return ``(M,)`` losses weighted and reduced, or in `shape` for a reduction of "none"."""
        if self.counting is not None:
            losses = losses.where(self.counting, 0)
        if self.weight is not None:
            losses = losses * self.weight
        if reduction == "none":
            return losses.reshape(shape)
        if reduction == "sum":
            return losses.sum()
        each = self.valid if self.weight is None else self.weight
        if each is None:
            return losses.mean() if losses.shape[0] else losses.sum()
        # Where nothing counts the sum is zero already; dividing it by one keeps it so.
        count = each.to(losses.dtype).sum()
        return losses.sum() / (count + (count == 0))


def as_weight(weight: Tensor | Sequence[float] | None, device: torch.device) -> Tensor | None:
    """Return class weights as a tensor, also those that are a list."""
    if weight is None or isinstance(weight, Tensor):
        return weight
    return torch.as_tensor(weight, dtype=torch.get_default_dtype(), device=device)


_AS_IT_IS = nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast."""
    # Asked for a device that it has no autocast for, PyTorch raises.
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return _AS_IT_IS


def _rows_that_count(index: Tensor, classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Return indices that are safe to gather with, and which rows count; None where all of them do."""
    low, high = _bounds(index)
    # Most batches have no ignored row; where that can be seen for nothing, nothing need be masked.
    if 0 <= low <= high < classes and (ignore_index is None or not low <= ignore_index <= high):
        return index, None
    valid = None
    if ignore_index is not None:
        valid = index != ignore_index
        index = index.where(valid, 0)
        low, high = _bounds(index)
    if low < 0 or high >= classes:
        allowed = "" if ignore_index is None else f" or ignore_index={ignore_index}"
        raise ValueError(
            f"target: got class index {low if low < 0 else high}, expected 0 to {classes - 1}{allowed}"
        )
    return index, valid


def _bounds(index: Tensor) -> tuple[int, int]:
    """Return the least and the largest index; (0, -1) of no index, or where they are not looked at.

    There the indexing itself asserts.
    """
    if not looked_at(index) or index.numel() == 0:
        return 0, -1
    low, high = index.aminmax()
    return int(low), int(high)
