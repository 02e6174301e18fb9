"""The fused form of each loss: its losses for rows of features and an output layer, in place of logits.

Softmax sees the wrong classes only through the logarithm of their sum of exponentials. So a loss of the true
class's probability alone is the plain one of two classes: the own logit and that logarithm. Losses of the
strongest classes are the plain ones of these candidates. `FORMS` has a line for each loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from criterium import functional
from criterium._checks import at_least, choice, non_negative, positive
from criterium.linear.accumulator import Accumulator
from criterium.linear.accumulators import Groups, Hinge, Softmax, Spread, ZeroOne
from criterium.linear.candidates import find_candidates, noised_kth_class
from criterium.linear.moments import Rivals, Win
from criterium.linear.output_layer import OutputLayer
from criterium.linear.scan import scan
from criterium.losses import exact, noised_topk, zero_one
from criterium.losses import hierarchical_complement as hcot
from criterium.losses._contract import Criterion, Rows
from criterium.losses._logits import positive_part
from criterium.losses.label_smoothing import check_smoothing
from criterium.losses.ldam import margins
from criterium.losses.logit_adjustment import adjustment

Plain = Callable[..., Tensor]
"""A loss of logits and target."""

Form = Callable[..., Rows]
"""An output layer and a loss's options to the losses (M,) of features (M, D) and class indices (M,)."""


