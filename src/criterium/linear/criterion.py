"""A criterion fused with its output layer, as a module and as a function: the one door to this room."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from criterium._values import looked_at, pretended
from criterium.linear.forms import FORMS, plain_and_options
from criterium.linear.output_layer import OutputLayer, layer_of_head, linear_layer, without_forward_mode
from criterium.linear.placement import replicated
from criterium.linear.sharded import Shard
from criterium.linear.standardize import standardized
from criterium.losses._contract import Rows, expectation
from criterium.losses._targets import Targets, check, full_precision

_MOST = 8
"""So many classes may have mass in a soft target, on average over rows: each costs a row of features."""


class LinearCriterion(nn.Module):
    """A head and a criterion, fused: ``criterion(head(features), target)`` without the logits.

    Args:
        head: `torch.nn.Linear` or a head of `criterium.heads`. It stays an ordinary module: logits for
            prediction come from ``head(features)``. One whose weight is a DTensor with ``Shard(0)``, as
            `torch.distributed.tensor.parallel.ColwiseParallel` makes it, brings its processes along and
            takes no `group`.
        criterion: a loss module of criterium, or `torch.nn.CrossEntropyLoss` without label smoothing. Its
            options are read at every call, so that a schedule may change them.
        candidates: how many classes of a row `SmoothTopKSVMLoss` or `TopKCrossEntropyLoss` looks at, the true
            one and the strongest others; None: as many as the criterion says. `SmoothTopKSVMLoss` does not
            say and needs a number m here. What is left out makes its losses lower, by at most
            τ log(1 + k (C − m) exp((s_(m) − s_(k)) / (k τ))) with s_(k) the k-th largest wrong logit and
            s_(m) the least that is looked at: little at small τ, several units at τ = 1 and many classes.
        group: processes over which the classes are spread. The head of each holds a slice of the classes, in
            the order of ranks and not necessarily of one size; features, targets and options (of all
            classes) are the same in all processes. Each computes the same loss and the whole gradient of
            the features, and the gradient of its own slice.

    Raises:
        ValueError: a head, criterion or option without a fused form; a process that holds no class; DTensors
            placed otherwise.

    Example:
        >>> import torch
        >>> from criterium import FocalLoss
        >>> head, features = torch.nn.Linear(4, 10), torch.randn(2, 4)
        >>> loss = LinearCriterion(head, FocalLoss())(features, torch.tensor([3, 7]))
        >>> torch.testing.assert_close(loss, FocalLoss()(head(features), torch.tensor([3, 7])))

    Deviations:
        Where no row counts, the mean is 0, as that of criterium's losses; that of
        `torch.nn.CrossEntropyLoss` is NaN.

    """

    def __init__(
        self,
        head: nn.Module,
        criterion: nn.Module,
        *,
        candidates: int | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Keep the head and the criterion."""
        super().__init__()
        layer = layer_of_head(head)
        if group is not None and layer.held is not None:
            raise ValueError("group: got a group, expected None for a head of DTensors: their mesh has one")
        plain_and_options(criterion, candidates)  # raises where there is no fused form
        self._shard = None if group is None else Shard.in_group(group, len(layer.weight), layer.weight.device)
        self.head = head
        self.criterion = criterion
        self.candidates = candidates

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            features: (..., D).
            target: (...) class indices, or (..., C) class probabilities, most of them 0.

        Returns:
            What the criterion returns for logits, float32 (float64 for float64 features).

        Raises:
            ValueError: an argument or an option that does not fit.

        """
        layer = layer_of_head(self.head)
        layer = layer if self._shard is None else layer._replace(held=self._shard)
        return _fused_loss(self.criterion, layer, features, target, self.candidates)


def linear_loss(
    criterion: nn.Module,
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    candidates: int | None = None,
) -> Tensor:
    """`criterion` of the logits ``features @ weight.T + bias``, which are never held.

    Args:
        criterion: a loss module of criterium, or `torch.nn.CrossEntropyLoss` without label smoothing. Class
            weights, `ignore_index`, `reduction` and options are its own.
        features: (..., D).
        weight: (C, D), of the output layer; a DTensor with ``Shard(0)`` over a mesh of one dimension: its
            processes share the classes, have the same features and target, and return the same loss.
        target: (...) class indices, or (..., C) class probabilities, most of them 0.
        bias: (C,), of the output layer, placed as the weight.
        candidates: as for `LinearCriterion`.

    Returns:
        What the criterion returns for logits, float32 (float64 for float64 features).

    Raises:
        ValueError: an argument or an option that does not fit, or a criterion without a fused form.

    Example:
        >>> import criterium, torch
        >>> features, weight, target = torch.randn(8, 16), torch.randn(1000, 16), torch.randint(1000, (8,))
        >>> criterion = criterium.FocalLoss(gamma=1.0)
        >>> loss = linear_loss(criterion, features, weight, target)
        >>> torch.testing.assert_close(loss, criterion(features @ weight.T, target))

    """
    return _fused_loss(criterion, linear_layer(weight, bias), features, target, candidates)


def _fused_loss(
    criterion: Any, layer: OutputLayer, features: Tensor, target: Tensor, candidates: int | None
) -> Tensor:
    """Check what is given, hand rows of features to the criterion's form, and reduce the losses."""
    plain, options = plain_and_options(criterion, candidates)
    features, target = replicated("features", features), replicated("target", target)
    _check_sizes(layer, features)
    classes, leading, weight = layer.classes, features.shape[:-1], criterion.weight
    soft = check(
        target,
        weight,
        criterion.reduction,
        classes=classes,
        indices=leading,
        probabilities=(*leading, classes),
        given=("features", features.shape),
    )
    if soft and options.get("noise") is not None:
        raise ValueError("noise: got a tensor, expected None for soft targets: the fused form draws its own")
    with full_precision(features.device):
        table = layer.prepared(features.reshape(-1, features.shape[-1]))
        flat = target.reshape(-1, classes) if soft else target.reshape(-1)
        # PyTorch weights the classes of a soft target one by one, and divides by the number of rows.
        inside = soft and plain is F.cross_entropy and weight is not None
        targets = Targets.read(flat, classes, table.dtype, None if inside else weight, criterion.ignore_index)
        if inside:
            targets = targets._replace(classes=targets.classes * weight.to(table))
        if targets.counting is not None:  # whatever the features of other rows hold
            table = table.where(targets.counting.unsqueeze(1), 0)
        table, layer = without_forward_mode(table, layer)
        layer = layer.centred()
        if options.pop("standardize", False):
            layer = standardized(layer, table, targets.counting)
        rows = FORMS[plain](layer, **options)
        losses = (_expectation(rows) if soft else _of_classes(rows, classes))(table, targets.classes)
        return targets.reduce(_shown(losses, table), leading, criterion.reduction)


