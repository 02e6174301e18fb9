"""The fused losses as modules: a head and a criterion in one, called with features."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from criterium.linear.forms import FORMS, OPTIONS
from criterium.linear.functions import fused_loss
from criterium.linear.layer import layer_of
from criterium.linear.parts import cross_entropy
from criterium.linear.sharded import Shard
from criterium.losses._contract import Criterion
from criterium.losses.complement import ComplementEntropyLoss
from criterium.losses.exact import ExactLoss
from criterium.losses.focal import FocalLoss
from criterium.losses.guided_complement import GuidedComplementEntropyLoss
from criterium.losses.hierarchical_complement import HierarchicalComplementEntropyLoss
from criterium.losses.hinge import MulticlassHingeLoss
from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss
from criterium.losses.ldam import LDAMLoss
from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss
from criterium.losses.maxsup import MaxSupLoss
from criterium.losses.noised_topk import NoisedTopKHingeLoss
from criterium.losses.poly1 import Poly1CrossEntropyLoss
from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss
from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss
from criterium.losses.zero_one import ZeroOneRelaxationLoss


class LinearCriterion(nn.Module):
    """A head and a criterion, fused: ``criterion(head(features), target)`` without the logits.

    Args:
        head: `torch.nn.Linear` or a head of `criterium.heads`. It stays an ordinary module: logits for
            prediction come from ``head(features)``.
        criterion: a loss module of criterium, or `torch.nn.CrossEntropyLoss` without label smoothing. Its
            options are read at every call, so that a schedule may change them.
        group: processes over which the classes are spread. The head of each holds a slice of the classes, in
            the order of ranks and not necessarily of one size; features, targets and options (of all
            classes) are the same in all processes. Each computes the same loss and the whole gradient of
            the features, and the gradient of its own slice.
        options: what only the fused form has: `candidates` of `SmoothTopKSVMLoss`.

    A head whose weight is a DTensor with ``Shard(0)``, as `torch.distributed.tensor.parallel.ColwiseParallel`
    makes it, brings its processes along: no `group`.

    Raises:
        ValueError: a head, criterion or option without a fused form; a process that holds no class; DTensors
            placed otherwise.

    >>> import torch
    >>> from criterium import FocalLoss
    >>> head, features = torch.nn.Linear(4, 10), torch.randn(2, 4)
    >>> loss = LinearCriterion(head, FocalLoss())(features, torch.tensor([3, 7]))
    >>> torch.testing.assert_close(loss, FocalLoss()(head(features), torch.tensor([3, 7])))
    """

    def __init__(
        self, head: nn.Module, criterion: nn.Module, *, group: dist.ProcessGroup | None = None, **options: Any
    ) -> None:
        """Keep the head and the criterion."""
        super().__init__()
        layer = layer_of(head)
        if group is not None and layer.held is not None:
            raise ValueError("group: got a group, expected None for a head of DTensors: their mesh has one")
        self._shard = None if group is None else Shard.of(group, len(layer.weight), layer.weight.device)
        self.head = head
        self.criterion = criterion
        self._added = options
        if isinstance(criterion, nn.CrossEntropyLoss):
            if criterion.label_smoothing:
                raise ValueError(
                    f"criterion: got label_smoothing={criterion.label_smoothing}, expected 0; use"
                    " criterium.LabelSmoothingCrossEntropyLoss"
                )
            self._plain = cross_entropy
        elif isinstance(criterion, Criterion) and criterion.function in FORMS:
            self._plain = criterion.function
        else:
            raise ValueError(f"criterion: {type(criterion).__name__} has no fused form")

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Return the loss of features (..., D) for class indices (...), or class probabilities (..., C)."""
        criterion: Any = self.criterion
        own = {name: getattr(criterion, name) for name in OPTIONS[self._plain] if hasattr(criterion, name)}
        layer = layer_of(self.head)
        loss: Tensor = fused_loss(
            self._plain,
            layer if self._shard is None else layer._replace(held=self._shard),
            features,
            target,
            class_weight=criterion.weight,
            ignore_index=criterion.ignore_index,
            reduction=criterion.reduction,
            options=own | self._added,
        )
        return loss


