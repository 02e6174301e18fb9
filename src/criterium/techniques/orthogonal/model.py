"""Orthogonal training put on a model, looked after, and taken off."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from criterium._checks import choice
from criterium.techniques.orthogonal.layers import (
    RotatedNeurons,
    device_of,
    matrix_size,
    plain_layers,
    random_axes,
    rotated_layers,
)
from criterium.techniques.orthogonal.maps import METHODS

Model = TypeVar("Model", bound=nn.Module)


def apply(
    model: Model, method: str, *, stochastic: float | None = None, generator: torch.Generator | None = None
) -> Model:
    """Make the linear and convolutional layers of `model` orthogonal, in place, and return it.

    Their weights are replaced: the neurons are drawn from N(0, 2/fan_in) and not trained. In their place
    ``layer.parametrizations.weight.original`` is, a square matrix of the fan-in's size, which starts from
    N(0, 1); so make the optimiser afterwards. Layers whose weight is frozen or has a fan-in of 1 are left
    as they are, and so are all other parameters. The groups of a grouped convolution share one matrix.

    What each method asks of the training loop:

    - ``"cayley"``, ``"gram_schmidt"``, ``"householder"``, ``"lowdin"``: nothing; any optimiser does.
    - ``"gradient_descent"``: `RotationDescent` for `rotations(model)`, another optimiser for the rest. It
      starts at the identity.
    - ``"regularised"``: `penalty` added to the loss. It starts at the identity and is orthogonal only as
      far as the penalty keeps it so. Without normalisation layers it takes a smaller learning rate than
      the others: 0.1 diverges on two layers of 256, 0.03 does not.

    Args:
        model: a layer, or a module that holds some, on any device.
        method: how the matrix is kept orthogonal.
        stochastic: train this share of each fan-in's axes at a time, drawn at random and anew with each
            `next_episode`; None trains all of them.
        generator: of what is drawn; None takes PyTorch's own.

    Returns:
        `model`. Its `state_dict` holds the fixed neurons too.

    Raises:
        ValueError: an unknown method, a share outside (0, 1], a model without such layers or with one that
            is orthogonal already, shares its weight, or has a fan-in above 8192 where all of it is trained.

    Example:
        >>> import torch
        >>> model = apply(torch.nn.Conv2d(3, 8, 3), "gram_schmidt")
        >>> tuple(model.weight.shape), tuple(model.parametrizations.weight.original.shape)
        ((8, 3, 3, 3), (27, 27))

    """
    choice("method", method, METHODS)
    if stochastic is not None and not (type(stochastic) in (int, float) and 0 < stochastic <= 1):
        raise ValueError(f"stochastic: got {stochastic!r}, expected None or a share above 0, at most 1")
    for layer in plain_layers(model, stochastic).values():
        _turn(layer, method, stochastic, generator)
    return model


def fold(model: Model) -> Model:
    """Return a copy of `model` with plain weights and the same outputs; `model` stays as it is.

    Raises:
        ValueError: no layer of `model` is orthogonal.

    Example:
        >>> import torch
        >>> plain = fold(apply(torch.nn.Linear(4, 2), "lowdin"))
        >>> type(plain).__name__, tuple(plain.weight.shape)
        ('Linear', (2, 4))

    """
    _require(model)
    plain = copy.deepcopy(model)
    for layer, _, free in list(rotated_layers(plain)):
        free.grad = None  # of another shape than the weight's
        # PyTorch's copies share the class that computes the weight, and removing it takes that apart.
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        parametrize.remove_parametrizations(layer, "weight")
    return plain


@torch.no_grad()
def next_episode(model: nn.Module, generator: torch.Generator | None = None) -> list[nn.Parameter]:
    """Begin the next episode of stochastic training: keep the weights and draw the axes to turn anew.

    What the matrices have done is folded into the fixed neurons, and they start again from the identity.
    The authors make 400 episodes of 750 updates.

    Args:
        model: from ``apply(model, method, stochastic=...)``.
        generator: of the axes; it is to agree between processes.

    Returns:
        The matrices that were reset; set the momentum that the optimiser keeps of them to zero.

    Raises:
        ValueError: no layer of `model` is trained stochastically.

    Example:
        >>> import torch
        >>> model = apply(torch.nn.Linear(8, 3), "gram_schmidt", stochastic=0.25)
        >>> before = model.weight
        >>> [tuple(matrix.shape) for matrix in next_episode(model)], torch.allclose(model.weight, before)
        ([(2, 2)], True)

    """
    found = []
    for layer, rotated, free in rotated_layers(model):
        if rotated.axes is None:
            continue
        weight = cast(Tensor, layer.weight).flatten(1)
        fan_in, size = weight.shape[1], len(rotated.axes)
        rotated.axes.copy_(random_axes(fan_in, size, generator))
        free.copy_(rotated.start(size, None))
        # Householder's reflections of the identity are not the identity: the neurons make up for it.
        turned = weight[:, rotated.axes] @ rotated.rotation(free).to(weight.dtype)
        rotated.neurons.copy_(weight.index_copy(1, rotated.axes, turned))
        found.append(free)
    if not found:
        raise ValueError("model: got one without a stochastic layer, expected apply(model, ..., stochastic=)")
    return found


def rotations(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained matrices, one a layer; raise a `ValueError` where there are none.

    Example:
        >>> [tuple(matrix.shape) for matrix in rotations(apply(nn.Linear(4, 2), "cayley"))]
        [(4, 4)]

    """
    _require(model)
    return [free for _, _, free in rotated_layers(model)]


