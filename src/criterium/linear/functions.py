"""The fused losses as functions."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from torch import Tensor

from criterium.linear.forms import FORMS, OPTIONS, complete
from criterium.linear.layer import Layer, layer_here
from criterium.linear.parts import Plain, cross_entropy
from criterium.linear.placement import whole
from criterium.linear.standardize import standardized
from criterium.losses._contract import Rows, expectation
from criterium.losses._targets import Targets, check, full_precision
from criterium.losses.complement import complement_entropy
from criterium.losses.exact import exact_loss
from criterium.losses.focal import focal_loss
from criterium.losses.guided_complement import guided_complement_entropy
from criterium.losses.hierarchical_complement import hierarchical_complement_entropy
from criterium.losses.hinge import multiclass_hinge
from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.ldam import ldam_loss
from criterium.losses.logit_adjustment import logit_adjusted_cross_entropy
from criterium.losses.maxsup import maxsup_loss
from criterium.losses.noised_topk import noised_topk_hinge
from criterium.losses.poly1 import poly1_cross_entropy
from criterium.losses.smooth_topk_svm import smooth_topk_svm, topk_svm
from criterium.losses.topk_cross_entropy import topk_cross_entropy
from criterium.losses.zero_one import zero_one_relaxation

_MOST = 8
"""So many classes may have mass in a soft target, on average over rows: each costs a row of features."""


class LinearFunction(Protocol):
    """A loss of features and a linear output layer."""

    def __call__(
        self,
        features: Tensor,
        weight: Tensor,
        target: Tensor,
        bias: Tensor | None = None,
        *,
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        **options: Any,
    ) -> Tensor:
        """Return the loss."""
        ...


def fused_loss(
    plain: Plain,
    layer: Layer,
    features: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    options: dict[str, Any],
) -> Tensor:
    """Return the loss `plain` of the logits of `layer` for features (..., D), without those logits."""
    features, target = whole("features", features), whole("target", target)
    classes, width = _check(layer, features)
    leading = features.shape[:-1]
    soft = check(
        target,
        class_weight,
        reduction,
        classes=classes,
        indices=leading,
        probabilities=(*leading, classes),
        given=f"features of shape {tuple(features.shape)} and {classes} classes",
    )
    options = complete(plain, options)
    with full_precision(features.device):
        table = layer.prepared(features.reshape(-1, width))
        flat = target.reshape(-1, classes) if soft else target.reshape(-1)
        targets = Targets.read(flat, classes, table.dtype, class_weight, ignore_index)
        if options.pop("standardize", False):
            layer = standardized(layer, table, targets.valid)
        rows = FORMS[plain](layer, **options)
        losses = (_expectation(rows) if soft else rows)(table, targets.classes)
        return targets.reduce(losses, leading, reduction)


def _expectation(rows: Rows) -> Rows:
    """Return rows of soft targets, of which few classes have mass: each costs a row of features."""

    def expected(table: Tensor, distribution: Tensor) -> Tensor:
        entries = int((distribution > 0).sum())
        if entries > _MOST * len(distribution):
            raise ValueError(
                f"target: got {entries} class probabilities above 0 in {len(distribution)} rows, expected at"
                f" most {_MOST} a row on average: the fused form makes the loss of each"
            )
        return expectation(rows)(table, distribution)

    return expected


def _check(layer: Layer, features: Tensor) -> tuple[int, int]:
    """Return the numbers of classes and features, or raise a `ValueError` for what does not fit."""
    if layer.weight.dim() != 2 or layer.weight.shape[0] == 0:
        raise ValueError(f"weight: got shape {tuple(layer.weight.shape)}, expected (C, D) with C at least 1")
    classes, (held, width) = layer.classes, layer.weight.shape
    if layer.bias is not None and tuple(layer.bias.shape) != (held,):
        raise ValueError(f"bias: got shape {tuple(layer.bias.shape)}, expected ({held},)")
    if not features.is_floating_point() or features.dim() == 0 or features.shape[-1] != width:
        raise ValueError(
            f"features: got {features.dtype} of shape {tuple(features.shape)},"
            f" expected real numbers (..., {width})"
        )
    return classes, width


def _fused(plain: Plain) -> LinearFunction:
    def function(
        features: Tensor,
        weight: Tensor,
        target: Tensor,
        bias: Tensor | None = None,
        *,
        class_weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        **options: Any,
    ) -> Tensor:
        loss: Tensor = fused_loss(
            plain,
            layer_here(weight, bias),
            features,
            target,
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            options=options,
        )
        return loss

    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
        for name, value in OPTIONS[plain].items()
    ]
    signature = inspect.signature(function)
    fixed = [each for each in signature.parameters.values() if each.kind != inspect.Parameter.VAR_KEYWORD]
    function.__name__ = function.__qualname__ = f"linear_{plain.__name__}"
    function.__module__ = "criterium.linear"
    function.__signature__ = signature.replace(parameters=[*fixed[:4], *own, *fixed[4:]])  # type: ignore[attr-defined]
    function.__doc__ = _PAGE.format(name=plain.__name__)
    return function


_PAGE = """`{name}` of the logits ``features @ weight.T + bias``, which are never held.

    Args:
        features: ``(..., D)``.
        weight: ``(C, D)``, of the output layer; a DTensor with ``Shard(0)`` over a mesh of one dimension: its
            processes share the classes, have the same features and target, and find the same loss.
        target: ``(...)`` class indices, or ``(..., C)`` class probabilities, few of them above 0.
        bias: ``(C,)``, of the output layer.
        class_weight: ``(C,)`` weight of each class: the plain loss's `weight`.
        ignore_index: class index of the rows that do not count.
        reduction: "none", "mean" or "sum".

    The other options are those of the plain loss.

    Returns:
        The loss, float32 (float64 for float64 features).

    Raises:
        ValueError: an argument that does not fit, or an option that the fused form does not know.
"""

linear_complement_entropy = _fused(complement_entropy)
linear_cross_entropy = _fused(cross_entropy)
linear_exact_loss = _fused(exact_loss)
linear_focal_loss = _fused(focal_loss)
linear_guided_complement_entropy = _fused(guided_complement_entropy)
linear_hierarchical_complement_entropy = _fused(hierarchical_complement_entropy)
linear_label_smoothing_cross_entropy = _fused(label_smoothing_cross_entropy)
linear_ldam_loss = _fused(ldam_loss)
linear_logit_adjusted_cross_entropy = _fused(logit_adjusted_cross_entropy)
linear_maxsup_loss = _fused(maxsup_loss)
linear_multiclass_hinge = _fused(multiclass_hinge)
linear_noised_topk_hinge = _fused(noised_topk_hinge)
linear_poly1_cross_entropy = _fused(poly1_cross_entropy)
linear_smooth_topk_svm = _fused(smooth_topk_svm)
linear_topk_cross_entropy = _fused(topk_cross_entropy)
linear_topk_svm = _fused(topk_svm)
linear_zero_one_relaxation = _fused(zero_one_relaxation)
