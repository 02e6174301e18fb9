"""The losses that all classes have a part in, as rows of features and an output layer.

Softmax sees the wrong classes only through the logarithm of their sum of exponentials, so those losses are
the plain ones of two classes: the own logit and that logarithm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium._checks import choice, non_negative, positive
from criterium.linear.folds import Groups, Hinge, Softmax, Spread, Win, ZeroOne
from criterium.linear.layer import Layer
from criterium.linear.parts import Form, Plain, check_by, cross_entropy, of_few, per_class, statistics_of
from criterium.losses import hierarchical_complement as hcot
from criterium.losses._class_counts import check_counts
from criterium.losses._contract import Rows
from criterium.losses.exact import exact_loss
from criterium.losses.hinge import multiclass_hinge
from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.zero_one import zero_one_relaxation


def softmax_form(plain: Plain) -> Form:
    """Return the form of a loss of the true class's probability alone."""

    def form(layer: Layer, **options: Any) -> Rows:
        def rows(features: Tensor, index: Tensor) -> Tensor:
            pair = statistics_of(features, layer, index, Softmax())
            return of_few(plain, torch.stack(pair, dim=1), **options)

        return rows

    return form


def isomax_form(layer: Layer, *, entropic_scale: float) -> Rows:
    """Return rows of IsoMax: cross-entropy of scaled logits."""
    return softmax_form(cross_entropy)(layer.scaled(positive("entropic_scale", entropic_scale)))


def logit_adjusted_form(layer: Layer, *, class_counts: Tensor, tau: float) -> Rows:
    """Return rows of logit adjustment: cross-entropy with another bias."""
    counts = _counts(layer, class_counts)
    return softmax_form(cross_entropy)(
        layer.shifted(non_negative("tau", tau) * (counts / counts.sum()).log())
    )


def ldam_form(layer: Layer, *, class_counts: Tensor, max_margin: float, scale: float) -> Rows:
    """Return rows of LDAM: cross-entropy of scaled logits, with a margin off the own one."""
    counts = _counts(layer, class_counts)
    widest = positive("scale", scale) * non_negative("max_margin", max_margin)
    margins = widest * (counts / counts.amin()).pow(-0.25)
    scaled = layer.scaled(scale)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest = statistics_of(features, scaled, index, Softmax())
        return of_few(cross_entropy, torch.stack([own - margins[index], rest], dim=1))

    return rows


def _counts(layer: Layer, class_counts: Tensor) -> Tensor:
    check_counts(class_counts)
    per_class("class_counts", class_counts, layer)
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    return class_counts.to(device=layer.weight.device, dtype=dtype)


def label_smoothing_form(layer: Layer, *, smoothing: float) -> Rows:
    """Return rows of label smoothing."""
    check_by(label_smoothing_cross_entropy, smoothing=smoothing)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, total, _, _ = statistics_of(features, layer, index, Spread())
        mean = (own + total) / layer.classes
        return of_few(cross_entropy, torch.stack([own, rest], dim=1)) + smoothing * (own - mean)

    return rows


def maxsup_form(layer: Layer, *, alpha: float) -> Rows:
    """Return rows of MaxSup."""
    non_negative("alpha", alpha)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, total, top, ties = statistics_of(features, layer, index, Spread())
        mean = (own + total) / layer.classes
        # Equal largest logits share the gradient.
        others = ties.detach() * (top >= own)
        alone = (own >= top).to(own.dtype)
        largest = (others * top + alone * own) / (others + alone)
        return of_few(cross_entropy, torch.stack([own, rest], dim=1)) + alpha * (largest - mean)

    return rows


def complement_form(layer: Layer) -> Rows:
    """Return rows of complement entropy."""

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, _, negative = statistics_of(features, layer, index, Softmax(entropy=True))
        return negative / layer.classes

    return rows


def guided_form(layer: Layer, *, alpha: float) -> Rows:
    """Return rows of guided complement entropy."""
    non_negative("alpha", alpha)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, negative = statistics_of(features, layer, index, Softmax(entropy=True))
        return (alpha * F.logsigmoid(own - rest)).exp() * negative / math.log(max(layer.classes, 2))

    return rows


def hierarchical_form(layer: Layer, *, groups: Tensor, level: str) -> Rows:
    """Return rows of hierarchical complement entropy."""
    choice("level", level, hcot._LEVELS)
    per_class("groups", hcot._whole_numbers(groups), layer)
    labels = groups.to(layer.weight.device).reshape(-1, layer.classes)
    dense = torch.stack([each.unique(return_inverse=True)[1] for each in labels])
    sizes = torch.stack([each.bincount()[each] for each in dense])  # (levels, C)
    fold = Groups(inner=level != "outer", outer=level != "inner")

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, *entropies = statistics_of(features, layer, index, fold, dense)
        loss = features.new_zeros(len(features))
        found = iter(entropies)
        for size in sizes[:, index].to(features.dtype):
            # A part without any class counts for nothing.
            if fold.inner:
                loss = loss + next(found) * ((size > 1) / size)
            if fold.outer:
                loss = loss + next(found) * ((size < layer.classes) / layer.classes)
        return loss

    return rows


def hinge_form(layer: Layer, *, margin: float) -> Rows:
    """Return rows of the multi-class hinge."""
    check_by(multiclass_hinge, margin=margin)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, loss = statistics_of(features, layer, index, Hinge(margin))
        return loss / max(layer.classes - 1, 1)

    return rows


def zero_one_form(
    layer: Layer, *, kind: str, temperature: float, a: float | Tensor, b: float | Tensor
) -> Rows:
    """Return rows of a relaxed zero-one loss."""
    check_by(zero_one_relaxation, kind=kind, temperature=temperature, a=a, b=b)
    fold = ZeroOne(kind, temperature, _number("a", a), _number("b", b))

    def rows(features: Tensor, index: Tensor) -> Tensor:
        return statistics_of(features, layer, index, fold)[1]

    return rows


def _number(name: str, value: float | Tensor) -> float:
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(f"{name}: got a tensor that requires a gradient, which the fused form does not give")
    return float(value)


def exact_form(layer: Layer, *, temperature: float, margin: float | None, k: int, log: bool) -> Rows:
    """Return rows of EXACT at k = 1, as the plain form computes it in float32, also in float64."""
    check_by(exact_loss, temperature=temperature, margin=margin)
    _only("k", k, 1)
    _only("log", log, False)

    fold = Win(layer.classes, temperature, -1.0 if margin is None else margin)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        return 1 - statistics_of(features, layer, index, fold)[1]

    return rows


def _only(name: str, value: object, supported: object) -> None:
    if value != supported:
        raise ValueError(f"{name}: got {value!r}, expected {supported!r}: the fused form knows no other")