def penalty(model: nn.Module, coefficient: float = 0.1) -> Tensor:
    """Return what ``method="regularised"`` adds to the loss: coefficient · Σ over layers of ‖RRᵀ − I‖_F.

    Raises:
        ValueError: no layer of `model` is regularised.

    Example:
        >>> penalty(apply(nn.Linear(4, 2), "regularised"))
        tensor(0., grad_fn=<MulBackward0>)

    """
    found = [(rotated, free) for _, rotated, free in rotated_layers(model) if rotated.method == "regularised"]
    if not found:
        raise ValueError("model: got one without a regularised layer, expected apply(model, 'regularised')")
    with torch.autocast(found[0][1].device.type, enabled=False):
        return coefficient * torch.stack([torch.linalg.matrix_norm(_gap(*pair)) for pair in found]).sum()


@torch.no_grad()
def orthogonality_error(model: nn.Module) -> float:
    """Return the largest entry, over all layers, of |QQᵀ − I|; raise a `ValueError` where there is none.

    Example:
        >>> orthogonality_error(apply(nn.Linear(4, 2), "householder")) < 1e-6
        True

    """
    _require(model)
    return max(
        float(_gap(rotated, free, exactly=True).abs().max()) for _, rotated, free in rotated_layers(model)
    )


def _gap(rotated: RotatedNeurons, free: Tensor, *, exactly: bool = False) -> Tensor:
    rotation = rotated.rotation(free)
    rotation = rotation.double() if exactly else rotation
    return rotation @ rotation.T - torch.eye(len(rotation), dtype=rotation.dtype, device=rotation.device)


def _require(model: nn.Module) -> None:
    if next(rotated_layers(model), None) is None:
        raise ValueError("model: got one without an orthogonal layer, expected one from apply(model, ...)")


def _turn(layer: nn.Module, method: str, stochastic: float | None, generator: torch.Generator | None) -> None:
    weight = cast(Tensor, layer.weight)
    fan_in = weight.shape[1:].numel()
    size = matrix_size(fan_in, stochastic)
    drawn = torch.randn(len(weight), fan_in, generator=generator, device=device_of(generator))
    axes = None if stochastic is None else random_axes(fan_in, size, generator).to(weight.device)
    rotated = RotatedNeurons(method, weight.shape, drawn.mul_((2 / fan_in) ** 0.5).to(weight), axes)
    free = rotated.start(size, generator).to(weight)
    layer.weight = nn.Parameter(free)
    # Unsafe: the parameter has another shape than the weight.
    parametrize.register_parametrization(layer, "weight", rotated, unsafe=True)
