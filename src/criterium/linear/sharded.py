"""Classes spread over processes: each holds the rows of the weight for a slice of them, and all the features.

Every process accumulates its own classes; the states are gathered and merged, so that all know the
statistics of all classes and compute the same loss. The gradient of the features is summed over processes,
that of a class stays with the process that holds it. A few numbers a row are sent, however large C is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Shard(NamedTuple):
    """Which classes this process holds: those of the ranks before it come first."""

    group: str
    """The name of the process group, by which operators are told of it; empty for one process alone."""
    first: int
    classes: int
    """The number of all classes."""

    @classmethod
    def in_group(cls, group: dist.ProcessGroup, held: int, device: torch.device) -> Shard:
        """Learn how many classes each process holds."""
        name: str = group.group_name
        counts = [int(count) for count in cls(name, 0, 0).gather(torch.tensor([held], device=device))]
        return cls.at(name, counts, dist.get_rank(group))

    @classmethod
    def at(cls, group: str, counts: list[int], rank: int) -> Shard:
        """Return the slice of a rank, from how many classes each process holds; all see the same error."""
        if min(counts) < 1:
            raise ValueError(f"head: got {counts} classes in the processes, expected at least 1 in each")
        return cls(group, sum(counts[:rank]), sum(counts))

    def gather(self, value: Tensor) -> list[Tensor]:
        """Return the value of each process, in the order of ranks; all are of one shape."""
        if not self.group:
            return [value]
        group = _group(self.group)
        value = value.contiguous()
        values = [torch.empty_like(value) for _ in range(dist.get_world_size(group))]
        dist.all_gather(values, value, group=group)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over processes."""
        if self.group:
            value = value.contiguous()
            dist.all_reduce(value, group=_group(self.group))
        return value

    def spread(self, value: Tensor) -> Tensor:
        """Return a value that all processes have, to be used on what each holds: its gradients are summed."""
        return _spread(value, self.group) if self.group else value


def _group(name: str) -> dist.ProcessGroup:
    # What PyTorch's own collectives in compiled graphs use; there is no public name.
    group: dist.ProcessGroup = getattr(dist.distributed_c10d, "_resolve_process_group")(name)  # noqa: B009
    return group


@torch.library.custom_op("criterium::spread", mutates_args=())
def _spread(value: Tensor, group: str) -> Tensor:
    return value.clone()


@torch.library.custom_op("criterium::sum_over_processes", mutates_args=())
def _sum(value: Tensor, group: str) -> Tensor:
    return Shard(group, 0, 0).sum(value.clone())


@_spread.register_fake
@_sum.register_fake
def _(value: Tensor, group: str) -> Tensor:
    return torch.empty_like(value)


def _note_group(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.group = inputs[1]


def _sum_slopes(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
    return _sum(slope, ctx.group), None


_spread.register_autograd(_sum_slopes, setup_context=_note_group)
