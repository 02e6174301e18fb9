"""Spaces of architectures: names of networks, and from a name to the network."""

from __future__ import annotations

import importlib
import itertools
import math
import random
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from criterium._checks import at_least, nearest

SPACES = {
    "resnet": "residual networks of 1 to 3 stages of 1 to 3 blocks, of three kinds, with 4 to 64 channels",
    "mlp": "1 to 4 hidden layers of 16 to 512 units with ReLU",
    "timm:PATTERN": "timm's models whose names match, such as timm:*mobilenet*",
}
"""What ``--space`` takes, with a line about each."""

Shape = tuple[int, ...]

_HIDDEN = (16, 32, 64, 128, 256, 512)
_CHANNELS = (4, 8, 16, 32, 64)
_BLOCKS = (1, 2, 3)
_KINDS = ("basic", "bottleneck", "depthwise")
_MLP = re.compile(r"mlp((?:-[1-9]\d*)+)")
_RESNET = re.compile(rf"resnet-({'|'.join(_KINDS)})((?:-[1-9]\d*x[1-9]\d*)+)")


def draw(space: str, budget: int, seed: int, shape: Shape) -> list[str]:
    """Return the names of `budget` networks of a space, or of all where it has fewer.

    The order depends on the seed alone: a larger budget begins with the networks of a smaller one.

    Raises:
        ValueError: no such space, no network in it, or one that does not fit inputs of this shape.

    Example:
        >>> draw("mlp", 3, 0, (64,))
        ['mlp-128-512-64-16', 'mlp-16-16-512-256', 'mlp-512-512-64-128']

    """
    at_least("budget", budget, 1)
    if space == "mlp":
        names = ["-".join(("mlp", *map(str, widths))) for widths in _tuples(_HIDDEN, 4)]
    elif space == "resnet":
        _need_images("space", space, shape)
        names = _residual_names()
    elif space.startswith("timm:") and space != "timm:":
        _need_images("space", space, shape)
        names = [f"timm:{name}" for name in _timm().list_models(space.removeprefix("timm:"))]
        if not names:
            raise ValueError(f"space: got {space!r}, but timm has no model of such a name")
    else:
        known = ", ".join(SPACES)
        raise ValueError(f"space: got {space!r}, expected one of {known}{nearest(space, SPACES)}")
    random.Random(seed).shuffle(names)
    return names[:budget]


def factory(name: str) -> Callable[[Shape], nn.Module]:
    """Return the function from the shape of an input to the network called `name`.

    Raises:
        ValueError: no network has this name.

    """
    if not (_MLP.fullmatch(name) or _RESNET.fullmatch(name) or re.fullmatch(r"timm:.+", name)):
        raise ValueError(
            f"network: got {name!r}, expected a name like mlp-64-32, resnet-basic-16x2-32x1 (stages of"
            f" channels x blocks, of the kind {' or '.join(_KINDS)}) or timm:resnet18"
        )

    def make(shape: Shape) -> nn.Module:
        return body(name, shape)

    return make


def body(name: str, shape: Shape) -> nn.Module:
    """Return the network called `name`: from standardised inputs (N, *shape) to features (N, F).

    Example:
        >>> body("resnet-basic-8x1-16x2", (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 16])

    """
    if match := _MLP.fullmatch(name):
        return _mlp(math.prod(shape), [int(width) for width in match[1].split("-")[1:]])
    _need_images("network", name, shape)
    if match := _RESNET.fullmatch(name):
        stages = [stage.split("x") for stage in match[2].split("-")[1:]]
        return _resnet(match[1], shape[0], [(int(width), int(blocks)) for width, blocks in stages])
    return _from_timm(name.removeprefix("timm:"), shape)


class Residual(nn.Module):
    """relu(shortcut(x) + layers(x)), where the shortcut is a 1x1 convolution if the shape changes."""

    def __init__(self, kind: str, inputs: int, outputs: int, stride: int) -> None:
        """Make layers of one kind, as ResNet (basic, bottleneck) and MobileNetV2 (depthwise) have them."""
        super().__init__()
        if kind == "basic":
            layers = [*_convolution(inputs, outputs, 3, stride), nn.ReLU()]
            layers += _convolution(outputs, outputs, 3)
        else:
            inner = max(1, outputs // 4) if kind == "bottleneck" else 2 * outputs
            layers = [*_convolution(inputs, inner, 1), nn.ReLU()]
            layers += [*_convolution(inner, inner, 3, stride, inner if kind == "depthwise" else 1), nn.ReLU()]
            layers += _convolution(inner, outputs, 1)
        self.layers = nn.Sequential(*layers)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of the block."""
        features: Tensor = self.relu(self.shortcut(inputs) + self.layers(inputs))
        return features


def _resnet(kind: str, channels: int, stages: Sequence[tuple[int, int]]) -> nn.Sequential:
    """Return a 3x3 convolution, the stages, each at half the size of the one before, and the mean."""
    width = stages[0][0]
    layers: list[nn.Module] = [*_convolution(channels, width, 3), nn.ReLU()]
    for stage, (outputs, blocks) in enumerate(stages):
        for block in range(blocks):
            layers.append(Residual(kind, width, outputs, stride=2 if stage and not block else 1))
            width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _mlp(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for outputs in widths:
        layer = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(outputs)


def _residual_names() -> list[str]:
    names = []
    for kind, widths in itertools.product(_KINDS, _tuples(_CHANNELS, 3)):
        if list(widths) == sorted(widths):  # as is usual, channels do not become fewer
            for blocks in itertools.product(_BLOCKS, repeat=len(widths)):
                stages = (f"{width}x{count}" for width, count in zip(widths, blocks, strict=True))
                names.append("-".join(("resnet", kind, *stages)))
    return names


def _tuples(values: Sequence[int], longest: int) -> list[tuple[int, ...]]:
    lengths = range(1, longest + 1)
    return [each for length in lengths for each in itertools.product(values, repeat=length)]


def _need_images(argument: str, name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"{argument}: {name} needs images, but inputs have the shape {shape}; expected mlp")


def _timm() -> ModuleType:
    try:
        timm: ModuleType = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError(f"space: timm is not installed here (no module named {error.name!r})") from error
    except Exception as error:  # a torchvision that does not fit this torch fails in many ways
        words = next(iter(str(error).splitlines()), "")
        raise ValueError(f"space: timm cannot be imported ({type(error).__name__}: {words})") from error
    return timm


def _from_timm(name: str, shape: Shape) -> nn.Module:
    timm: Any = _timm()
    settings = {"pretrained": False, "num_classes": 0, "in_chans": shape[0]}
    try:
        model: nn.Module = timm.create_model(name, **settings, img_size=shape[1:])
    except TypeError:  # convolutional networks take images of any size, and no such argument
        model = timm.create_model(name, **settings)
    return model
