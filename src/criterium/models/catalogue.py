"""The names of the models, kept apart so that listing them imports nothing."""

from __future__ import annotations

MODELS = {
    "linear": "the standardised inputs themselves, so that the output layer is a linear classifier",
    "mlp": "two hidden layers of 256 with ReLU",
    "cnn": "three convolutions of 32, 64 and 128 channels with batch norm, ReLU and pooling",
    "resnet20": "ResNet of 20 layers for small images, shortcuts without parameters (He et al. 2016)",
    "preact-resnet18": "pre-activation ResNet of 18 layers, 3x3 stem, 64 to 512 channels (He et al. 2016b)",
}
"""What ``model=`` takes besides a Python path ``pkg.module:factory``, with a line about each."""