def _of_classes(rows: Rows, classes: int) -> Rows:
    """Return rows that are NaN for an index that is no class, where that was not seen before."""

    def known(table: Tensor, index: Tensor) -> Tensor:
        if looked_at(index):
            return rows(table, index)
        inside = (index >= 0) & (index < classes)
        return rows(table, index.where(inside, 0)).masked_fill(~inside, math.nan)

    return known


def _shown(losses: Tensor, features: Tensor) -> Tensor:
    """Return losses that are NaN where a feature is not finite, and of which NaN is a factor of the gradient.

    Not each of them looks at all logits, and a loss that counts steps is flat between them.
    """
    flawed = losses.detach().isnan() | ~features.detach().isfinite().all(dim=1)
    return losses * torch.ones_like(losses).masked_fill(flawed, math.nan)


def _check_sizes(layer: OutputLayer, features: Tensor) -> None:
    """Raise a `ValueError` for features, weight and bias that do not fit each other."""
    if layer.weight.dim() != 2 or layer.weight.shape[0] == 0:
        raise ValueError(f"weight: got shape {tuple(layer.weight.shape)}, expected (C, D) with C at least 1")
    held, width = layer.weight.shape
    if layer.bias is not None and tuple(layer.bias.shape) != (held,):
        raise ValueError(f"bias: got shape {tuple(layer.bias.shape)}, expected ({held},)")
    if not features.is_floating_point() or features.dim() == 0 or features.shape[-1] != width:
        raise ValueError(
            f"features: got {features.dtype} of shape {tuple(features.shape)},"
            f" expected real numbers (..., {width})"
        )


def _expectation(rows: Rows) -> Rows:
    """Return rows of soft targets, of which few classes have mass: each costs a row of features."""

    def expected(table: Tensor, distribution: Tensor) -> Tensor:
        entries = 0 if pretended(table) else int((distribution != 0).sum())
        if entries > _MOST * len(distribution):
            raise ValueError(
                f"target: got {entries} class probabilities not 0 in {len(distribution)} rows, expected at"
                f" most {_MOST} a row on average: the fused form makes the loss of each"
            )
        return expectation(rows)(table, distribution)

    return expected
