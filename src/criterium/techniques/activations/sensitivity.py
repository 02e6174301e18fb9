"""How much each layer and sample suffers from rounding, and what bits they get for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from criterium.techniques.activations.bits import allocate
from criterium.techniques.activations.quantise import even_group, to_groups


@dataclass
class Layer:
    """What is known of one call of a layer, from pass to pass."""

    bits: float
    ranges: Tensor | None = None
    features: int = 0
    gradient: Tensor | None = None

    def observe(self, gradient: Tensor) -> None:
        """Keep the mean over samples of the squared norm of the gradient of the layer's output."""
        self.gradient = gradient.detach().float().square().sum() / max(1, len(gradient))

    def share(self, rows: Tensor, sensitivity: float) -> Tensor:
        """Return bits for each row (sample), their mean at most the layer's; remember the rows' ranges."""
        groups = to_groups(rows, size := even_group(rows.shape[1])).float()
        squared = (groups.amax(1) - groups.amin(1)).square().view(len(rows), -1).sum(1)
        self.ranges, self.features = squared * (size * sensitivity), rows.shape[1]
        return allocate(self.ranges, self.bits * len(rows))


@dataclass
class Layers:
    """The layers of a model, told apart by their place in the forward pass."""

    bits: int
    _known: dict[tuple[object, ...], Layer] = field(default_factory=dict)
    _now: list[Layer] = field(default_factory=list)

    def begin(self) -> None:
        """Before a forward pass: share the bits out among the layers of the last one.

        The layer's mean over its samples of what they would get if all samples of all layers shared.
        """
        seen = [layer for layer in self._now if layer.ranges is not None and layer.gradient is not None]
        self._now = []
        if not seen:
            return
        costs = [(layer.ranges * layer.gradient).cpu() for layer in seen]  # type: ignore[operator]
        sizes = torch.cat(
            [torch.full((len(cost),), float(layer.features)) for cost, layer in zip(costs, seen, strict=True)]
        )
        shared = allocate(torch.cat(costs), self.bits * float(sizes.sum()), sizes)
        start = 0
        for cost, layer in zip(costs, seen, strict=True):
            layer.bits = float(shared[start : start + len(cost)].float().mean())
            start += len(cost)

    def call(self, name: str, shape: torch.Size) -> Layer:
        """Return the layer that is called now, on inputs of `shape`."""
        key = (len(self._now), name, *shape[1:])
        layer = self._known.setdefault(key, Layer(self.bits))
        self._now.append(layer)
        return layer

    def last_bits(self) -> float:
        """Return the bits of the layer called last, which those of the normalisation after it follow."""
        return self._now[-1].bits if self._now else self.bits
