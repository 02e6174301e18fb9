"""criterium: published ways of training a classifier, and a fair race between them.

Example:
    >>> import criterium, torch
    >>> criterion = criterium.ExactLoss(temperature=1.0)  # in place of torch.nn.CrossEntropyLoss()
    >>> criterion(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(0.7500)

"""

from __future__ import annotations

from typing import TYPE_CHECKING

from criterium._lazy import lazily
from criterium._version import __version__

if TYPE_CHECKING:
    from criterium import (
        data,
        evaluation,
        functional,
        heads,
        linear,
        models,
        objectives,
        order_statistics,
        sorting,
        statistics,
        training,
    )
    from criterium.architecture_search import ArchitectureSearch, search
    from criterium.comparison import Study, compare, open_study, resume
    from criterium.judging import compare_predictions
    from criterium.losses.complement import ComplementEntropyLoss
    from criterium.losses.exact import ExactLoss
    from criterium.losses.focal import FocalLoss
    from criterium.losses.guided_complement import GuidedComplementEntropyLoss
    from criterium.losses.hierarchical_complement import HierarchicalComplementEntropyLoss
    from criterium.losses.hinge import MulticlassHingeLoss
    from criterium.losses.isomax import IsoMaxLoss
    from criterium.losses.label_smoothing import LabelSmoothingCrossEntropyLoss
    from criterium.losses.ldam import LDAMLoss
    from criterium.losses.logit_adjustment import LogitAdjustedCrossEntropyLoss
    from criterium.losses.maxsup import MaxSupLoss
    from criterium.losses.noised_topk import NoisedTopKHingeLoss
    from criterium.losses.poly1 import Poly1CrossEntropyLoss
    from criterium.losses.smooth_topk_svm import SmoothTopKSVMLoss, TopKSVMLoss
    from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss
    from criterium.losses.zero_one import ZeroOneRelaxationLoss
    from criterium.techniques import orthogonal
    from criterium.techniques.activations import compress_activations
    from criterium.techniques.architecture import score_architecture
    from criterium.training import Recipe

# Imported when first asked for: `criterium --help` need not wait for torch.
_HOMES = {
    "ArchitectureSearch": "criterium.architecture_search",
    "ComplementEntropyLoss": "criterium.losses.complement",
    "ExactLoss": "criterium.losses.exact",
    "FocalLoss": "criterium.losses.focal",
    "GuidedComplementEntropyLoss": "criterium.losses.guided_complement",
    "HierarchicalComplementEntropyLoss": "criterium.losses.hierarchical_complement",
    "IsoMaxLoss": "criterium.losses.isomax",
    "LDAMLoss": "criterium.losses.ldam",
    "LabelSmoothingCrossEntropyLoss": "criterium.losses.label_smoothing",
    "LogitAdjustedCrossEntropyLoss": "criterium.losses.logit_adjustment",
    "MaxSupLoss": "criterium.losses.maxsup",
    "MulticlassHingeLoss": "criterium.losses.hinge",
    "NoisedTopKHingeLoss": "criterium.losses.noised_topk",
    "Poly1CrossEntropyLoss": "criterium.losses.poly1",
    "Recipe": "criterium.training",
    "SmoothTopKSVMLoss": "criterium.losses.smooth_topk_svm",
    "Study": "criterium.comparison",
    "TopKCrossEntropyLoss": "criterium.losses.topk_cross_entropy",
    "TopKSVMLoss": "criterium.losses.smooth_topk_svm",
    "ZeroOneRelaxationLoss": "criterium.losses.zero_one",
    "compare": "criterium.comparison",
    "compare_predictions": "criterium.judging",
    "compress_activations": "criterium.techniques.activations",
    "data": "criterium.data",
    "evaluation": "criterium.evaluation",
    "functional": "criterium.functional",
    "heads": "criterium.heads",
    "linear": "criterium.linear",
    "models": "criterium.models",
    "objectives": "criterium.objectives",
    "open_study": "criterium.comparison",
    "order_statistics": "criterium.order_statistics",
    "orthogonal": "criterium.techniques.orthogonal",
    "resume": "criterium.comparison",
    "score_architecture": "criterium.techniques.architecture",
    "search": "criterium.architecture_search",
    "sorting": "criterium.sorting",
    "statistics": "criterium.statistics",
    "training": "criterium.training",
}

__all__ = [
    "ArchitectureSearch",
    "ComplementEntropyLoss",
    "ExactLoss",
    "FocalLoss",
    "GuidedComplementEntropyLoss",
    "HierarchicalComplementEntropyLoss",
    "IsoMaxLoss",
    "LDAMLoss",
    "LabelSmoothingCrossEntropyLoss",
    "LogitAdjustedCrossEntropyLoss",
    "MaxSupLoss",
    "MulticlassHingeLoss",
    "NoisedTopKHingeLoss",
    "Poly1CrossEntropyLoss",
    "Recipe",
    "SmoothTopKSVMLoss",
    "Study",
    "TopKCrossEntropyLoss",
    "TopKSVMLoss",
    "ZeroOneRelaxationLoss",
    "__version__",
    "compare",
    "compare_predictions",
    "compress_activations",
    "data",
    "evaluation",
    "functional",
    "heads",
    "linear",
    "models",
    "objectives",
    "open_study",
    "order_statistics",
    "orthogonal",
    "resume",
    "score_architecture",
    "search",
    "sorting",
    "statistics",
    "training",
]


if not TYPE_CHECKING:
    __getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
