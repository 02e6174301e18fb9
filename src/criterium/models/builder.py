"""From the name of a model to its backbone."""

from __future__ import annotations

import math

from torch import Tensor, nn

from criterium._checks import choice
from criterium.models.backbone import Backbone, Standardize
from criterium.models.catalogue import MODELS
from criterium.models.custom import import_factory, run_factory
from criterium.models.preact_resnet import preact_resnet18
from criterium.models.resnet import resnet20
from criterium.models.simple import cnn, mlp

_CONVOLUTIONAL = {"cnn": (cnn, 128), "resnet20": (resnet20, 64), "preact-resnet18": (preact_resnet18, 512)}
_LEAST_PIXELS = 8


def build(name: str, dataset_shape: tuple[int, ...], center: Tensor, scale: Tensor) -> Backbone:
    """Return the backbone called `name` for inputs of one shape, its weights drawn from torch's generator.

    Args:
        name: one of `MODELS`, or a Python path ``pkg.module:factory`` to a function that takes the shape
            of an input and returns a `torch.nn.Module` from standardised inputs to features (N, F).
        dataset_shape: (C, H, W) of the images or (F,) of the features.
        center: what is subtracted from the inputs, (C, 1, 1) or (F,).
        scale: what they are then divided by.

    Returns:
        The `Backbone`.

    Raises:
        ValueError: for an unknown name, a model that does not fit the inputs, or a factory that fails.

    Example:
        >>> import torch
        >>> from criterium.models import build
        >>> model = build("mlp", (1, 8, 8), torch.tensor([[[0.3]]]), torch.tensor([[[0.4]]]))
        >>> images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
        >>> tuple(model(images).shape), model.out_features
        ((5, 256), 256)
    """
    body, out_features = _body(name, dataset_shape)
    return Backbone(Standardize(center, scale), body, out_features)


def _body(name: str, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    if ":" in name:
        return run_factory(name, import_factory(name), shape)
    choice("model", name, MODELS)
    size = math.prod(shape)
    if name == "linear":
        return nn.Flatten(), size
    if name == "mlp":
        return mlp(size), 256
    if len(shape) != 3:
        fitting = ", ".join(other for other in MODELS if other not in _CONVOLUTIONAL)
        raise ValueError(f"model: {name} needs images but the data holds features, expected one of {fitting}")
    if min(shape[1:]) < _LEAST_PIXELS:
        raise ValueError(
            f"model: {name} got images of {shape[2]}x{shape[1]} pixels, expected at least"
            f" {_LEAST_PIXELS}x{_LEAST_PIXELS}"
        )
    make, out_features = _CONVOLUTIONAL[name]
    return make(shape[0]), out_features
