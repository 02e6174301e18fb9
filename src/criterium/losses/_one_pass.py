"""Losses for rows that have a kernel of their own on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from criterium._values import transforming
from criterium.losses._contract import Rows, forming_gradient, mean_of

_TRITON = importlib.util.find_spec("triton") is not None
_TYPES = (torch.float32, torch.bfloat16, torch.float16)

ClassNumbers = Callable[[Tensor], Tensor]
"""``(M, C)`` logits to ``(C,)`` numbers of their type, on their device."""


def usable(logits: Tensor) -> bool:
    """Say whether the kernels take `logits`; where they cannot be looked into, they do not."""
    return (
        logits.is_cuda
        and _TRITON
        and logits.dtype in _TYPES
        and not (torch.compiler.is_compiling() or transforming())
    )


class in_one_pass(forming_gradient):
    """A loss for rows that forms value and gradient in one pass over the logits where they are on a GPU.

    Elsewhere, and for a second derivative, it is its reference.
    """

    def __init__(
        self,
        reference: Rows,
        loss: str,
        option: float = 0.0,
        *,
        scale: float = 1.0,
        shift: ClassNumbers | None = None,
        margin: ClassNumbers | None = None,
    ) -> None:
        """Keep the reference and what `_kernels.losses` is to be told to compute the same."""
        self._reference = reference

        def formed(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            from criterium.losses import _kernels

            if torch.is_grad_enabled() and logits.requires_grad:
                counting = target != _kernels.SKIPPED_INDEX
                known = logits.where(counting.unsqueeze(1), 0)
                value = reference(known, target.where(counting, 0)).where(counting, 0)
                return value, torch.autograd.grad(value.sum(), logits, create_graph=True)[0]
            return _kernels.losses(
                logits,
                target,
                loss,
                option,
                scale=scale,
                shift=None if shift is None else shift(logits),
                margin=None if margin is None else margin(logits),
                slope=logits.requires_grad,
            )

        super().__init__(formed)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the ``(M,)`` losses."""
        return super().__call__(logits, target) if usable(logits) else self._reference(logits, target)

    def skipping(self, logits: Tensor, target: Tensor, counting: Tensor) -> Tensor | None:
        """Return the losses, 0 with gradient 0 for rows that do not count; None where that takes a mask."""
        if not usable(logits):
            return None
        from criterium.losses import _kernels

        return super().__call__(logits, target.where(counting, _kernels.SKIPPED_INDEX))

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean of at least one loss."""
        if usable(logits):
            return super().mean(logits, target)
        return mean_of(self._reference, logits, target)
