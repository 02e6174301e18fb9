"""What the scan knows of an output layer: the logits of all rows for some classes, and of each for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from criterium.heads import (
    DisMaxHead,
    IsoMaxHead,
    IsoMaxPlusHead,
    NormalizedLinear,
    directions,
    distances,
)
from criterium.linear.placement import replicated, slices
from criterium.linear.sharded import Shard

Slopes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Derivatives by features, weight, bias and scale."""

Pull = Callable[[Tensor], Slopes]
"""The derivative by some logits, to that by what they are made of."""

Code = tuple[bool, bool, str, int, int]
"""What an operator has to be told of a layer besides its tensors."""


class OutputLayer(NamedTuple):
    """An output layer: scale · f·w_c + b_c, or −scale · ‖f − w_c‖ + b_c."""

    weight: Tensor
    """(C, D), as it is kept; converted block by block."""
    bias: Tensor | None = None
    scale: Tensor | None = None
    """A scalar."""
    distance: bool = False
    unit: bool = False
    """Features and rows of the weight are first set to length 1."""
    held: Shard | None = None
    """Which classes the weight and the bias are of, where other processes hold the others."""

    @property
    def shard(self) -> Shard:
        """Which classes the weight and the bias are of."""
        return self.held or Shard("", 0, len(self.weight))

    @property
    def classes(self) -> int:
        """The number of all classes."""
        return self.shard.classes

    @property
    def first(self) -> int:
        """The first class that is here."""
        return self.shard.first

    @property
    def code(self) -> Code:
        """What `decode` needs besides the tensors."""
        return self.distance, self.unit, *self.shard

    @classmethod
    def decode(cls, weight: Tensor, bias: Tensor | None, scale: Tensor | None, code: Code) -> OutputLayer:
        """Return the layer of these tensors and a code."""
        distance, unit, group, first, classes = code
        return cls(weight, bias, scale, distance, unit, Shard(group, first, classes))

    @property
    def shape_of_row(self) -> Tensor:
        """Something of the shape (1, C), type and device of one row of logits, in no memory."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        return self.weight.new_zeros((), dtype=dtype).expand(1, self.classes)

    def here(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return where in the weight some classes are, 0 for those that are elsewhere, and which are here."""
        local = columns - self.first
        mine = (local >= 0) & (local < len(self.weight))
        return local.where(mine, 0), mine

    def prepared(self, features: Tensor) -> Tensor:
        """Return features (N, D) as `logits` and `own` want them, in float32 at least."""
        dtype = torch.promote_types(torch.promote_types(features.dtype, self.weight.dtype), torch.float32)
        features = features.to(dtype)
        return directions(features) if self.unit else features

    def scaled(self, factor: float) -> OutputLayer:
        """Return the layer with its logits multiplied by `factor`."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        scale = (self.weight.new_ones((), dtype=dtype) if self.scale is None else self.scale) * factor
        return self._replace(scale=scale, bias=None if self.bias is None else self.bias.to(dtype) * factor)

    def shifted(self, shift: Tensor) -> OutputLayer:
        """Return the layer with `shift`, a number for each of all classes, added to its logits."""
        shift = shift[self.first : self.first + len(self.weight)]
        return self._replace(bias=shift if self.bias is None else self.bias + shift)

    def centred(self) -> OutputLayer:
        """Return the layer with its largest bias taken off all: no loss depends on it, but digits do.

        Of a bias that is spread over processes none knows the largest, and it stays.
        """
        if self.bias is None or self.shard.group:
            return self
        bias = self.bias.to(torch.promote_types(self.bias.dtype, torch.float32))
        top = bias.detach().amax()
        # As `losses._logits.from_top`: NaN where no logit is below infinity, or all are at minus infinity.
        return self._replace(bias=bias - (top + (top - top)))

    def logits(self, features: Tensor) -> Tensor:
        """Return (N, C) logits of features (N, D)."""
        return self.followed(features)[0]

    def own(self, features: Tensor) -> Tensor:
        """Return (N,) logits: of each row of the features for the class in the same row of the weight."""
        return self.own_followed(features)[0]

    def followed(self, features: Tensor) -> tuple[Tensor, Pull]:
        """Return `logits`, and the way back from their derivative to that of what they are made of."""
        weight = directions(self.weight) if self.unit else self.weight
        if not self.distance:
            # Of the two factors the features are the smaller.
            scaled = self._scaled(features)
            logits = scaled @ weight.T if self.bias is None else torch.addmm(self.bias, scaled, weight.T)

            def from_product(slope: Tensor) -> Slopes:
                by_features = slope @ weight
                by_scale = (by_features * features).sum()
                return self._slopes(self._scaled(by_features), slope.T @ scaled, slope.sum(0), by_scale)

            return logits, from_product
        distance = distances(features, weight)

        def from_distance(slope: Tensor) -> Slopes:
            # ∂‖f − w‖ = (f − w) / ‖f − w‖
            each = self._each(slope, distance)
            by_features = torch.addmm(features * each.sum(1, keepdim=True), each, weight, alpha=-1)
            by_weight = torch.addmm(weight * each.sum(0).unsqueeze(1), each.T, features, alpha=-1)
            return self._slopes(by_features, by_weight, slope.sum(0), -(slope * distance).sum())

        return self._biased(self._scaled(-distance)), from_distance

    def own_followed(self, features: Tensor) -> tuple[Tensor, Pull]:
        """Return `own`, and the way back."""
        weight = directions(self.weight) if self.unit else self.weight
        if not self.distance:
            product = (features * weight).sum(dim=1)

            def from_product(slope: Tensor) -> Slopes:
                each = self._scaled(slope).unsqueeze(1)
                return self._slopes(each * weight, each * features, slope, (slope * product).sum())

            return self._biased(self._scaled(product)), from_product
        apart = features - weight
        # As in the head: below the least normal number the root is given no slope.
        distance = apart.square().sum(dim=1).clamp_min(torch.finfo(apart.dtype).tiny).sqrt()

        def from_distance(slope: Tensor) -> Slopes:
            by_features = self._each(slope, distance).unsqueeze(1) * apart
            return self._slopes(by_features, -by_features, slope, -(slope * distance).sum())

        return self._biased(self._scaled(-distance)), from_distance

    def _each(self, slope: Tensor, distance: Tensor) -> Tensor:
        apart = distance > torch.finfo(distance.dtype).tiny ** 0.5
        each: Tensor = self._scaled(-slope) / distance * apart
        return each

    def _slopes(self, features: Tensor, weight: Tensor, bias: Tensor, scale: Tensor) -> Slopes:
        if self.unit:  # only what is at right angles to a vector turns it
            length = torch.linalg.vector_norm(self.weight, dim=1, keepdim=True)
            towards = self.weight / length.where(length > 1e-12, 1.0)
            along = (weight * towards).sum(1, keepdim=True)
            weight = torch.addcmul(weight, towards, along, value=-1) / length.where(length > 1e-12, 1.0)
        return features, weight, bias, scale

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.scale is None else values * self.scale

    def _biased(self, logits: Tensor) -> Tensor:
        return logits if self.bias is None else logits + self.bias

    def take(self, classes: slice | Tensor, dtype: torch.dtype) -> OutputLayer:
        """Return the layer of some classes, in the type of the arithmetic."""
        bias = None if self.bias is None else self.bias[classes].to(dtype)
        scale = None if self.scale is None else self.scale.to(dtype)
        return self._replace(weight=self.weight[classes].to(dtype), bias=bias, scale=scale)


class _WithoutForwardMode(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*values: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if value is None else value.view_as(value) for value in values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        return upstream

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> None:
        raise NotImplementedError(
            "criterium.linear: fused losses have no derivative in forward mode, only in reverse mode"
        )


def without_forward_mode(features: Tensor, layer: OutputLayer) -> tuple[Tensor, OutputLayer]:
    """Return both as they are; a tensor with a tangent, which operators would drop, is refused."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return features, layer
    values = features, layer.weight, layer.bias, layer.scale
    features, weight, bias, scale = _WithoutForwardMode.apply(*values)  # type: ignore[no-untyped-call]
    return features, layer._replace(weight=weight, bias=bias, scale=scale)


