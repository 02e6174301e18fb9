"""Synaptic flow and FLOPs of a network, neither of which needs data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from criterium.techniques.architecture.codes import rectified

_NORMS = frozenset(("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm"))
_TINY = 1e-300


def synflow_and_flops(model: nn.Module, batch: Tensor) -> tuple[float, int]:
    """Return log Σ |θ ∂R/∂θ| and the FLOPs of one row; `model` is changed, so hand over a copy.

    R is the sum of the outputs for an input of ones, with every weight replaced by its absolute value, biases
    by zero, and norms and rectifiers by the identity: a sum over all paths through the network of the product
    of their weights. FLOPs are those of convolutions and matrix products, two for a multiplication and an
    addition, as `torch.utils.flop_counter.FlopCounterMode` counts them.
    """
    model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if "bias" in name.rpartition(".")[2] else parameter.abs_()
    # Bytes of an image become numbers in the model; other integers are indices and stay such.
    numbers = batch.is_floating_point() or batch.dtype == torch.uint8
    ones = torch.ones_like(batch[:1], dtype=torch.float64 if numbers else batch.dtype)
    flow, flops = _flow(model, ones)
    if not math.isfinite(flow) and numbers:
        # R is proportional to the input, and its gradients to what they start from: tiny ones on both
        # sides make room for another 300 decades.
        return _log(_flow(model, ones * _TINY, _TINY)[0]) - 2 * math.log(_TINY), flops
    return _log(flow), flops


def _flow(model: nn.Module, ones: Tensor, start: float = 1.0) -> tuple[float, int]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad(), _Linear():
        with FlopCounterMode(display=False) as counter:
            outputs = model(ones)
        ends = [
            leaf.sum() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.requires_grad
        ]
        starts = [torch.full_like(end, start) for end in ends]
        gradients = torch.autograd.grad(ends, parameters, starts, allow_unused=True)
    flows = [
        (parameter.detach() * gradient).abs().sum()
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    ]
    return float(torch.stack(flows).sum()), counter.get_total_flops()


def _log(value: float) -> float:
    # No path from the input to the outputs gives zero.
    return -math.inf if value == 0 else math.log(value)


class _Linear(TorchFunctionMode):
    """Norms and rectifiers pass their inputs on."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        inputs = rectified(func, args, kwargs or {})
        if inputs is None and getattr(func, "__name__", "") in _NORMS:
            inputs = args[0] if args else (kwargs or {})["input"]
        # A copy: what follows may change it in place, and the input may be needed again.
        return func(*args, **(kwargs or {})) if inputs is None else inputs.clone()
