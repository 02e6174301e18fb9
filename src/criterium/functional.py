"""All losses as functions; `criterium` has each as a module of the same name in CamelCase + ``Loss``."""

from criterium.losses.complement import complement_entropy
from criterium.losses.exact import exact_loss, expected_accuracy
from criterium.losses.fractional_probability import fractional_probability_loss
from criterium.losses.isomax import isomax_loss
from criterium.losses.noised_topk import noised_topk_hinge
from criterium.losses.topk_cross_entropy import topk_cross_entropy

__all__ = [
    "complement_entropy",
    "exact_loss",
    "expected_accuracy",
    "fractional_probability_loss",
    "isomax_loss",
    "noised_topk_hinge",
    "topk_cross_entropy",
]
