"""The tables of a network as constants of a traced graph.

Only a compiler asks for this file: the decorator imports ``torch._dynamo``, which costs a second and 70 MB.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from criterium.sorting import wiring as tables

wiring: Callable[[str, int, int], tuple[Tensor, Tensor]] = torch.compiler.assume_constant_result(
    tables.wiring
)  # type: ignore[no-untyped-call]
