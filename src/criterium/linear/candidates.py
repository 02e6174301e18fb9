"""The losses of a few classes, as rows of features and an output layer: the plain ones of the strongest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from criterium._checks import at_least
from criterium.linear.layer import Layer
from criterium.linear.parts import Form, Plain, of_few, per_class
from criterium.linear.scan import scan
from criterium.linear.strongest import noised_kth, strongest
from criterium.losses._contract import Rows
from criterium.losses.noised_topk import check_options
from criterium.losses.smooth_topk_svm import topk_svm


def candidates_form(plain: Plain, least: Callable[[dict[str, Any]], int]) -> Form:
    """Return the form of a loss of the true class and the candidates - 1 strongest others."""

    def form(layer: Layer, *, candidates: int | None, **options: Any) -> Rows:
        if candidates is None:
            raise ValueError(
                f"candidates: got None, expected a number: the fused form of {plain.__name__} looks at the"
                " true class and the candidates - 1 strongest others"
            )
        classes = layer.classes
        if at_least("candidates", candidates, least(options)) >= classes:
            raise ValueError(f"candidates: got {candidates}, expected fewer than C = {classes}")

        def rows(features: Tensor, index: Tensor) -> Tensor:
            (picked,) = scan(features, layer, strongest(features, layer, index, candidates))
            return of_few(plain, picked, **options)

        return rows

    return form


def topk_svm_form(layer: Layer, *, k: int, margin: float) -> Rows:
    """Return rows of the top-k SVM, which looks at the true class and the k-th strongest other."""
    return candidates_form(topk_svm, lambda _: 2)(layer, candidates=k + 1, k=k, margin=margin)


def noised_form(
    layer: Layer,
    *,
    k: int,
    epsilon: float,
    margin: float | Tensor,
    scale: float,
    samples: int | None,
    noise: Tensor | None,
    generator: torch.Generator | None,
) -> Rows:
    """Return rows of the noised top-k hinge: one class a sample is the (k+1)-th largest."""
    if samples is None:
        raise ValueError("samples: got None, expected a number: the fused form does not know the expectation")
    if noise is not None:
        raise ValueError("noise: got a tensor, expected None: the fused form draws its own; see generator")
    number = samples
    check_options(k, epsilon, margin, scale, samples)
    if k >= layer.classes:
        raise ValueError(f"k: got {k}, expected at most C - 1 = {layer.classes - 1}")
    if isinstance(margin, Tensor) and margin.dim():
        per_class("margin", margin, layer)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        device = None if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=device)
        chosen, scores = noised_kth(features, layer, k + 1, epsilon, number, seed)
        (picked,) = scan(features, layer, torch.cat([index.unsqueeze(1), chosen], dim=1))
        own, logits = picked[:, 0], picked[:, 1:]
        kth = (logits + (scores - logits.detach())).mean(dim=1)
        gap = margin.to(own)[index] if isinstance(margin, Tensor) and margin.dim() else margin
        losses: Tensor = scale * (gap + kth - own).relu()
        return losses

    return rows
