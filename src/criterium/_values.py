"""Whether the values of a tensor are there to be looked at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Whether torch.func is at work. PyTorch has no public name for it; without this one, always say yes.
transforming: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def pretended(values: Tensor) -> bool:
    """Say whether a tensor has a shape but no values: on the meta device, or one of `FakeTensorMode`."""
    return values.is_meta or type(values) not in (Tensor, nn.Parameter)


def looked_at(values: Tensor) -> bool:
    """Say whether a look at values costs nothing: a GPU's queue would stall, and traced ones have none."""
    return (
        values.device.type == "cpu"
        and not (torch.compiler.is_compiling() or transforming())
        and not pretended(values)
    )
