"""What the forms of the losses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium.linear.fold import Fold
from criterium.linear.layer import Layer
from criterium.linear.scan import scan
from criterium.losses._contract import Rows

Plain = Callable[..., Tensor]
Form = Callable[..., Rows]
"""An output layer and a loss's options to the losses (M,) of features (M, D) and class indices (M,)."""


def cross_entropy(logits: Tensor, target: Tensor, *, reduction: str) -> Tensor:
    """Return cross-entropy."""
    return F.cross_entropy(logits, target, reduction=reduction)


def statistics_of(
    features: Tensor, layer: Layer, index: Tensor, fold: Fold, labels: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the own logits (M,) and the statistics of the fold."""
    picked, *found = scan(features, layer, index.unsqueeze(1), fold, labels=labels)
    return picked.squeeze(1), *found


def of_few(plain: Plain, table: Tensor, **options: Any) -> Tensor:
    """Return the plain loss of (M, n) logits of which the first are the true classes'."""
    first = torch.zeros(len(table), dtype=torch.long, device=table.device)
    losses: Tensor = plain(table, first, reduction="none", **options)
    return losses


def per_class(name: str, values: Tensor, layer: Layer) -> None:
    """Raise a `ValueError` unless there is a value for each class."""
    classes = layer.classes
    if values.shape[-1] != classes:
        raise ValueError(
            f"{name}: got shape {tuple(values.shape)}, expected ({classes},), one number a class"
        )
