"""The gradients that a scan adds up, block by block and class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium.linear.layer import Layer


class Gradients:
    """The gradients of features, weight, bias and scale; those of a class are written once, in place."""

    def __init__(self, features: Tensor, layer: Layer, needed: tuple[bool, ...], *, dense: bool) -> None:
        """Start at zero; with `dense`, blocks of classes will fill the gradients of weight and bias."""
        self._features, self._layer, self._needed = features, layer, needed[:4]
        whole = torch.empty_like if dense else torch.zeros_like
        values = (features, layer.weight, layer.bias, layer.scale)
        makers = (torch.zeros_like, whole, whole, torch.zeros_like)
        self._totals = [
            make(value) if need and value is not None else None
            for make, value, need in zip(makers, values, self._needed, strict=True)
        ]

    def follow(self, classes: slice | Tensor, *, own: bool) -> tuple[list[Tensor | None], Tensor]:
        """Return what logits are made of, as leaves of a graph that leads to them, and the logits."""
        part = self._layer.take(classes, self._features.dtype)
        values = (self._features, part.weight, part.bias, part.scale)
        leaves = [
            value.detach().requires_grad_(need) if value is not None else None
            for value, need in zip(values, self._needed, strict=True)
        ]
        features, weight, bias, scale = leaves
        assert features is not None and weight is not None  # only a bias and a scale may be missing
        with torch.enable_grad():
            part = part._replace(weight=weight, bias=bias, scale=scale)
            logits = part.own(features) if own else part.logits(features)
        return leaves, logits

    def add(self, leaves: list[Tensor | None], logits: Tensor, slope: Tensor, part: slice) -> None:
        """Add what a block of classes contributes."""
        features, weight, bias, scale = self._pulled(leaves, logits, slope)
        for total, more in ((self._totals[0], features), (self._totals[3], scale)):
            if total is not None and more is not None:
                total += more
        for total, more in ((self._totals[1], weight), (self._totals[2], bias)):
            if total is not None and more is not None:
                total[part] = more.to(total.dtype)

    def add_picked(self, columns: Tensor, pull: Tensor) -> None:
        """Add what the logits of single classes contribute, a class a row at a time."""
        # Summed in the type of the arithmetic before they are rounded to that of the weight.
        columns, mine = self._layer.here(columns)
        pull = pull * mine
        touched, place = torch.unique(columns, return_inverse=True)
        sums = [
            None if total is None else self._features.new_zeros(len(touched), *total.shape[1:])
            for total in self._totals[1:3]
        ]
        for column, slope, here in zip(columns.unbind(1), pull.unbind(1), place.unbind(1), strict=True):
            leaves, logits = self.follow(column, own=True)
            features, weight, bias, scale = self._pulled(leaves, logits, slope)
            for total, more in ((self._totals[0], features), (self._totals[3], scale)):
                if total is not None and more is not None:
                    total += more
            for total, more in zip(sums, (weight, bias), strict=True):
                if total is not None and more is not None:
                    total.index_add_(0, here, more)
        for total, more in zip(self._totals[1:3], sums, strict=True):
            if total is not None and more is not None:
                total.index_add_(0, touched, more.to(total.dtype))

    def result(self) -> tuple[Tensor | None, ...]:
        """Return the gradients; None where none is needed."""
        features, weight, bias, scale = self._totals
        shard = self._layer.shard
        if shard is not None:
            features = features if features is None else shard.sum(features)
            scale = scale if scale is None else shard.sum(scale)
        return features, weight, bias, scale

    def _pulled(self, leaves: list[Tensor | None], logits: Tensor, slope: Tensor) -> list[Tensor | None]:
        wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        found = iter(torch.autograd.grad(logits, wanted, slope))
        return [next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves]
