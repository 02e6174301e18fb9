"""Which losses have a fused form, and with which options."""

from __future__ import annotations

import inspect
from typing import Any

from criterium._checks import nearest
from criterium.linear.candidates import candidates_form, noised_form, topk_svm_form
from criterium.linear.parts import Form, Plain, cross_entropy
from criterium.linear.sweeps import (
    complement_form,
    exact_form,
    guided_form,
    hierarchical_form,
    hinge_form,
    isomax_form,
    label_smoothing_form,
    ldam_form,
    logit_adjusted_form,
    maxsup_form,
    softmax_form,
    zero_one_form,
)
from criterium.losses.complement import complement_entropy
from criterium.losses.exact import exact_loss
from criterium.losses.focal import focal_loss
from criterium.losses.guided_complement import guided_complement_entropy
from criterium.losses.hierarchical_complement import hierarchical_complement_entropy
from criterium.losses.hinge import multiclass_hinge
from criterium.losses.isomax import isomax_loss
from criterium.losses.label_smoothing import label_smoothing_cross_entropy
from criterium.losses.ldam import ldam_loss
from criterium.losses.logit_adjustment import logit_adjusted_cross_entropy
from criterium.losses.maxsup import maxsup_loss
from criterium.losses.noised_topk import noised_topk_hinge
from criterium.losses.poly1 import poly1_cross_entropy
from criterium.losses.smooth_topk_svm import smooth_topk_svm, topk_svm
from criterium.losses.topk_cross_entropy import topk_cross_entropy
from criterium.losses.zero_one import zero_one_relaxation

FORMS: dict[Plain, Form] = {
    cross_entropy: softmax_form(cross_entropy),
    complement_entropy: complement_form,
    exact_loss: exact_form,
    focal_loss: softmax_form(focal_loss),
    guided_complement_entropy: guided_form,
    hierarchical_complement_entropy: hierarchical_form,
    isomax_loss: isomax_form,
    label_smoothing_cross_entropy: label_smoothing_form,
    ldam_loss: ldam_form,
    logit_adjusted_cross_entropy: logit_adjusted_form,
    maxsup_loss: maxsup_form,
    multiclass_hinge: hinge_form,
    noised_topk_hinge: noised_form,
    poly1_cross_entropy: softmax_form(poly1_cross_entropy),
    smooth_topk_svm: candidates_form(smooth_topk_svm, lambda options: int(options["k"]) + 1),
    topk_cross_entropy: candidates_form(topk_cross_entropy, lambda options: len(options["p_k"]) + 1),
    topk_svm: topk_svm_form,
    zero_one_relaxation: zero_one_form,
}
"""The fused form of each plain loss."""

_CONTRACT = ("logits", "target", "weight", "ignore_index", "reduction")
_ADDED: dict[Plain, dict[str, Any]] = {smooth_topk_svm: {"candidates": None}}
"""Options that only the fused form has."""


def _options_of(plain: Plain) -> dict[str, Any]:
    parameters = inspect.signature(plain).parameters.values()
    own = {each.name: each.default for each in parameters if each.name not in _CONTRACT}
    return own | _ADDED.get(plain, {})


OPTIONS: dict[Plain, dict[str, Any]] = {plain: _options_of(plain) for plain in FORMS}
"""Each loss's own options and their defaults; `inspect.Parameter.empty` where there is none."""


def complete(plain: Plain, given: dict[str, Any]) -> dict[str, Any]:
    """Return the loss's own options, those not given at their defaults."""
    known = OPTIONS[plain]
    for name in given:
        if name not in known:
            raise ValueError(
                f"{name}: linear_{plain.__name__} has no such option; it has {', '.join(known) or 'none'}"
                f"{nearest(name, known)}"
            )
    options = known | given
    for name, value in options.items():
        if value is inspect.Parameter.empty:
            raise ValueError(f"{name}: linear_{plain.__name__} needs it")
    return options
