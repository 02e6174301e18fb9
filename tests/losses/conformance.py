"""Every loss, in settings that the conformance suite tries: a new loss is tested by a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from criterium.linear import LinearCriterion
from criterium.losses._contract import Criterion
from criterium.losses.complement import ComplementEntropyLoss, complement_entropy
from criterium.losses.exact import ExactLoss, exact_loss
from criterium.losses.focal import FocalLoss, focal_loss
from criterium.losses.guided_complement import GuidedComplementEntropyLoss, guided_complement_entropy
from criterium.losses.hierarchical_complement import (
    HierarchicalComplementEntropyLoss,
    hierarchical_complement_entropy,
)
from criterium.losses.hinge import MulticlassHingeLoss, multiclass_hinge
from criterium.losses.isomax import IsoMaxLoss, isomax_loss
from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss, label_smoothing_cross_entropy
from criterium.losses.ldam import LDAMLoss, ldam_loss
from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss, logit_adjusted_cross_entropy
from criterium.losses.maxsup import MaxSupLoss, maxsup_loss
from criterium.losses.noised_topk import NoisedTopKHingeLoss, noised_topk_hinge
from criterium.losses.poly1 import Poly1CrossEntropyLoss, poly1_cross_entropy
from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss, smooth_topk_svm, topk_svm
from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss, topk_cross_entropy
from criterium.losses.zero_one import ZeroOneRelaxationLoss, zero_one_relaxation


@dataclass(frozen=True)
class Loss:
    """A loss with one set of options, and what its maths does not give it."""

    function: Callable[..., Tensor]
    module: type[Criterion]
    options: dict[str, Any] = field(default_factory=dict)
    least_classes: int = 1
    couples_rows: bool = False
    """The loss of a row depends on the other rows of its batch."""
    ordered_classes: tuple[str, ...] = ()
    """Options with a number for each class, which are renumbered with the classes."""
    noisy: bool = False
    """The loss draws `noise`: here every row of every batch gets the same."""
    relative: float = 1e-5
    """Tolerance in float32, relative to the largest loss or gradient of the batch."""

    def __call__(self, logits: Tensor, target: Tensor, **contract: Any) -> Tensor:
        return self.function(logits, target, **self.options, **self.noise(logits.shape), **contract)

    @property
    def settings(self) -> dict[str, Any]:
        """All options, for the logits of `some_logits`."""
        return self.options | self.noise((ROWS, CLASSES))

    def criterion(self, **contract: Any) -> Criterion:
        """Return the module, for the logits of `some_logits`."""
        return self.module(**self.settings, **contract)

    @property
    def is_fused(self) -> bool:
        """Whether there is a fused form of it, for these options."""
        expected = self.function is noised_topk_hinge and self.options.get("samples", 5) is None
        return not expected and not (self.function is smooth_topk_svm and self.options["k"] + 1 >= CLASSES)

    def fused(self, features: Tensor, target: Tensor, bias: Tensor | None = None, **contract: Any) -> Tensor:
        """Return the fused loss of features that are the logits less a bias for each class."""
        head = torch.nn.Linear(CLASSES, CLASSES, dtype=features.dtype)
        with torch.no_grad():
            head.weight.copy_(torch.eye(CLASSES))
            head.bias.copy_(torch.zeros(CLASSES) if bias is None else bias)
        head.requires_grad_(False)
        return self.fused_criterion(head, **contract)(features, target)

    def fused_criterion(self, head: torch.nn.Linear, **contract: Any) -> LinearCriterion:
        """Return head and criterion in one."""
        candidates = CLASSES - 1 if self.function in CHOOSING else None
        return LinearCriterion(head, self.criterion(**contract), candidates=candidates)

    def noise(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the draws for logits of a shape."""
        if not self.noisy:
            return {}
        classes = min(1, len(shape) - 1)
        draws = NOISE[: shape[classes]].reshape(-1, *[1] * len(shape[classes + 1 :]), NOISE.shape[1])
        return {"noise": draws.expand(*shape, -1)}

    def renumbered(self, order: Tensor) -> Callable[..., Tensor]:
        """Return the loss of logits whose columns are in another order."""
        moved = {name: self.options[name][..., order] for name in self.ordered_classes}

        def call(logits: Tensor, target: Tensor, **contract: Any) -> Tensor:
            noise = {name: draws[:, order] for name, draws in self.noise(logits.shape).items()}
            return self.function(logits, target, **self.options | moved | noise, **contract)

        return call

    def __str__(self) -> str:
        values = {k: "tensor" if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return f"{self.function.__name__}({','.join(f'{k}={v}' for k, v in values.items())})"


ROWS, CLASSES = 6, 5
CHOOSING = (topk_cross_entropy, smooth_topk_svm)
"""The losses whose fused form looks at candidates."""
NOISE = torch.randn(CLASSES, 4, generator=torch.Generator().manual_seed(9))
MARGINS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
TOPK = (topk_cross_entropy, TopKCrossEntropyLoss)
GUIDED = (guided_complement_entropy, GuidedComplementEntropyLoss)
HCOT = (hierarchical_complement_entropy, HierarchicalComplementEntropyLoss)
GROUPS = torch.tensor([3, 0, 0, 3, 3])
TREE = torch.tensor([[1, 0, 0, 1, 1], [1, 0, 2, 1, 1]])
HINGE = (noised_topk_hinge, NoisedTopKHingeLoss)
COUNTS = torch.tensor([50, 20, 10, 4, 1])
LDAM = (ldam_loss, LDAMLoss)
ADJUSTED = (logit_adjusted_cross_entropy, LogitAdjustedCrossEntropyLoss)
ZERO_ONE = (zero_one_relaxation, ZeroOneRelaxationLoss)
SMOOTH_SVM = (smooth_topk_svm, SmoothTopKSVMLoss)

LOSSES = [
    Loss(exact_loss, ExactLoss),
    Loss(exact_loss, ExactLoss, {"temperature": 0.3, "margin": 0.5}),
    Loss(exact_loss, ExactLoss, {"standardize": True}, couples_rows=True),
    Loss(exact_loss, ExactLoss, {"k": 2}, least_classes=2),
    Loss(exact_loss, ExactLoss, {"k": 3, "log": True}, least_classes=3),
    Loss(exact_loss, ExactLoss, {"log": True, "temperature": 0.5}),
    Loss(*TOPK),
    Loss(*TOPK, {"p_k": (0.5, 0.0, 0.5)}, least_classes=4),
    Loss(*TOPK, {"p_k": (0.0, 1.0), "relaxation": "bitonic", "top1": "sort"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.5, 0.5), "distribution": "logistic_phi", "candidates": 4}, least_classes=4),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "neuralsort", "top1": "softmax_ce"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "softsort"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "lapsum"}, least_classes=3),
    Loss(*TOPK, {"p_k": (0.2, 0.8), "relaxation": "sinkhorn"}, least_classes=3),
    Loss(*HINGE, {"k": 2, "epsilon": 0.5}, least_classes=3, noisy=True),
    Loss(
        *HINGE,
        {"k": 1, "epsilon": 0.0, "margin": 2.0, "scale": 3.0, "samples": 1},
        least_classes=2,
        noisy=True,
    ),
    Loss(*HINGE, {"k": 1, "margin": MARGINS}, least_classes=5, noisy=True, ordered_classes=("margin",)),
    Loss(*HINGE, {"k": 2, "epsilon": 0.5, "samples": None}, least_classes=3),
    Loss(
        *HINGE,
        {"k": 1, "epsilon": 2.0, "margin": MARGINS, "samples": None},
        least_classes=5,
        ordered_classes=("margin",),
    ),
    Loss(isomax_loss, IsoMaxLoss),
    Loss(isomax_loss, IsoMaxLoss, {"entropic_scale": 0.7}),
    Loss(complement_entropy, ComplementEntropyLoss),
    Loss(*GUIDED),
    Loss(*GUIDED, {"alpha": 2.0}),
    Loss(*HCOT, {"groups": GROUPS}, least_classes=5, ordered_classes=("groups",)),
    Loss(*HCOT, {"groups": GROUPS, "level": "inner"}, least_classes=5, ordered_classes=("groups",)),
    Loss(*HCOT, {"groups": TREE.int(), "level": "outer"}, least_classes=5, ordered_classes=("groups",)),
    Loss(*HCOT, {"groups": torch.zeros(5).long()}, least_classes=5),
    Loss(focal_loss, FocalLoss),
    Loss(focal_loss, FocalLoss, {"gamma": 0.5}),
    Loss(poly1_cross_entropy, Poly1CrossEntropyLoss),
    Loss(poly1_cross_entropy, Poly1CrossEntropyLoss, {"epsilon": -0.5}),
    Loss(*LDAM, {"class_counts": COUNTS}, least_classes=5, ordered_classes=("class_counts",)),
    Loss(
        *LDAM,
        {"class_counts": COUNTS.double(), "max_margin": 2.0, "scale": 0.5},
        least_classes=5,
        ordered_classes=("class_counts",),
    ),
    Loss(*ADJUSTED, {"class_counts": COUNTS}, least_classes=5, ordered_classes=("class_counts",)),
    Loss(*ADJUSTED, {"class_counts": torch.full((5,), 7), "tau": 2.0}, least_classes=5),
    Loss(maxsup_loss, MaxSupLoss),
    Loss(maxsup_loss, MaxSupLoss, {"alpha": 3.0}),
    Loss(multiclass_hinge, MulticlassHingeLoss),
    Loss(*ZERO_ONE),
    Loss(*ZERO_ONE, {"kind": "polynomial", "temperature": 2.0}),
    Loss(*ZERO_ONE, {"kind": "beta_bernoulli", "temperature": 0.5, "a": 0.3}),
    Loss(*ZERO_ONE, {"kind": "beta_bernoulli", "a": torch.tensor(-1.5), "b": torch.tensor(0.5)}),
    Loss(label_smoothing_cross_entropy, LabelSmoothingCrossEntropyLoss),
    Loss(*SMOOTH_SVM, {"k": 1}, least_classes=2),
    Loss(*SMOOTH_SVM, {"k": 2}, least_classes=3),
    Loss(*SMOOTH_SVM, {"k": 2, "temperature": 0.1, "margin": 0.0}, least_classes=3),
    Loss(*SMOOTH_SVM, {"k": 4, "temperature": 3.0}, least_classes=5),
    Loss(topk_svm, TopKSVMLoss, {"k": 1}, least_classes=2),
    Loss(topk_svm, TopKSVMLoss, {"k": 3, "margin": 2.0}, least_classes=4),
]

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=str)
every_loss_of_rows = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if not loss.couples_rows], ids=str
)
every_fused_loss = pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.is_fused], ids=str)
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)


def some_logits(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (2 * torch.randn(shape or (ROWS, CLASSES), generator=generator, dtype=torch.float64)).to(dtype)


def some_target(*shape: int, classes: int = CLASSES) -> Tensor:
    return torch.randint(classes, shape or (ROWS,), generator=torch.Generator().manual_seed(8))


def some_distribution() -> Tensor:
    """Two classes a row, as of mixup; the third row has one class, the fourth all."""
    rows = torch.zeros(ROWS, CLASSES, dtype=torch.float64)
    first, second = some_target(), (some_target() + torch.arange(ROWS) % 3 + 1) % CLASSES
    rows[torch.arange(ROWS), first] += 0.3
    rows[torch.arange(ROWS), second] += 0.7
    rows[2] = torch.eye(CLASSES, dtype=torch.float64)[4]
    rows[3] = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    return rows


def some_weight() -> Tensor:
    return torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0], dtype=torch.float64)


def with_gradient(call: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = call(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def close(found: Tensor, expected: Tensor, relative: float = 1e-9) -> None:
    """Equal in shape and type, and in value relative to the largest entry."""
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=max(relative * largest, 1e-12))
