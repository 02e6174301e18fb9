"""All losses as functions, and what two of them need in a loop of one's own.

`criterium` has each loss as a module of the same name in CamelCase + ``Loss``. `mix_quadrants` and
`mixed_targets` prepare the batches of DisMax, `effective_number_weight` the class weights of LDAM.
"""

from criterium.losses.complement import complement_entropy
from criterium.losses.exact import exact_loss, expected_accuracy
from criterium.losses.focal import focal_loss
from criterium.losses.fractional_probability import fractional_probability_loss, mix_quadrants, mixed_targets
from criterium.losses.guided_complement import guided_complement_entropy
from criterium.losses.hierarchical_complement import hierarchical_complement_entropy
from criterium.losses.hinge import multiclass_hinge
from criterium.losses.isomax import isomax_loss
from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.ldam import effective_number_weight, ldam_loss
from criterium.losses.logit_adjustment import logit_adjusted_cross_entropy
from criterium.losses.maxsup import maxsup_loss
from criterium.losses.noised_topk import noised_topk_hinge
from criterium.losses.poly1 import poly1_cross_entropy
from criterium.losses.smooth_topk_svm import smooth_topk_svm, topk_svm
from criterium.losses.topk_cross_entropy import topk_cross_entropy
from criterium.losses.zero_one import zero_one_relaxation

__all__ = [
    "complement_entropy",
    "effective_number_weight",
    "exact_loss",
    "expected_accuracy",
    "focal_loss",
    "fractional_probability_loss",
    "guided_complement_entropy",
    "hierarchical_complement_entropy",
    "isomax_loss",
    "label_smoothing_cross_entropy",
    "ldam_loss",
    "logit_adjusted_cross_entropy",
    "maxsup_loss",
    "mix_quadrants",
    "mixed_targets",
    "multiclass_hinge",
    "noised_topk_hinge",
    "poly1_cross_entropy",
    "smooth_topk_svm",
    "topk_cross_entropy",
    "topk_svm",
    "zero_one_relaxation",
]
