"""Which operation saves a tensor for its backward pass, and what that operation needs of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = tuple(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))
_POOLS = tuple(f"{a}{k}_pool{d}d" for a in ("", "adaptive_") for k in ("max", "avg") for d in (1, 2, 3))
_PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mul", "__mul__", "__rmul__", "multiply")

KINDS: dict[str, str] = {
    # The gradient is linear in what was saved, so noise of mean zero leaves its mean alone.
    **dict.fromkeys((*_CONVOLUTIONS, "linear"), "layer"),
    **dict.fromkeys(_PRODUCTS, "product"),
    # Almost linear: products of the noise with itself are averaged over many numbers.
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"), "norm"),
    # Not linear, but smooth: the noise leaves a bias of second order, kept small by more bits.
    **dict.fromkeys(("gelu", "silu", "mish", "elu", "selu", "celu", "hardswish"), "smooth"),
    # One bit a number says all that the gradient needs.
    **dict.fromkeys(("relu", "relu_", "leaky_relu", "leaky_relu_"), "sign"),
    "relu6": "inside",
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), "dropout"),
    # The gradient depends on the shape, and for a maximum on its saved place.
    **dict.fromkeys(_POOLS, "pool"),
}
"""The operations known here, by the name of their function; what others save is kept as it is."""

# What stands between a parameter and a tensor that holds the same numbers: views, and autocast's casts.
_SAME_NUMBERS = {
    f"{name}Backward0"
    for name in ("T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Alias", "ToCopy")
}


class Operation:
    """The call of a PyTorch function that is running: its name, kind and arguments."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Look the function up by its name."""
        self.name: str = getattr(function, "__name__", "")
        self.kind = KINDS.get(self.name)
        self._args, self._kwargs = args, kwargs

    def _argument(self, place: int, name: str) -> Any:
        return self._args[place] if len(self._args) > place else self._kwargs.get(name)

    def is_weight(self, tensor: Tensor) -> bool:
        """Say whether `tensor` is this layer's weight: itself, a view, or a copy of another type."""
        if self.kind != "layer":
            return False
        weight, inputs = self._argument(1, "weight"), self._argument(0, "input")
        same: bool = tensor.untyped_storage()._cdata == weight.untyped_storage()._cdata
        return same or tensor.numel() == weight.numel() != inputs.numel()

    def sensitivity(self, inputs: Tensor) -> float:
        """Return what a squared range over a group counts for in this layer's gradient.

        The number of places of the kernel over 4, over the groups of channels and over the number of pixels.
        """
        weight = self._argument(1, "weight") if self.kind == "layer" else None
        places = math.prod(weight.shape[2:]) if weight is not None else 1
        groups = self._argument(6, "groups") or 1 if self.name.startswith("conv") else 1
        pixels = math.prod(inputs.shape[2:])
        return places / 4 / groups / max(1, pixels)


class Watch(TorchFunctionMode):
    """Tells of each PyTorch function that is called, since a hook does not learn who saves a tensor."""

    def __init__(self, call: Callable[..., Any]) -> None:
        """Take what is called in place of each function, with the function, its arguments and keywords."""
        super().__init__()
        self._call = call

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let the compiler trace what it compiles as if nobody watched."""
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        return self._call(func, args, kwargs or {})


def is_parameter(tensor: Tensor) -> bool:
    """Say whether `tensor` is a parameter, another leaf with a gradient, or a view or cast of one."""
    base = tensor if tensor._base is None else tensor._base
    if isinstance(base, nn.Parameter) or (base.is_leaf and base.requires_grad):
        return True
    node = tensor.grad_fn
    while node is not None and node.name() in _SAME_NUMBERS:
        node = node.next_functions[0][0]
    return node is not None and node.name() == "torch::autograd::AccumulateGrad"


def in_parametrization() -> bool:
    """Say whether a weight is being computed, whose factors are no activations."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename != parametrize.__file__:
        frame = frame.f_back
    return frame.f_code.co_filename == parametrize.__file__


def under_compilation() -> bool:
    """Say whether a function given to torch.compile is running, its parts left to Python included."""
    # There `torch.compiler.is_compiling()` is false, and what the compiler makes of the rest is wrong.
    return torch.compiler.is_compiling() or bool(torch._C._dynamo.eval_frame.get_eval_frame_callback())
