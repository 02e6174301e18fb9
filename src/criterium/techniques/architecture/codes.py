"""The codes that a network's rectifiers give to inputs, and how far the codes of two inputs agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

RECTIFIERS = {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu"}
RECTIFIERS |= {"gelu", "silu", "mish", "hardswish"}
"""PyTorch's names of the activations that pass positive inputs on and shrink negative ones."""

_FLOORS = {
    "clamp": "min",
    "clip": "min",
    "clamp_min": "min",
    "hardtanh": "min_val",
    "threshold": "threshold",
}
"""Functions that rectify if this argument, their second, is zero."""

_EXACT = 2**24
"""Sums of that many ones are exact in float32, and in TF32 too, which rounds factors but not sums."""


@dataclass(frozen=True)
class Codes:
    """Agreement of the codes of all rectifiers in a forward pass.

    `kernel`, (N, N) in float64, holds for each pair of rows in how many units the codes agree; `units` is
    the length of a code and `rectifiers` the number of calls that it was read off.
    """

    kernel: Tensor
    units: int
    rectifiers: int


def read_codes(model: nn.Module, batch: Tensor) -> Codes:
    """Return the codes of `batch` in a forward pass of `model`, in the modes that its modules are in.

    The code of a row is 1 where the input of a rectifier is positive, else 0. A rectifier counts if a
    gradient of the outputs would pass it, which the autograd graph tells without a backward pass.

    Raises:
        ValueError: no rectifier counts, or outputs are not finite.

    """
    with torch.enable_grad(), _Recorder(len(batch)) as recorder:
        inputs = batch.detach().clone()
        # A rectifier of the inputs themselves counts too.
        outputs = model(inputs.requires_grad_() if inputs.is_floating_point() else inputs)
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    if not all(bool(leaf.isfinite().all()) for leaf in leaves):
        raise ValueError(f"model: got {type(model).__name__}, whose outputs on the batch are not finite")
    reached = _reached([leaf.grad_fn for leaf in leaves])
    counted = [call for call in recorder.calls if call[2] in reached]
    if not counted:
        raise ValueError(
            f"model: got {type(model).__name__} without a rectifier that a gradient passes, expected ReLU,"
            " GELU, SiLU or one of their kin, as a module or as PyTorch's own function"
        )
    kernel = torch.stack([kernel for kernel, _, _ in counted]).sum(0)
    return Codes(kernel, sum(units for _, units, _ in counted), len(counted))


def agreement(inputs: Tensor, rows: int) -> tuple[Tensor, int]:
    """Return b bᵀ + (1 − b)(1 − b)ᵀ for b = `inputs` > 0, a code each row, and the length of a code.

    Example:
        >>> agreement(torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, 3.0]]), rows=2)
        (tensor([[3., 2.],
                [2., 3.]], dtype=torch.float64), 3)

    """
    # With signs s = 2b − 1 it is (units + s sᵀ) / 2: one product in place of two.
    signs = (inputs.detach() > 0).reshape(rows, -1).float().mul_(2).sub_(1)
    units = signs.shape[1]
    kernel = torch.full((rows, rows), float(units), dtype=torch.float64, device=inputs.device)
    with torch.autocast(inputs.device.type, enabled=False):
        for part in torch.split(signs, _EXACT, dim=1):
            kernel += part @ part.T
    return kernel / 2, units


def rectified(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the input of a call of a rectifier, and None for any other call.

    Example:
        >>> rectified(torch.clamp, (torch.ones(2),), {"min": 0})
        tensor([1., 1.])
        >>> rectified(torch.clamp, (torch.ones(2),), {"min": -1})

    """
    # relu_, _threshold and the overload relu.default are the same function to us.
    name = getattr(function, "__name__", "").split(".")[0].strip("_")
    if name in _FLOORS:
        floor = args[1] if len(args) > 1 else kwargs.get(_FLOORS[name])
        if not isinstance(floor, int | float) or floor != 0:
            return None
    elif name not in RECTIFIERS:
        return None
    inputs = args[0] if args else kwargs.get("input")
    return inputs if isinstance(inputs, Tensor) and inputs.is_floating_point() else None


class _Recorder(TorchFunctionMode):
    """Reads codes off whatever calls PyTorch's rectifiers, modules and functions alike, each call once."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.calls: list[tuple[Tensor, int, Any]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # PyTorch turns the mode off in here, so that what a rectifier calls in turn is not read again.
        inputs = rectified(func, args, kwargs or {})
        # Windows or tokens may have been moved into the first dimension. What does not divide by the
        # rows, such as a table of positions, says nothing of them.
        if inputs is None or inputs.dim() == 0 or len(inputs) == 0 or len(inputs) % self.rows:
            return func(*args, **(kwargs or {}))
        kernel, units = agreement(inputs, self.rows)  # before a call that may work in place
        output = func(*args, **(kwargs or {}))
        self.calls.append((kernel, units, getattr(output, "grad_fn", None)))
        return output


def _reached(ends: Sequence[Any]) -> set[Any]:
    """Return all nodes of the autograd graph that lead to `ends`."""
    waiting = [end for end in ends if end is not None]
    found = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in found:
                found.add(node)
                waiting.append(node)
    return found
