"""DTensors: which classes of an output layer are here, read off the placement of its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

from criterium.linear.sharded import Shard

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def replicated(name: str, value: Tensor) -> Tensor:
    """Return a tensor that is the same in all processes: itself, or what is here of a replicated DTensor.

    Raises:
        ValueError: a DTensor placed otherwise.
    """
    if not _is_dtensor(value):
        return value
    if not all(placement.is_replicate() for placement in value.placements):
        raise ValueError(f"{name}: got {_said(value)}, expected a plain tensor or Replicate()")
    return value.to_local()


def slices(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None, Shard | None]:
    """Return what is here of weight and bias, and of which classes; None where no placement tells.

    Raises:
        ValueError: a weight neither replicated nor cut along the classes over a mesh of one dimension;
            a process without a class; a bias placed otherwise.
    """
    if bias is not None and _place(bias) != _place(weight):
        raise ValueError(f"bias: got {_said(bias)}, expected it placed as the weight: {_said(weight)}")
    if not _is_dtensor(weight):
        return weight, bias, None
    placement = weight.placements[0]
    if weight.device_mesh.ndim != 1 or not (placement.is_shard(0) or placement.is_replicate()):
        raise ValueError(
            f"weight: got {_said(weight)}, expected Shard(0) or Replicate() on a mesh of one dimension,"
            ' such as mesh["classes"]'
        )
    local = weight.to_local()
    shard = _shard(weight, len(local)) if placement.is_shard(0) else None
    return local, bias.to_local() if bias is not None and _is_dtensor(bias) else bias, shard


def _shard(weight: DTensor, here: int) -> Shard:
    mesh, classes = weight.device_mesh, len(weight)
    each, rank = -(-classes // mesh.size()), mesh.get_local_rank()
    counts = [min(each, max(0, classes - start)) for start in range(0, each * mesh.size(), each)]
    if here != counts[rank]:
        raise ValueError(f"weight: got {here} classes in process {rank}, expected the cut {counts}")
    return Shard.at(mesh.get_group().group_name, counts, rank)


def _is_dtensor(value: Tensor) -> TypeGuard[DTensor]:
    # Without the import, which takes a second, and which whoever has a DTensor has made.
    return hasattr(value, "placements")


def _place(value: Tensor) -> object:
    return (value.device_mesh, value.placements) if _is_dtensor(value) else None


def _said(value: Tensor) -> str:
    if not _is_dtensor(value):
        return "a plain tensor"
    return f"a DTensor with {value.placements} on a mesh of shape {tuple(value.device_mesh.shape)}"
