"""Models of one's own: a function named by a Python path makes the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from criterium._code import first_line, imported


def import_factory(path: str) -> Callable[..., Any]:
    """Return the function that ``"pkg.module:factory"`` names; raise a `ValueError` where there is none."""
    factory: Callable[..., Any] = imported("model", path, "pkg.module:factory")
    if not callable(factory):
        raise ValueError(f"model: {path} is a {type(factory).__name__}, expected a function of a shape")
    return factory


def run_factory(path: str, factory: Callable[..., Any], shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Return the module that the factory makes and the width of its features, found on two zero inputs."""
    try:
        body = factory(shape)
    except (Exception, SystemExit) as error:
        raise ValueError(f"model: {path}({shape}) raised {first_line(error)}") from error
    if not isinstance(body, nn.Module):
        raise ValueError(f"model: {path}({shape}) is a {type(body).__name__}, expected a torch.nn.Module")
    try:
        features = _dry_run(body, torch.zeros(2, *shape))
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"model: {path} on inputs of shape {(2, *shape)} raised {first_line(error)}"
        ) from error
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2:
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"model: {path} on inputs of shape {(2, *shape)} gave {got}, expected (2, F)")
    return body, features.shape[1]


def _dry_run(body: nn.Module, inputs: Tensor) -> Any:
    """Return the output in eval mode, with modes and random state put back as they were."""
    training = [module for module in body.modules() if module.training]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        output = body.eval()(inputs)
    for module in training:
        module.training = True
    return output
