"""The losses of the library fused with the output layer: the (N, C) logits are never held.

A block of classes at a time, the logits are computed and folded into a few numbers a row; the backward pass
computes them again. Values and gradients are those of the layer followed by the plain loss.

`LinearCriterion` fuses any head and criterion that have a fused form; ``linear_*`` are the losses as
functions of features, weight, target and bias, ``Linear*Loss`` as modules with a linear layer of their own.

Example:
    >>> import criterium, torch
    >>> features, weight, target = torch.randn(8, 16), torch.randn(1000, 16), torch.randint(1000, (8,))
    >>> loss = linear_focal_loss(features, weight, target, gamma=2.0)
    >>> torch.testing.assert_close(loss, criterium.functional.focal_loss(features @ weight.T, target))

"""

from criterium.linear.functions import (
    linear_complement_entropy,
    linear_cross_entropy,
    linear_exact_loss,
    linear_focal_loss,
    linear_guided_complement_entropy,
    linear_hierarchical_complement_entropy,
    linear_label_smoothing_cross_entropy,
    linear_ldam_loss,
    linear_logit_adjusted_cross_entropy,
    linear_maxsup_loss,
    linear_multiclass_hinge,
    linear_noised_topk_hinge,
    linear_poly1_cross_entropy,
    linear_smooth_topk_svm,
    linear_topk_cross_entropy,
    linear_topk_svm,
    linear_zero_one_relaxation,
)
from criterium.linear.modules import (
    LinearComplementEntropyLoss,
    LinearCriterion,
    LinearCrossEntropyLoss,
    LinearExactLoss,
    LinearFocalLoss,
    LinearGuidedComplementEntropyLoss,
    LinearHierarchicalComplementEntropyLoss,
    LinearLabelSmoothingCrossEntropyLoss,
    LinearLDAMLoss,
    LinearLogitAdjustedCrossEntropyLoss,
    LinearMaxSupLoss,
    LinearMulticlassHingeLoss,
    LinearNoisedTopKHingeLoss,
    LinearPoly1CrossEntropyLoss,
    LinearSmoothTopKSVMLoss,
    LinearTopKCrossEntropyLoss,
    LinearTopKSVMLoss,
    LinearZeroOneRelaxationLoss,
)

__all__ = [
    "LinearComplementEntropyLoss",
    "LinearCriterion",
    "LinearCrossEntropyLoss",
    "LinearExactLoss",
    "LinearFocalLoss",
    "LinearGuidedComplementEntropyLoss",
    "LinearHierarchicalComplementEntropyLoss",
    "LinearLDAMLoss",
    "LinearLabelSmoothingCrossEntropyLoss",
    "LinearLogitAdjustedCrossEntropyLoss",
    "LinearMaxSupLoss",
    "LinearMulticlassHingeLoss",
    "LinearNoisedTopKHingeLoss",
    "LinearPoly1CrossEntropyLoss",
    "LinearSmoothTopKSVMLoss",
    "LinearTopKCrossEntropyLoss",
    "LinearTopKSVMLoss",
    "LinearZeroOneRelaxationLoss",
    "linear_complement_entropy",
    "linear_cross_entropy",
    "linear_exact_loss",
    "linear_focal_loss",
    "linear_guided_complement_entropy",
    "linear_hierarchical_complement_entropy",
    "linear_label_smoothing_cross_entropy",
    "linear_ldam_loss",
    "linear_logit_adjusted_cross_entropy",
    "linear_maxsup_loss",
    "linear_multiclass_hinge",
    "linear_noised_topk_hinge",
    "linear_poly1_cross_entropy",
    "linear_smooth_topk_svm",
    "linear_topk_cross_entropy",
    "linear_topk_svm",
    "linear_zero_one_relaxation",
]
