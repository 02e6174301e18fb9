"""What the built-in bodies share: layers and their initialisation."""

from __future__ import annotations

from torch import nn


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, padded to keep the size, initialised after He et al. (2015)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with zero bias, initialised after He et al. (2015)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def pooled() -> tuple[nn.Module, nn.Module]:
    """Return the layers that average over all positions, (N, C, H, W) to (N, C)."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
