"""Which layers can be orthogonal, and the parametrisation that makes them so."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from criterium.techniques.orthogonal.maps import METHODS

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LARGEST = 8192  # a gigabyte for a matrix of this size, its gradient, momentum and image, in float32


class RotatedNeurons(nn.Module):
    """The parametrisation: from the trained matrix R (k, k) to the weight (neurons, ...) of a layer.

    `neurons` (neurons, fan_in) are fixed; `axes` (k,) are those of the fan-in that turn, None for all.
    """

    neurons: Tensor
    axes: Tensor | None

    def __init__(self, method: str, shape: torch.Size, neurons: Tensor, axes: Tensor | None) -> None:
        """Keep the neurons."""
        super().__init__()
        self.method, self.shape = method, shape
        self.register_buffer("neurons", neurons)
        self.register_buffer("axes", axes)

    def rotation(self, free: Tensor) -> Tensor:
        """Return the matrix that turns the neurons, in float32 at least."""
        return METHODS[self.method](free.to(torch.promote_types(free.dtype, torch.float32)))

    def forward(self, free: Tensor) -> Tensor:
        """Return the weight."""
        with torch.autocast(free.device.type, enabled=False):
            rotation = self.rotation(free)
            neurons = self.neurons.to(rotation.dtype)
            if self.axes is None:
                turned = neurons @ rotation.T
            else:
                turned = neurons.index_copy(1, self.axes, neurons[:, self.axes] @ rotation.T)
        return turned.to(free.dtype).view(self.shape)

    def start(self, size: int, generator: torch.Generator | None) -> Tensor:
        """Return the R that training, or an episode of it, begins with."""
        if self.axes is None and self.method not in ("gradient_descent", "regularised"):
            return torch.randn(size, size, generator=generator, device=device_of(generator))
        return torch.zeros(size, size) if self.method == "cayley" else torch.eye(size)


def rotated_layers(model: nn.Module) -> Iterator[tuple[nn.Module, RotatedNeurons, nn.Parameter]]:
    """Yield each orthogonal layer with its parametrisation and its trained matrix."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer, "weight"):
            steps = cast(nn.ModuleDict, layer.parametrizations)["weight"]
            if isinstance(steps[0], RotatedNeurons):  # type: ignore[index]  # it is a ModuleList
                yield layer, steps[0], cast(nn.Parameter, steps.original)  # type: ignore[index]


def plain_layers(model: nn.Module, stochastic: float | None) -> dict[str, nn.Module]:
    """Return the layers to make orthogonal, by name; raise a `ValueError` where that cannot be."""
    already = {id(layer) for layer, _, _ in rotated_layers(model)}
    chosen: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, _LAYERS):
            continue
        shown = repr(name or type(layer).__name__)
        if id(layer) in already:
            raise ValueError(f"model: its layer {shown} is orthogonal already, expected a plain one: fold it")
        weight = layer._parameters.get("weight")
        if weight is None:
            raise ValueError(
                f"model: the weight of its layer {shown} is computed by another parametrisation, expected a"
                " plain parameter"
            )
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"model: its layer {shown} has no size yet, expected one that has seen a batch")
        fan_in = weight.shape[1:].numel()
        if not weight.requires_grad or fan_in < 2:
            continue
        if (size := matrix_size(fan_in, stochastic)) > _LARGEST:
            share = math.floor(1000 * _LARGEST / fan_in) / 1000
            raise ValueError(
                f"model: its layer {shown} has a fan-in of {fan_in}, which takes a matrix of {size}x{size};"
                f" expected at most {_LARGEST}, or stochastic={share} or less"
            )
        chosen[name] = layer
    if not chosen:
        raise ValueError(
            f"model: got {type(model).__name__} without a layer that can be orthogonal, expected a linear or"
            " convolutional one with a trainable weight and a fan-in of at least 2"
        )
    _refuse_shared(model, chosen)
    return chosen


def _refuse_shared(model: nn.Module, chosen: Container[str]) -> None:
    first: dict[int, tuple[str, str]] = {}
    for name, module in model.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is not None:
                other, its = first.setdefault(id(parameter), (name, own))
                if (other, its) != (name, own) and (name in chosen or other in chosen):
                    raise ValueError(f"model: {other}.{its} and {name}.{own} are one parameter, expected two")


def matrix_size(fan_in: int, stochastic: float | None) -> int:
    """Return the size of the matrix that a layer of this fan-in takes."""
    return fan_in if stochastic is None else min(fan_in, max(2, round(stochastic * fan_in)))


def random_axes(fan_in: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Return which axes turn, in their order."""
    order = torch.randperm(fan_in, generator=generator, device=device_of(generator))
    return order[:size].sort().values


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return where `generator` draws."""
    return torch.device("cpu") if generator is None else generator.device
