"""Activations kept at a few bits between the forward and the backward pass, in any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from criterium.techniques.activations.forms import exact_form, form_of
from criterium.techniques.activations.layout import Layout, Packed, Passed
from criterium.techniques.activations.levels import Level, find_level
from criterium.techniques.activations.quantise import GROUP
from criterium.techniques.activations.recognise import (
    Operation,
    Watch,
    is_parameter,
    under_compilation,
)
from criterium.techniques.activations.sensitivity import Layer, Layers
from criterium.techniques.activations.stored import Quantised, Stored

_SMOOTH_BITS = 4
"""The fewest for operations whose gradient is not linear in what they save."""


@dataclass(frozen=True)
class Saved:
    """What was kept of one tensor: by which operation, in what form and at how many bytes."""

    operation: str
    shape: tuple[int, ...]
    form: str
    plain_bytes: int
    stored_bytes: int


def compress_activations(
    bits: int | None = None, *, level: str | None = None, generator: torch.Generator | None = None
) -> Compression:
    """Return a context manager under which autograd keeps activations at a few bits each.

    What convolutions, linear layers, matrix products and normalisations save for the backward pass is
    rounded at random to 2^bits levels between the ends of its group of up to 256 numbers of one sample. The
    rounding is unbiased, and so is the gradient of what is linear in the saved numbers. The forward pass
    does not change.

    - ReLU, leaky ReLU, ReLU6 and dropout keep one bit a number, pooling no numbers; exact.
    - Integers and flags are kept in the fewest bytes that hold them; exact.
    - GELU, SiLU and their like, whose gradient is not linear in what they save, keep at least 4 bits.
    - Kept as they are: parameters, weights (and the factors that a parametrisation makes one of), leaves
      that take a gradient, their views and casts; fewer than 1,024 numbers; tensors of one dimension;
      statistics of normalisations and constants of products; what `keep` was called on; and what any other
      operation saves (softmax, attention, losses, division, custom functions).
    - A tensor that several operations save is stored once.

    Levels, after the authors:

    | level | what |
    | --- | --- |
    | L0 | nothing; measures |
    | L1 | 4 bits, normalisations exact |
    | L2 | 4 bits |
    | L3, L3.1 | 2 bits on average, shared out by need among samples and layers |
    | L4 | L3, and the codes move from a GPU to pinned host memory |
    | L5 | as L4 |
    | swap | nothing is rounded; activations move from a GPU to pinned host memory |

    L3.1 and L5 change the authors' handling of device memory as well; that is now for PyTorch's allocator
    (``PYTORCH_ALLOC_CONF=expandable_segments:True``), so they equal L3 and L4.

    With other parts of PyTorch: autocast, `DistributedDataParallel` and ``checkpoint(use_reentrant=False)``
    work; what lies inside a checkpointed part is not kept anyway. ``use_reentrant=True`` computes from the
    inputs it saved, so they are kept exact. `torch.compile`: of a model compiled before, integers and
    flags are compressed but numbers are kept as they are, since only the compiler knows what they are for;
    inside a compiled function it raises. `torch.func` transforms refuse saved-tensor hooks. Replicas of
    `nn.DataParallel` run in threads of their own, outside the context. A second backward pass
    (``create_graph=True``) sees the same rounded numbers.

    Args:
        bits: 1 to 8 bits a number; all samples and layers alike if no level is given.
        level: one of the above; "L3" if neither is given. `bits` replaces its number of bits.
        generator: where the noise of the rounding comes from, on the device of the model; the device's
            global one if not given, which then draws other numbers for dropout than without compression.

    Returns:
        A `Compression`. It may be used for one forward pass after another; the adaptive levels then learn
        from each backward pass how to share bits out among layers.

    Raises:
        ValueError: for bits outside 1 to 8, bits for a level that rounds nothing, or an unknown level.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
        >>> inputs, target = torch.randn(64, 256), torch.arange(64) % 10
        >>> with compress_activations(bits=2) as compression:
        ...     loss = torch.nn.functional.cross_entropy(model(inputs), target)
        >>> loss.backward()
        >>> round(compression.plain_bytes / compression.stored_bytes, 1)
        9.5

    Reference:
        Jianfei Chen, Lianmin Zheng, Zhewei Yao, Dequan Wang, Ion Stoica, Michael W. Mahoney and Joseph E.
        Gonzalez, "ActNN: Reducing Training Memory Footprint via 2-Bit Activation Compressed Training", ICML
        2021, arXiv:2104.14129.

    Deviations:
        Saved-tensor hooks in place of a second set of layers; scale and offset in float32, not bfloat16,
        which made the rounding biased; groups follow the numbers' order in memory and share a sample evenly
        (300 numbers make two groups of 152, not of 256), and samples of fewer than 128 numbers share groups.

    """
    return Compression(find_level(bits, level), generator)


class Compression:
    """What `compress_activations` returns: a context manager that also tells what was kept.

    Attributes:
        saved: a `Saved` for each tensor kept under the last ``with``, parameters apart.

    """

    def __init__(self, level: Level, generator: torch.Generator | None = None) -> None:
        """Set the level."""
        self.level, self.generator = level, generator
        self.saved: list[Saved] = []
        self._layers = Layers(level.bits) if level.adaptive and level.bits is not None else None
        self._operation: Operation | None = None
        self._layer: Layer | None = None
        self._open: ExitStack | None = None
        # A storage's address means this storage as long as there is a weak reference to it.
        self._storages: dict[int, StorageWeakRef] = {}
        self._marked: set[int] = set()
        self._counted: set[tuple[int, int]] = set()
        self._stored: dict[tuple[object, ...], Stored | None] = {}

    @property
    def plain_bytes(self) -> int:
        """Bytes that autograd would have kept without compression, parameters apart."""
        return sum(saved.plain_bytes for saved in self.saved)

    @property
    def stored_bytes(self) -> int:
        """Bytes that were kept on the device."""
        return sum(saved.stored_bytes for saved in self.saved)

    def keep(self, tensor: Tensor) -> Tensor:
        """Return `tensor`, whose numbers are kept as they are by what comes after, under this ``with``."""
        self._marked.add(self._storage(tensor))
        return tensor

    def __enter__(self) -> Self:
        """Begin to compress what is saved for backward passes."""
        if under_compilation():
            raise RuntimeError(
                "compress_activations does not work inside a function given to torch.compile;"
                " compile the model, and call it under the context"
            )
        if self._open is not None:
            raise RuntimeError("this compression is open already; use another one inside it")
        self.saved = []
        if self._layers is not None:
            self._layers.begin()
        with ExitStack() as stack:
            stack.enter_context(saved_tensors_hooks(self._pack, _unpack))
            stack.enter_context(Watch(self._call))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        """Compress no more; what was saved stays until its backward pass is over."""
        assert self._open is not None
        stack, self._open = self._open, None
        self._storages, self._stored, self._counted, self._marked = {}, {}, set(), set()
        stack.close()

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        outer = self._operation, self._layer
        self._operation, self._layer = Operation(function, args, kwargs), None
        try:
            result = function(*args, **kwargs)
            if self._layer is not None and isinstance(result, Tensor) and result.requires_grad:
                result.register_hook(self._layer.observe)
            return result
        finally:
            self._operation, self._layer = outer

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        address: int = storage._cdata
        if address not in self._storages:
            self._storages[address] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        return address

    def _pack(self, tensor: Tensor) -> Packed | Passed:
        operation = self._operation
        # Subclasses keep their numbers in ways of their own; tensors on "meta" have none.
        ours = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if (
            not ours
            or tensor.is_meta
            or is_parameter(tensor)
            or (operation is not None and operation.is_weight(tensor))
        ):
            return Passed(tensor)
        layout, whose = Layout.of(tensor), (self._storage(tensor), tensor._version)
        form = "exact" if whose[0] in self._marked else form_of(tensor, operation, self.level)
        key = (*whose, form) if form == "exact" else (*whose, form, *layout.identity(tensor))
        if key not in self._stored:
            stored = None if form == "exact" else self._store(tensor, layout, form)
            size = min(tensor.nbytes, tensor.untyped_storage().nbytes())
            plain = 0 if whose in self._counted else size
            self._counted.add(whose)
            name = "" if operation is None else operation.name
            kept = size if stored is None else stored.nbytes
            self.saved.append(Saved(name, tuple(tensor.shape), form, plain, kept))
            self._stored[key] = stored
        found = self._stored[key]
        return Passed(tensor) if found is None else Packed(found, layout)

    def _store(self, tensor: Tensor, layout: Layout, form: str) -> Stored:
        numbers = layout.numbers(tensor)
        if form not in ("codes", "smooth"):
            return exact_form(numbers, form)
        samples = layout.shape[0]
        # Samples of fewer numbers than half a group share groups, and then bits.
        rows = numbers.view(samples if numbers.numel() >= samples * GROUP // 2 else 1, -1)
        return Quantised.of(rows, self._bits(tensor, rows, form), self.generator, swap=self.level.swap)

    def _bits(self, tensor: Tensor, rows: Tensor, form: str) -> int | Tensor:
        """Return the bits of all rows, or of each."""
        assert self.level.bits is not None
        if form == "smooth":
            return max(self.level.bits, _SMOOTH_BITS)
        if self._layers is None or self._operation is None:
            return self.level.bits
        if self._operation.kind == "norm":
            return Layer(self._layers.last_bits()).share(rows, 1.0)
        self._layer = self._layers.call(self._operation.name, tensor.shape)
        return self._layer.share(rows, self._operation.sensitivity(tensor))


def _unpack(kept: Packed | Passed) -> Tensor:
    return kept.restore()