def linear_layer(weight: Tensor, bias: Tensor | None = None) -> OutputLayer:
    """Return the linear layer of a weight and a bias, of DTensors the classes that this process holds."""
    weight, bias, shard = slices(weight, bias)
    return OutputLayer(weight, bias, held=shard)


def layer_of_head(head: nn.Module) -> OutputLayer:
    """Return the layer that `head` is, but for the mean that DisMax adds: no loss depends on it."""
    if isinstance(head, nn.Linear):
        return linear_layer(head.weight, head.bias)
    if isinstance(head, NormalizedLinear):
        scale = 1 / replicated("temperature", head.temperature)
        return linear_layer(head.prototypes)._replace(scale=scale, unit=True)
    if isinstance(head, IsoMaxPlusHead):
        temperature = replicated("temperature", head.temperature)
        divisor = temperature * (math.sqrt(2) if isinstance(head, DisMaxHead) else 1)
        scale = replicated("distance_scale", head.distance_scale).abs().squeeze(0) / divisor
        return linear_layer(head.prototypes)._replace(scale=scale, distance=True, unit=True)
    if isinstance(head, IsoMaxHead):
        scale = 1 / replicated("temperature", head.temperature)
        return linear_layer(head.prototypes)._replace(scale=scale, distance=True)
    raise ValueError(
        f"head: got {type(head).__name__}, expected torch.nn.Linear or one of criterium.heads"
        " (IsoMaxHead, IsoMaxPlusHead, DisMaxHead, NormalizedLinear)"
    )