def _statistics(
    features: Tensor, layer: OutputLayer, index: Tensor, wanted: Accumulator, labels: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the own logits (M,) and the statistics of the others."""
    picked, *statistics = scan(features, layer, index.unsqueeze(1), wanted, labels=labels)
    return picked.squeeze(1), *statistics


def _first_of(table: Tensor, plain: Plain, **options: Any) -> Tensor:
    """Return the plain loss of (M, n) logits of which the first are the true classes'."""
    first = torch.zeros(len(table), dtype=torch.long, device=table.device)
    losses: Tensor = plain(table, first, reduction="none", **options)
    return losses


def _per_class(name: str, values: Tensor, layer: OutputLayer) -> None:
    """Raise a `ValueError` unless there is a value for each class."""
    if values.shape[-1] != layer.classes:
        raise ValueError(
            f"{name}: got shape {tuple(values.shape)}, expected ({layer.classes},), one number a class"
        )


def of_probability(plain: Plain) -> Form:
    """Return the form of a loss of the true class's probability alone."""

    def form(layer: OutputLayer, **options: Any) -> Rows:
        def rows(features: Tensor, index: Tensor) -> Tensor:
            pair = _statistics(features, layer, index, Softmax())
            return _first_of(torch.stack(pair, dim=1), plain, **options)

        return rows

    return form


def isomax(layer: OutputLayer, *, entropic_scale: float) -> Rows:
    """IsoMax: cross-entropy of scaled logits."""
    return of_probability(F.cross_entropy)(layer.scaled(positive("entropic_scale", entropic_scale)))


def logit_adjusted(layer: OutputLayer, *, class_counts: Tensor, tau: float) -> Rows:
    """Logit adjustment: cross-entropy with another bias."""
    return of_probability(F.cross_entropy)(layer.shifted(adjustment(class_counts, tau, layer.shape_of_row)))


def ldam(layer: OutputLayer, *, class_counts: Tensor, max_margin: float, scale: float) -> Rows:
    """LDAM: cross-entropy of scaled logits, with a margin off the own one."""
    margin = margins(class_counts, max_margin, scale, layer.shape_of_row)
    scaled = layer.scaled(scale)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest = _statistics(features, scaled, index, Softmax())
        return _first_of(torch.stack([own - margin[index], rest], dim=1), F.cross_entropy)

    return rows


def label_smoothing(layer: OutputLayer, *, smoothing: float) -> Rows:
    """Label smoothing: cross-entropy, and the own logit's lead over the mean."""
    check_smoothing(smoothing)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, total, _, _ = _statistics(features, layer, index, Spread())
        mean = (own + total) / layer.classes
        return _first_of(torch.stack([own, rest], dim=1), F.cross_entropy) + smoothing * (own - mean)

    return rows


def maxsup(layer: OutputLayer, *, alpha: float) -> Rows:
    """MaxSup: cross-entropy, and the largest logit's lead over the mean."""
    non_negative("alpha", alpha)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, total, top, ties = _statistics(features, layer, index, Spread())
        mean = (own + total) / layer.classes
        # Equal largest logits share the gradient.
        others = ties.detach() * (top >= own)
        alone = (own >= top).to(own.dtype)
        largest = (others * top + alone * own) / (others + alone)
        return _first_of(torch.stack([own, rest], dim=1), F.cross_entropy) + alpha * (largest - mean)

    return rows


def complement(layer: OutputLayer) -> Rows:
    """Complement entropy."""

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, _, negative = _statistics(features, layer, index, Softmax(entropy=True))
        return negative / layer.classes

    return rows


def guided_complement(layer: OutputLayer, *, alpha: float) -> Rows:
    """Guided complement entropy."""
    non_negative("alpha", alpha)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        own, rest, negative = _statistics(features, layer, index, Softmax(entropy=True))
        return (alpha * F.logsigmoid(own - rest)).exp() * negative / math.log(max(layer.classes, 2))

    return rows


def hierarchical_complement(layer: OutputLayer, *, groups: Tensor, level: str) -> Rows:
    """Hierarchical complement entropy."""
    choice("level", level, hcot.LEVELS)
    _per_class("groups", hcot.whole_numbers(groups), layer)
    labels = groups.to(layer.weight.device).reshape(-1, layer.classes)
    dense = torch.stack([each.unique(return_inverse=True)[1] for each in labels])
    sizes = torch.stack([each.bincount()[each] for each in dense])  # (levels, C)
    parts = Groups(inner=level != "outer", outer=level != "inner")

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, *entropies = _statistics(features, layer, index, parts, dense)
        loss = features.new_zeros(len(features))
        entropy = iter(entropies)
        for size in sizes[:, index].to(features.dtype):
            # A part without any class counts for nothing.
            if parts.inner:
                loss = loss + next(entropy) * ((size > 1) / size)
            if parts.outer:
                loss = loss + next(entropy) * ((size < layer.classes) / layer.classes)
        return loss

    return rows


def hinge(layer: OutputLayer, *, margin: float) -> Rows:
    """The multi-class hinge."""
    non_negative("margin", margin)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        _, loss = _statistics(features, layer, index, Hinge(margin))
        return loss / max(layer.classes - 1, 1)

    return rows


def zero_one_relaxed(
    layer: OutputLayer, *, kind: str, temperature: float, a: float | Tensor, b: float | Tensor
) -> Rows:
    """A relaxed zero-one loss."""
    zero_one.check_options(kind, temperature, a, b)
    for name, value in (("a", a), ("b", b)):
        if isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(
                f"{name}: got a tensor that requires a gradient, which the fused form does not give"
            )
    steps = ZeroOne(kind, temperature, float(a), float(b))
    return lambda features, index: _statistics(features, layer, index, steps)[1]


def exact_accuracy(
    layer: OutputLayer, *, temperature: float, margin: float | None, k: int, log: bool
) -> Rows:
    """EXACT, as the plain form computes it in float32, also in float64."""
    exact.check_options(temperature, margin, k)
    limit = -1.0 if margin is None else margin
    if k == 1 and not log:
        win = Win(layer.classes, temperature, limit)
        return lambda features, index: 1 - _statistics(features, layer, index, win)[1]
    if k >= layer.classes:
        raise ValueError(f"k: got {k}, expected fewer than C = {layer.classes}")
    rivals = Rivals(layer.classes, temperature, limit, k, log)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        columns = find_candidates(features, layer, index, k + 1)
        picked, chance, by_few = scan(features, layer, columns, rivals)
        gap = rivals.gaps(picked[:, :1] - picked[:, 1:])
        # The derivative of the chance by the gaps of these few is known too: 0 times it, followed.
        chance = chance + (by_few.detach() * (gap - gap.detach())).sum(dim=1)
        return -chance if log else 1 - chance

    return rows


@dataclass(frozen=True)
class of_candidates:
    """The form of a loss of the true class and the candidates - 1 strongest others."""

    plain: Plain
    least: Callable[[dict[str, Any]], int]
    """How many candidates the options ask for."""

    def __call__(self, layer: OutputLayer, *, candidates: int | str | None = None, **options: Any) -> Rows:
        """Return the rows."""
        if not isinstance(candidates, int):
            raise ValueError(
                "candidates: got None, expected a number: the fused form of"
                f" {getattr(self.plain, '__name__', 'this loss')} looks at the true class and the"
                " candidates - 1 strongest others"
            )
        if at_least("candidates", candidates, self.least(options)) >= layer.classes:
            raise ValueError(f"candidates: got {candidates}, expected fewer than C = {layer.classes}")

        def rows(features: Tensor, index: Tensor) -> Tensor:
            (picked,) = scan(features, layer, find_candidates(features, layer, index, candidates))
            return _first_of(picked, self.plain, **options)

        return rows


def topk_svm(layer: OutputLayer, *, k: int, margin: float) -> Rows:
    """The top-k SVM, which looks at the true class and the k-th strongest other."""
    form = of_candidates(functional.topk_svm, lambda _: 2)
    return form(layer, candidates=k + 1, k=k, margin=margin)


def noised_topk_hinge(
    layer: OutputLayer,
    *,
    k: int,
    epsilon: float,
    margin: float | Tensor,
    scale: float,
    samples: int | None,
    noise: Tensor | None,
    generator: torch.Generator | None,
) -> Rows:
    """The noised top-k hinge: one class a sample is the (k+1)-th largest."""
    noised_topk.check_options(k, epsilon, margin, scale, samples)
    number = samples if noise is None else noise.shape[-1]
    if number is None:
        raise ValueError("samples: got None, expected a number: the fused form does not know the expectation")
    if k >= layer.classes:
        raise ValueError(f"k: got {k}, expected at most C - 1 = {layer.classes - 1}")
    if isinstance(margin, Tensor) and margin.dim():
        _per_class("margin", margin, layer)

    def rows(features: Tensor, index: Tensor) -> Tensor:
        draws = noise
        if noise is not None:
            draws = noise.flatten(0, -3) if noise.dim() > 2 else noise.unsqueeze(0)
            wanted = (len(features), layer.classes)
            if noise.dim() < 2 or draws.shape[:2] != wanted or number == 0:
                raise ValueError(
                    f"noise: got shape {tuple(noise.shape)}, expected (..., C, S): {wanted[0]} rows,"
                    f" {wanted[1]} classes and at least one draw"
                )
        device = None if generator is None else generator.device
        # Drawn even where the noise is given: the operator takes a seed.
        seed = torch.randint(2**62, (), generator=generator, device=device)
        chosen, scores = noised_kth_class(features, layer, k + 1, epsilon, number, seed, draws)
        (picked,) = scan(features, layer, torch.cat([index.unsqueeze(1), chosen], dim=1))
        own, logits = picked[:, 0], picked[:, 1:]
        kth = (logits + (scores - logits.detach())).mean(dim=1)
        gap = margin.to(own)[index] if isinstance(margin, Tensor) and margin.dim() else margin
        losses: Tensor = scale * positive_part(gap + kth - own)
        return losses

    return rows


FORMS: dict[Plain, Form] = {
    F.cross_entropy: of_probability(F.cross_entropy),
    functional.complement_entropy: complement,
    functional.exact_loss: exact_accuracy,
    functional.focal_loss: of_probability(functional.focal_loss),
    functional.guided_complement_entropy: guided_complement,
    functional.hierarchical_complement_entropy: hierarchical_complement,
    functional.isomax_loss: isomax,
    functional.label_smoothing_cross_entropy: label_smoothing,
    functional.ldam_loss: ldam,
    functional.logit_adjusted_cross_entropy: logit_adjusted,
    functional.maxsup_loss: maxsup,
    functional.multiclass_hinge: hinge,
    functional.noised_topk_hinge: noised_topk_hinge,
    functional.poly1_cross_entropy: of_probability(functional.poly1_cross_entropy),
    functional.smooth_topk_svm: of_candidates(functional.smooth_topk_svm, lambda options: options["k"] + 1),
    functional.topk_cross_entropy: of_candidates(
        functional.topk_cross_entropy, lambda options: len(options["p_k"] or (1,)) + 1
    ),
    functional.topk_svm: topk_svm,
    functional.zero_one_relaxation: zero_one_relaxed,
}
"""The fused form of each plain loss."""


def plain_and_options(criterion: nn.Module, candidates: int | None) -> tuple[Plain, dict[str, Any]]:
    """Return the plain loss of a criterion, a key of `FORMS`, and its options as they are now.

    Raises:
        ValueError: a criterion without a fused form, or candidates for one that looks at all classes.
    """
    # A subclass that computes another loss would be fused as what it was.
    own = getattr(type(criterion), "forward", None)
    if isinstance(criterion, nn.CrossEntropyLoss) and own is nn.CrossEntropyLoss.forward:
        if criterion.label_smoothing:
            raise ValueError(
                f"criterion: got label_smoothing={criterion.label_smoothing}, expected 0; use"
                " criterium.LabelSmoothingCrossEntropyLoss"
            )
        plain, options = F.cross_entropy, {}
    elif isinstance(criterion, Criterion) and own is Criterion.forward and criterion.function in FORMS:
        plain, options = criterion.function, criterion.options
    else:
        raise ValueError(
            f"criterion: {type(criterion).__name__} has no fused form, expected a loss module of criterium or"
            " torch.nn.CrossEntropyLoss"
        )
    if candidates is not None:
        if not isinstance(FORMS[plain], of_candidates):
            raise ValueError(
                f"candidates: got {candidates}, expected None for {type(criterion).__name__}, which has no"
                " such option"
            )
        options["candidates"] = candidates
    return plain, options
