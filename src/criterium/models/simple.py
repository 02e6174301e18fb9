"""Bodies without a paper: a multilayer perceptron and a small convolutional network."""

from __future__ import annotations

from torch import nn

from criterium.models.layers import convolution, linear, pooled


def mlp(inputs: int) -> nn.Sequential:
    """Return two hidden layers of 256 with ReLU, on flattened inputs."""
    return nn.Sequential(nn.Flatten(), linear(inputs, 256), nn.ReLU(), linear(256, 256), nn.ReLU())


def cnn(channels: int) -> nn.Sequential:
    """Return three convolutions of 32, 64 and 128 channels, each at half the size of the one before."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 32), (32, 64), (64, 128)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        layers += [convolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, *pooled())
