"""How a tensor lies in memory, and what autograd is handed until the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from criterium.techniques.activations.stored import Stored


@dataclass(frozen=True)
class Layout:
    """The dimensions of a tensor from the outermost in memory to the innermost, and their sizes.

    Channels-last images are taken as they lie, so that nothing is moved and they come back that way.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    dense: bool

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """Read it from the strides; a tensor with gaps is taken in the order of its dimensions."""
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda dim: -strides[dim])
        dense = tensor.permute(order).is_contiguous()
        if not dense:
            order = list(range(tensor.dim()))
        return cls(tuple(order), tuple(tensor.shape[dim] for dim in order), dense)

    def numbers(self, tensor: Tensor) -> Tensor:
        """Return the numbers of `tensor` in their order in memory, one dimension."""
        return tensor.permute(self.order).reshape(-1)

    def identity(self, tensor: Tensor) -> tuple[object, ...]:
        """Return what two views of one storage have in common that hold the same numbers in this order."""
        shape: tuple[object, ...] = () if self.dense else (*tensor.shape, *tensor.stride())
        return tensor.dtype, tensor.storage_offset(), tensor.numel(), *shape

    def restore(self, numbers: Tensor) -> Tensor:
        """Return the tensor of `numbers`, in its own shape."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return numbers.view(self.shape).permute(inverse)


@dataclass(frozen=True)
class Packed:
    """A saved tensor in a form of its own."""

    stored: Stored
    layout: Layout

    def restore(self) -> Tensor:
        """Return the tensor, as near as the form is exact."""
        return self.layout.restore(self.stored.numbers())


class Passed:
    """A saved tensor, kept as it is."""

    def __init__(self, tensor: Tensor) -> None:
        """Keep the numbers without their history: an operation's result would keep the operation alive."""
        self._tensor = tensor.detach()
        self._version = tensor._version

    def restore(self) -> Tensor:
        """Return the tensor, if nobody has written to it, which autograd does not check under hooks."""
        if self._tensor._version != self._version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace"
                f" operation: {tuple(self._tensor.shape)} is at version {self._tensor._version}, expected"
                f" version {self._version}"
            )
        return self._tensor
