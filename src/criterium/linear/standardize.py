"""The standard deviation of all logits of a batch, which a linear layer has without forming any of them.

The sum of all squared logits is ⟨AᵀA, FᵀF⟩ for the weight with the bias as a last column, A, and the features
with a last column of ones, F: two matrices of the width of the features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from criterium.linear.output_layer import OutputLayer
from criterium.linear.scan import block_size, blocks
from criterium.linear.sharded import Shard


def standardized(layer: OutputLayer, features: Tensor, counting: Tensor | None) -> OutputLayer:
    """Return the layer with its logits divided by their standard deviation over the rows that count (N,).

    Their mean stays: no loss depends on it. Classes with a bias of minus infinity, and rows with features
    that are not finite, are no part of it.
    """
    if layer.distance or layer.unit or layer.scale is not None:
        raise ValueError("standardize: got True, expected False for a head that is not torch.nn.Linear")
    finite = features.isfinite().all(dim=1)
    counts = (finite if counting is None else finite & counting).to(features)
    features = features.where(finite.unsqueeze(1), 0)
    gram, total = _gram(layer.weight, layer.bias, layer.shard.group, block_size(features))
    # In float64, in which a mean that is large beside the deviation leaves digits enough.
    rows = torch.cat([features, features.new_ones(len(features), 1)], dim=1).double() * counts.unsqueeze(1)
    classes = rows.new_tensor(layer.classes)
    if layer.bias is not None:
        classes = layer.shard.sum(layer.bias.isfinite().sum().double())
    number = counts.sum() * classes
    mean = (rows.sum(0) @ total) / number.clamp(min=1)
    variance = ((gram * (rows.T @ rows)).sum() - number * mean.square()) / (number - 1).clamp(min=1)
    # Logits that are equal but for rounding have nothing to scale; 1 keeps their gradient finite.
    rounding = max(8 * torch.finfo(features.dtype).eps, 1e-7)
    constant = variance.detach() <= (rounding * mean.detach()).square().clamp(min=1e-60)
    factor = variance.where(~constant, 1).rsqrt().to(features.dtype)
    if layer.bias is None:
        return layer._replace(scale=factor)
    bias = layer.bias.to(features.dtype)
    known = bias.isfinite()
    return layer._replace(
        scale=factor, bias=(bias.where(known, 0) * layer.shard.spread(factor)).where(known, bias)
    )


@torch.library.custom_op("criterium::linear_gram", mutates_args=())
def _gram(weight: Tensor, bias: Tensor | None, group: str, size: int) -> tuple[Tensor, Tensor]:
    """Return AᵀA and the sum over classes of A, in float64, block by block."""
    width = weight.shape[1] + 1
    gram = weight.new_zeros(width, width, dtype=torch.float64)
    total = weight.new_zeros(width, dtype=torch.float64)
    for part in blocks(OutputLayer(weight), size):
        table = _table(weight, bias, part)
        gram.addmm_(table.T, table)
        total += table.sum(0)
    shard = Shard(group, 0, 0)
    return shard.sum(gram), shard.sum(total)


@_gram.register_fake
def _(weight: Tensor, bias: Tensor | None, group: str, size: int) -> tuple[Tensor, Tensor]:
    width = weight.shape[1] + 1
    gram = weight.new_empty(width, width, dtype=torch.float64)
    return gram, torch.empty_like(gram[0])


@torch.library.custom_op("criterium::linear_gram_backward", mutates_args=())
def _gram_backward(
    weight: Tensor, bias: Tensor | None, gram: Tensor, total: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias; that of a missing bias is empty."""
    to_weight, to_bias = _like(weight, bias)
    for part in blocks(OutputLayer(weight), size):
        slope = torch.addmm(total, _table(weight, bias, part), gram + gram.T)
        if bias is not None:
            slope = slope * bias[part].isfinite().unsqueeze(1)
        to_weight[part] = slope[:, :-1].to(weight.dtype)
        if bias is not None:
            to_bias[part] = slope[:, -1].to(to_bias.dtype)
    return to_weight, to_bias


@_gram_backward.register_fake
def _(weight: Tensor, bias: Tensor | None, gram: Tensor, total: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return _like(weight, bias)


def _like(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weight), weight.new_empty(0) if bias is None else torch.empty_like(bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.size = inputs[3]


def _gradients(ctx: Any, gram: Tensor, total: Tensor) -> tuple[Tensor | None, ...]:
    weight, bias = ctx.saved_tensors
    to_weight, to_bias = _gram_backward(weight, bias, gram, total, ctx.size)
    return to_weight, None if bias is None else to_bias, None, None


_gram.register_autograd(_gradients, setup_context=_keep)


def _table(weight: Tensor, bias: Tensor | None, part: slice) -> Tensor:
    last = weight.new_zeros(part.stop - part.start) if bias is None else bias[part]
    table = torch.cat([weight[part], last.unsqueeze(1).to(weight.dtype)], dim=1).double()
    return table if bias is None else table.where(last.isfinite().unsqueeze(1), 0)
