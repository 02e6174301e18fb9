"""The tables of a network as constants of a traced graph.

Only a compiler asks for this file: the decorator imports ``torch._dynamo``, which costs a second and 70 MB.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from criterium.sorting import wiring as tables

_constant = torch.compiler.assume_constant_result
wiring: Callable[[str, int, int], tuple[Tensor, Tensor]] = _constant(tables.wiring)  # type: ignore[no-untyped-call]
