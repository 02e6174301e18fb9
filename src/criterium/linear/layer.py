"""What the scan knows of an output layer: the logits of all rows for some classes, and of each for one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from criterium.heads import (
    DisMaxHead,
    IsoMaxHead,
    IsoMaxPlusHead,
    NormalizedLinear,
    _directions,
    _distances,
)
from criterium.linear.sharded import Shard


class Layer(NamedTuple):
    """An output layer: scale · f·w_c + b_c, or −scale · ‖f − w_c‖ + b_c."""

    weight: Tensor
    """(C, D), as it is kept; converted block by block."""
    bias: Tensor | None = None
    scale: Tensor | None = None
    """A scalar."""
    distance: bool = False
    unit: bool = False
    """Features and rows of the weight are first set to length 1."""
    shard: Shard | None = None
    """Which classes the weight and the bias are of, where other processes hold the others."""

    @property
    def classes(self) -> int:
        """The number of all classes."""
        return len(self.weight) if self.shard is None else self.shard.classes

    @property
    def first(self) -> int:
        """The first class that is here."""
        return 0 if self.shard is None else self.shard.first

    def here(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return where in the weight some classes are, 0 for those that are elsewhere, and which are here."""
        local = columns - self.first
        mine = (local >= 0) & (local < len(self.weight))
        return local.where(mine, 0), mine

    def prepared(self, features: Tensor) -> Tensor:
        """Return features (N, D) as `logits` and `own` want them, in float32 at least."""
        dtype = torch.promote_types(torch.promote_types(features.dtype, self.weight.dtype), torch.float32)
        features = features.to(dtype)
        return _directions(features) if self.unit else features

    def scaled(self, factor: float) -> Layer:
        """Return the layer with its logits multiplied by `factor`."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        scale = (self.weight.new_ones((), dtype=dtype) if self.scale is None else self.scale) * factor
        return self._replace(scale=scale, bias=None if self.bias is None else self.bias.to(dtype) * factor)

    def shifted(self, shift: Tensor) -> Layer:
        """Return the layer with `shift`, a number for each of all classes, added to its logits."""
        shift = shift[self.first : self.first + len(self.weight)]
        return self._replace(bias=shift if self.bias is None else self.bias + shift)

    def logits(self, features: Tensor) -> Tensor:
        """Return (N, C) logits of features (N, D)."""
        weight = _directions(self.weight) if self.unit else self.weight
        if self.distance:
            return self._biased(self._scaled(-_distances(features, weight)))
        # Of the two factors the features are the smaller.
        features = self._scaled(features)
        return features @ weight.T if self.bias is None else torch.addmm(self.bias, features, weight.T)

    def own(self, features: Tensor) -> Tensor:
        """Return (N,) logits: of each row of the features for the class in the same row of the weight."""
        weight = _directions(self.weight) if self.unit else self.weight
        if not self.distance:
            return self._biased((self._scaled(features) * weight).sum(dim=1))
        squared = (features - weight).square().sum(dim=1)
        # As in the head: below the least normal number the root is given no slope.
        return self._biased(self._scaled(-squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt()))

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.scale is None else values * self.scale

    def _biased(self, logits: Tensor) -> Tensor:
        return logits if self.bias is None else logits + self.bias

    def take(self, classes: slice | Tensor, dtype: torch.dtype) -> Layer:
        """Return the layer of some classes, in the type of the arithmetic."""
        bias = None if self.bias is None else self.bias[classes].to(dtype)
        scale = None if self.scale is None else self.scale.to(dtype)
        return self._replace(weight=self.weight[classes].to(dtype), bias=bias, scale=scale)


def layer_of(head: nn.Module) -> Layer:
    """Return the layer that `head` is, but for the mean that DisMax adds: no loss depends on it."""
    if isinstance(head, nn.Linear):
        return Layer(head.weight, head.bias)
    if isinstance(head, NormalizedLinear):
        return Layer(head.prototypes, scale=1 / head.temperature, unit=True)
    if isinstance(head, IsoMaxPlusHead):
        divisor = head.temperature * (math.sqrt(2) if isinstance(head, DisMaxHead) else 1)
        scale = head.distance_scale.abs().squeeze(0) / divisor
        return Layer(head.prototypes, scale=scale, distance=True, unit=True)
    if isinstance(head, IsoMaxHead):
        return Layer(head.prototypes, scale=1 / head.temperature, distance=True)
    raise ValueError(
        f"head: got {type(head).__name__}, expected torch.nn.Linear or one of criterium.heads"
        " (IsoMaxHead, IsoMaxPlusHead, DisMaxHead, NormalizedLinear)"
    )