class LinearLoss(LinearCriterion):
    """A `LinearCriterion` that makes its linear head and its criterion, the module in `plain`."""

    plain: type[nn.Module]
    added: tuple[str, ...] = ()
    """Options that only the fused form has."""

    def __init__(self, in_features: int, num_classes: int, bias: bool = True, **options: Any) -> None:
        """Make ``torch.nn.Linear(in_features, num_classes, bias)`` and the criterion with its options."""
        added = {name: options.pop(name) for name in self.added if name in options}
        super().__init__(nn.Linear(in_features, num_classes, bias), self.plain(**options), **added)


class LinearComplementEntropyLoss(LinearLoss):
    """`ComplementEntropyLoss` fused with a linear output layer, with its options."""

    plain = ComplementEntropyLoss


class LinearCrossEntropyLoss(LinearLoss):
    """`torch.nn.CrossEntropyLoss` fused with a linear output layer, with its options."""

    plain = nn.CrossEntropyLoss


class LinearExactLoss(LinearLoss):
    """`ExactLoss` fused with a linear output layer, with its options."""

    plain = ExactLoss


class LinearFocalLoss(LinearLoss):
    """`FocalLoss` fused with a linear output layer, with its options."""

    plain = FocalLoss


class LinearGuidedComplementEntropyLoss(LinearLoss):
    """`GuidedComplementEntropyLoss` fused with a linear output layer, with its options."""

    plain = GuidedComplementEntropyLoss


class LinearHierarchicalComplementEntropyLoss(LinearLoss):
    """`HierarchicalComplementEntropyLoss` fused with a linear output layer, with its options."""

    plain = HierarchicalComplementEntropyLoss


class LinearLDAMLoss(LinearLoss):
    """`LDAMLoss` fused with a linear output layer, with its options."""

    plain = LDAMLoss


class LinearLabelSmoothingCrossEntropyLoss(LinearLoss):
    """`LabelSmoothingCrossEntropyLoss` fused with a linear output layer, with its options."""

    plain = LabelSmoothingCrossEntropyLoss


class LinearLogitAdjustedCrossEntropyLoss(LinearLoss):
    """`LogitAdjustedCrossEntropyLoss` fused with a linear output layer, with its options."""

    plain = LogitAdjustedCrossEntropyLoss


class LinearMaxSupLoss(LinearLoss):
    """`MaxSupLoss` fused with a linear output layer, with its options."""

    plain = MaxSupLoss


class LinearMulticlassHingeLoss(LinearLoss):
    """`MulticlassHingeLoss` fused with a linear output layer, with its options."""

    plain = MulticlassHingeLoss


class LinearNoisedTopKHingeLoss(LinearLoss):
    """`NoisedTopKHingeLoss` fused with a linear output layer, with its options."""

    plain = NoisedTopKHingeLoss


class LinearPoly1CrossEntropyLoss(LinearLoss):
    """`Poly1CrossEntropyLoss` fused with a linear output layer, with its options."""

    plain = Poly1CrossEntropyLoss


class LinearSmoothTopKSVMLoss(LinearLoss):
    """`SmoothTopKSVMLoss` fused with a linear output layer, with its options."""

    plain = SmoothTopKSVMLoss
    added = ("candidates",)


class LinearTopKCrossEntropyLoss(LinearLoss):
    """`TopKCrossEntropyLoss` fused with a linear output layer, with its options."""

    plain = TopKCrossEntropyLoss


class LinearTopKSVMLoss(LinearLoss):
    """`TopKSVMLoss` fused with a linear output layer, with its options."""

    plain = TopKSVMLoss


class LinearZeroOneRelaxationLoss(LinearLoss):
    """`ZeroOneRelaxationLoss` fused with a linear output layer, with its options."""

    plain = ZeroOneRelaxationLoss
