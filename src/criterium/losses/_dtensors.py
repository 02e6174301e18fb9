"""DTensors as logits and targets: every process has the loss of the whole batch, and its own gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_dtensor(value: Tensor) -> TypeGuard[DTensor]:
    """Say whether a tensor is one, without the import, which takes a second."""
    return hasattr(value, "placements")


def whole(value: Tensor) -> Tensor:
    """Return all of it as a plain tensor."""
    return value.full_tensor() if is_dtensor(value) else value


def replicated_as(like: Tensor, value: Tensor) -> Tensor:
    """Return a tensor that all processes have as a DTensor on the mesh of another."""
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(like, DTensor)
    mesh = like.device_mesh
    return DTensor.from_local(value, mesh, [Replicate()] * mesh.ndim, run_check=False)
