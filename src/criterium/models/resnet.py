"""ResNet-20 for small images.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from criterium.models.layers import convolution, pooled


class Block(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x)))))), with a shortcut that has no parameters (option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the two convolutions; the first one halves the size where it adds channels."""
        super().__init__()
        self.added = outputs - inputs
        self.conv1 = convolution(inputs, outputs, stride=2 if self.added else 1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(inputs)))))
        return F.relu(residual + (_widened(inputs, self.added) if self.added else inputs))


def _widened(inputs: Tensor, added: int) -> Tensor:
    # Every other pixel; the new channels, half before and half after the others, are zero.
    return F.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, added // 2, added - added // 2))


def resnet20(channels: int) -> nn.Sequential:
    """Return three stages of three blocks with 16, 32 and 64 channels, then the mean over positions."""
    layers: list[nn.Module] = [convolution(channels, 16), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for outputs in (16, 32, 64):
        layers += [Block(width, outputs), Block(outputs, outputs), Block(outputs, outputs)]
        width = outputs
    return nn.Sequential(*layers, *pooled())
