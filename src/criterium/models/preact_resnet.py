"""Pre-activation ResNet-18 for small images.

He, Zhang, Ren and Sun, "Identity mappings in deep residual networks", ECCV 2016, with the widths and
the 3x3 stem customary for CIFAR.

*Deviation*: as customary, batch norm and ReLU do not follow the last block.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from criterium.models.layers import convolution, pooled


class PreActBlock(nn.Module):
    """shortcut + conv(relu(BN(conv(relu(BN(x)))))), with a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make the two convolutions; the first one halves the size where it adds channels."""
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.projection = None if stride == 1 else convolution(inputs, outputs, kernel=1, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        active = F.relu(self.norm1(inputs))
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return residual + (inputs if self.projection is None else self.projection(active))


def preact_resnet18(channels: int) -> nn.Sequential:
    """Return four stages of two blocks with 64, 128, 256 and 512 channels, then the mean over positions."""
    layers: list[nn.Module] = [convolution(channels, 64)]
    width = 64
    for outputs in (64, 128, 256, 512):
        layers += [PreActBlock(width, outputs), PreActBlock(outputs, outputs)]
        width = outputs
    return nn.Sequential(*layers, *pooled())
