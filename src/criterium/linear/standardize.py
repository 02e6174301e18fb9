"""The standard deviation of all logits of a batch, which a linear layer has without forming any of them.

The sum of all squared logits is ⟨AᵀA, FᵀF⟩ for the weight with the bias as a last column, A, and the features
with a last column of ones, F: two matrices of the width of the features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from criterium.linear.layer import Layer
from criterium.linear.scan import block_size, blocks


def standardized(layer: Layer, features: Tensor, counts: Tensor) -> Layer:
    """Return the layer with its logits divided by their standard deviation over the rows that count (N,).

    Their mean stays: no loss depends on it.
    """
    if layer.distance or layer.unit or layer.scale is not None:
        raise ValueError("standardize: got True, expected False for a head that is not torch.nn.Linear")
    gram, total = _Gram.apply(layer.weight, layer.bias, layer, block_size(len(features)))  # type: ignore[no-untyped-call]
    # In float64, in which a mean that is large beside the deviation leaves digits enough.
    rows = torch.cat([features, features.new_ones(len(features), 1)], dim=1).double() * counts.unsqueeze(1)
    number = counts.sum() * layer.classes
    mean = (rows.sum(0) @ total) / number.clamp(min=1)
    variance = ((gram * (rows.T @ rows)).sum() - number * mean.square()) / (number - 1).clamp(min=1)
    # Logits that are all equal have nothing to scale; 1 keeps their gradient finite.
    factor = variance.where(variance > 0, torch.ones_like(variance)).rsqrt()
    factor = factor.to(features.dtype)
    if layer.bias is None:
        return layer._replace(scale=factor)
    of_bias = factor if layer.shard is None else layer.shard.spread(factor)
    return layer._replace(scale=factor, bias=layer.bias.to(features.dtype) * of_bias)


class _Gram(torch.autograd.Function):
    """AᵀA and the sum over classes of A, in float64, block by block."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, layer: Layer, size: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, bias)
        ctx.layer, ctx.size = layer, size
        width = weight.shape[1] + 1
        gram = weight.new_zeros(width, width, dtype=torch.float64)
        total = weight.new_zeros(width, dtype=torch.float64)
        for part in blocks(layer, size):
            table = _table(weight, bias, part)
            gram.addmm_(table.T, table)
            total += table.sum(0)
        if layer.shard is not None:
            gram, total = layer.shard.sum(gram), layer.shard.sum(total)
        return gram, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gram: Tensor, total: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias = ctx.saved_tensors
        to_weight = torch.empty_like(weight)
        to_bias = None if bias is None else torch.empty_like(bias)
        for part in blocks(ctx.layer, ctx.size):
            slope = torch.addmm(total, _table(weight, bias, part), gram + gram.T)
            to_weight[part] = slope[:, :-1].to(weight.dtype)
            if to_bias is not None:
                to_bias[part] = slope[:, -1].to(to_bias.dtype)
        return to_weight, to_bias, None, None


def _table(weight: Tensor, bias: Tensor | None, part: slice) -> Tensor:
    last = weight.new_zeros(part.stop - part.start) if bias is None else bias[part]
    return torch.cat([weight[part], last.unsqueeze(1).to(weight.dtype)], dim=1).double()
