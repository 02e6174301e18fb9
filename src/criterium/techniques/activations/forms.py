"""In which form a saved tensor is kept, for the operation that saves it."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium.techniques.activations.levels import Level
from criterium.techniques.activations.recognise import Operation, in_parametrization
from criterium.techniques.activations.stored import Mask, Nothing, Plain, Stored, Whole

SMALL = 1024
"""Tensors with fewer numbers are kept as they are."""

_WHOLE = (torch.int16, torch.int32, torch.int64)


def form_of(tensor: Tensor, operation: Operation | None, level: Level) -> str:
    """Return the form in which to keep a tensor that is no parameter.

    "exact" or "swapped" as it is; "codes" quantised, "smooth" at more bits; and the exact forms "flags",
    "whole", "sign" (above 0 or not), "inside" (between 0 and 6 or not), "dropout" (0 or one other number) and
    "nothing".
    """
    # An expanded tensor has more numbers than memory.
    overlaps = tensor.nbytes > tensor.untyped_storage().nbytes()
    if tensor.numel() < SMALL or overlaps:
        return "exact"
    if level.bits is None:
        return "swapped" if level.swap else "exact"
    if not tensor.is_floating_point():
        return "flags" if tensor.dtype == torch.bool else "whole" if tensor.dtype in _WHOLE else "exact"
    kind = operation.kind if operation is not None else None
    if kind is None or tensor.dim() < 2:
        return "exact"
    if kind == "pool":
        # Elsewhere than on these the maximum may be looked for anew.
        return "nothing" if tensor.device.type in ("cpu", "cuda") else "exact"
    if kind == "dropout":
        return "exact" if tensor.requires_grad else "dropout"
    # Constants of a product and a normalisation's statistics take no gradient.
    if kind == "norm":
        return "codes" if tensor.requires_grad and level.norms else "exact"
    if kind == "product":
        return "codes" if tensor.requires_grad and not in_parametrization() else "exact"
    return "codes" if kind == "layer" else kind


def exact_form(numbers: Tensor, form: str) -> Stored:
    """Return `numbers` in one of the forms that lose nothing of what the backward pass needs."""
    if form == "swapped":
        return Plain.of(numbers)
    if form == "whole":
        return Whole.of(numbers)
    if form == "nothing":
        return Nothing(numbers.new_empty(0), numbers.numel())
    value = numbers.amax() if form == "dropout" else numbers.new_ones(())
    chosen = numbers != 0 if form in ("flags", "dropout") else numbers > 0
    return Mask.of(chosen & (numbers < 6) if form == "inside" else chosen, value)
