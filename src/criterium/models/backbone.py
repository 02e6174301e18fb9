"""The shell of every model: raw inputs are standardised, then a body makes features of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(x - center) / scale, where bytes 0 to 255 count as 0 to 1.

    `center` and `scale`, (C, 1, 1) for images and (F,) for features, are buffers: they are saved with the
    weights, and their type is the one that inputs are cast to.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor) -> None:
        """Keep the statistics of the training rows."""
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return standardised inputs of the same shape."""
        values = inputs.to(self.center.dtype)
        return ((values / 255 if inputs.dtype == torch.uint8 else values) - self.center) / self.scale


class Backbone(nn.Module):
    """Raw inputs, uint8 images (N, C, H, W) or features (N, F), to features (N, out_features)."""

    def __init__(self, standardize: Standardize, body: nn.Module, out_features: int) -> None:
        """Put `body` behind `standardize`."""
        super().__init__()
        self.standardize = standardize
        self.body = body
        self.out_features = out_features

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of a batch of raw inputs."""
        features: Tensor = self.body(self.standardize(inputs))
        return features
