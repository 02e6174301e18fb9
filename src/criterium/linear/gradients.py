"""The gradients that a scan adds up, block by block and class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium.linear.layer import Layer, Slopes


class Gradients:
    """The gradients of features, weight, bias and scale; those of a class are written once, in place."""

    def __init__(self, features: Tensor, layer: Layer, needed: list[bool], *, dense: bool) -> None:
        """Start at zero; with `dense`, blocks of classes will fill the gradients of weight and bias."""
        self._features, self._layer = features, layer
        values = (features, layer.weight, layer.bias, layer.scale)
        whole = torch.empty_like if dense else torch.zeros_like
        makers = (torch.zeros_like, whole, whole, torch.zeros_like)
        self._totals = [
            make(value) if need and value is not None else None
            for make, value, need in zip(makers, values, needed, strict=True)
        ]

    def add(self, slopes: Slopes, part: slice) -> None:
        """Add what a block of classes contributes."""
        self._add_shared(slopes)
        for total, more in zip(self._totals[1:3], slopes[1:3], strict=True):
            if total is not None:
                total[part] = more.to(total.dtype)

    def add_picked(self, columns: Tensor, slopes: Tensor) -> None:
        """Add what the logits of single classes contribute, a class a row at a time."""
        # Summed in the type of the arithmetic before they are rounded to that of the weight.
        columns, mine = self._layer.here(columns)
        slopes = slopes * mine
        touched, place = torch.unique(columns, return_inverse=True)
        sums = [
            None if total is None else self._features.new_zeros(len(touched), *total.shape[1:])
            for total in self._totals[1:3]
        ]
        for column, slope, here in zip(columns.unbind(1), slopes.unbind(1), place.unbind(1), strict=True):
            part = self._layer.take(column, self._features.dtype)
            found = part.own_followed(self._features)[1](slope)
            self._add_shared(found)
            for added, more in zip(sums, found[1:3], strict=True):
                if added is not None:
                    added.index_add_(0, here, more)
        for total, added in zip(self._totals[1:3], sums, strict=True):
            if total is not None and added is not None:
                total.index_add_(0, touched, added.to(total.dtype))

    def result(self) -> list[Tensor]:
        """Return the gradients; an empty tensor where none is needed."""
        features, weight, bias, scale = self._totals
        shard = self._layer.shard
        features = features if features is None else shard.sum(features)
        scale = scale if scale is None else shard.sum(scale)
        nothing = self._features.new_empty
        return [nothing(0) if value is None else value for value in (features, weight, bias, scale)]

    def _add_shared(self, slopes: Slopes) -> None:
        for total, more in zip(self._totals[::3], slopes[::3], strict=True):
            if total is not None:
                total += more
