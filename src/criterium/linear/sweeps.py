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
from criterium.linear.parts import Form, Plain, cross_entropy, of_few, per_class, statistics_of
from criterium.linear.rivals import Rivals
from criterium.linear.scan import scan
from criterium.linear.strongest import strongest
from criterium.losses import exact, zero_one
from criterium.losses import hierarchical_complement as hcot
from criterium.losses._contract import Rows
from criterium.losses.label_smoothing import check_smoothing
from criterium.losses.ldam import margins
from criterium.losses.logit_adjustment import adjustment


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
    return softmax_form(cross_entropy)(layer.shifted(adjustment(class_counts, tau, _shape(layer))))


def ldam_form(layer: Layer, *, class_counts: Tensor, max_margin: float, scale: float) -> Rows:
    """Return rows of LDAM: cross-entropy of scaled logits, with a margin off the own one."""
    margin = margins(class_counts, max_margin, scale, _shape(layer))
    scaled = layer.scaled(scale)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest = statistics_of(features, scaled, index, Softmax())
        return of_few(cross_entropy, torch.stack([own - margin[index], rest], dim=1))

    return rows


def _shape(layer: Layer) -> Tensor:
    """Return something of the shape, type and device of one row of logits, in no memory."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    return layer.weight.new_zeros((), dtype=dtype).expand(1, layer.classes)


def label_smoothing_form(layer: Layer, *, smoothing: float) -> Rows:
    """Return rows of label smoothing."""
    check_smoothing(smoothing)

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
    choice("level", level, hcot.LEVELS)
    per_class("groups", hcot.whole_numbers(groups), layer)
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
    non_negative("margin", margin)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, loss = statistics_of(features, layer, index, Hinge(margin))
        return loss / max(layer.classes - 1, 1)

    return rows


def zero_one_form(
    layer: Layer, *, kind: str, temperature: float, a: float | Tensor, b: float | Tensor
) -> Rows:
    """Return rows of a relaxed zero-one loss."""
    zero_one.check_options(kind, temperature, a, b)
    fold = ZeroOne(kind, temperature, _number("a", a), _number("b", b))

    def rows(features: Tensor, index: Tensor) -> Tensor:
        return statistics_of(features, layer, index, fold)[1]

    return rows


def _number(name: str, value: float | Tensor) -> float:
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(f"{name}: got a tensor that requires a gradient, which the fused form does not give")
    return float(value)


def exact_form(layer: Layer, *, temperature: float, margin: float | None, k: int, log: bool) -> Rows:
    """Return rows of EXACT, as the plain form computes it in float32, also in float64."""
    exact.check_options(temperature, margin, k)
    limit = -1.0 if margin is None else margin
    if k == 1 and not log:
        win = Win(layer.classes, temperature, limit)
        return lambda features, index: 1 - statistics_of(features, layer, index, win)[1]
    if k >= layer.classes:
        raise ValueError(f"k: got {k}, expected fewer than C = {layer.classes}")
    fold = Rivals(layer.classes, k, temperature, limit, log)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        picked, chance, by_few = scan(features, layer, strongest(features, layer, index, k + 1), fold)
        gap = fold.gaps(picked[:, :1] - picked[:, 1:])
        # The fold knows the derivative of the chance by the gaps of these few too: 0 times it, followed.
        chance = chance + (by_few.detach() * (gap - gap.detach())).sum(dim=1)
        return -chance if log else 1 - chance

    return rows
