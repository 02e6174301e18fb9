"""Classes spread over processes: each holds the rows of the weight for a slice of them, and all the features.

Every process folds its own classes; the states are gathered and merged, so that all know the statistics of
all classes and compute the same loss. The gradient of the features is summed over processes, that of a class
stays with the process that holds it. What goes over the wire is a few numbers a row, whatever C is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Shard:
    """Which classes this process holds: those of the ranks before it come first."""

    def __init__(self, group: dist.ProcessGroup, held: int, device: torch.device) -> None:
        """Learn how many classes each process holds."""
        self._group = group
        counts = [int(count) for count in self.gather(torch.tensor([held], device=device))]
        rank = dist.get_rank(group)
        self.first = sum(counts[:rank])
        self.classes = sum(counts)

    def gather(self, value: Tensor) -> list[Tensor]:
        """Return the value of each process, in the order of ranks; all are of one shape."""
        value = value.contiguous()
        values = [torch.empty_like(value) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(values, value, group=self._group)
        return values

    def spread(self, value: Tensor) -> Tensor:
        """Return a value that all processes have, to be used on what each holds: its gradients are summed."""
        result: Tensor = _Spread.apply(value, self)  # type: ignore[no-untyped-call]
        return result

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over processes."""
        value = value.contiguous()
        dist.all_reduce(value, group=self._group)
        return value


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.sum(slope), None
