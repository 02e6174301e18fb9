"""What every criterion shares: shapes, ignored rows, class weights, soft targets and reduction.

A loss file states its maths for single rows, ``rows(logits (M, C), target (M,)) -> (M,)``;
`per_example_loss` gives it everything that `torch.nn.CrossEntropyLoss` users expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from criterium._checks import choice
from criterium._values import looked_at, pretended, transforming
from criterium.losses._dtensors import is_dtensor, replicated_as, whole
from criterium.losses._logits import bounded
from criterium.losses._targets import Targets, as_weight, check, full_precision

Rows = Callable[[Tensor, Tensor], Tensor]
"""``(M, C)`` logits and ``(M,)`` class indices, or ``(M, C)`` class probabilities, to ``(M,)`` losses."""

WithGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""As `Rows`, to ``(M,)`` losses and the ``(M, C)`` derivative of each loss by its row of logits."""

Prepare = Callable[[Tensor, Tensor | None], Tensor]
"""``(N, C)`` logits and an ``(N,)`` mask of the rows that count (None: all), to ``(N, C)`` logits."""


def per_example_loss(
    rows: Rows,
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    dense: Rows | None = None,
    prepare: Prepare | None = None,
) -> Tensor:
    """Apply a loss for rows to logits and targets of any shape that `torch.nn.CrossEntropyLoss` takes.

    ``mean`` is sum(w_i l_i) / sum(w_i) with w_i = sum_k q_ik weight_k, where q is the one-hot or the
    given class distribution of row i; it is 0, with zero gradient, where no row counts. Rows of weight 0
    are as ignored ones: whatever their logits hold. A soft target means the expectation
    l_i = sum_k q_ik loss(logits_i, k), evaluated only where q_ik is not 0; `dense` is its closed form over
    all classes, where a loss has one. `prepare` changes the logits by statistics over the batch before rows
    are looked at one by one.

    Sums and statistics are those of the batch that is given: with data parallelism, where processes average
    gradients, a weighted mean is by each process's own weights, as `torch.nn.CrossEntropyLoss`'s is.
    """
    if is_dtensor(logits) or is_dtensor(target):
        shared = per_example_loss(
            rows,
            whole(logits),
            whole(target),
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            dense=dense,
            prepare=prepare,
        )
        return replicated_as(logits if is_dtensor(logits) else target, shared)
    weight = as_weight(weight, logits.device)
    classes, shape = _check_logits(logits)
    soft = check(
        target,
        weight,
        reduction,
        classes=classes,
        indices=shape,
        probabilities=logits.shape,
        given=("logits", logits.shape),
    )
    with full_precision(logits.device):
        # Half precision has too few digits for sums over classes; float64 stays what it is.
        table = _classes_last(logits).to(torch.promote_types(logits.dtype, torch.float32))
        flat = _classes_last(target) if soft else target.reshape(-1)
        targets = Targets.read(flat, classes, table.dtype, weight, ignore_index)
        if not soft and prepare is None and reduction == "mean" and targets.all_alike:
            return mean_of(rows, table, targets.classes)
        if soft:
            rows = dense or expectation(rows)
        return targets.reduce(_losses(rows, table, targets, prepare), shape, reduction)


def _losses(rows: Rows, table: Tensor, targets: Targets, prepare: Prepare | None) -> Tensor:
    """Return the losses of rows; those that do not count bring neither NaN nor infinity into the gradient."""
    counting = targets.counting
    if counting is None or (prepare is None and looked_at(table)):
        prepared = table if prepare is None else prepare(table, None)
        losses = rows(prepared, targets.classes)
        # Of a row that has no loss its loss tells, so the logits need not be looked through.
        if counting is None or bool(losses.detach().isfinite().all()):
            return losses
    if isinstance(rows, forming_gradient) and prepare is None:
        skipped = rows.skipping(table, targets.classes, counting)
        if skipped is not None:
            return skipped
    table = table.where(counting.unsqueeze(1), 0)
    return rows(table if prepare is None else prepare(table, counting), targets.classes)


class FormsMean(Protocol):
    """Rows whose mean costs less than their losses and then the mean of these."""

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean of at least one loss."""
        ...


def mean_of(rows: Rows, logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean of at least one loss."""
    return rows.mean(logits, target) if _forms_mean(rows) else rows(logits, target).mean()


def _forms_mean(rows: object) -> TypeGuard[FormsMean]:
    # As `isinstance` of a runtime protocol, which takes up to 20 us of the 80 of a small loss.
    return hasattr(rows, "mean")


def cross_entropy(
    logits: Tensor, target: Tensor, *, reduction: str = "none", label_smoothing: float = 0.0
) -> Tensor:
    """Return PyTorch's cross-entropy, which ignores no index: what is to be ignored is known before."""
    return F.cross_entropy(
        logits, target, ignore_index=-(1 << 62), reduction=reduction, label_smoothing=label_smoothing
    )


class cross_entropy_of:
    """The cross-entropy of logits that a loss has changed; PyTorch forms its mean in one call."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor], *, label_smoothing: float = 0.0) -> None:
        """Keep the change, of ``(M, C)`` logits and the target, and the smoothing."""
        self._change = change
        self._smoothing = label_smoothing

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the ``(M,)`` losses for class indices or class probabilities."""
        return self._reduced(logits, target, "none")

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean of at least one loss."""
        return self._reduced(logits, target, "mean")

    def _reduced(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor:
        changed = self._change(logits, target)
        if target.is_floating_point():  # a class without probability counts for nothing, at -inf too
            changed = bounded(changed)
        return cross_entropy(changed, target, reduction=reduction, label_smoothing=self._smoothing)


class forming_gradient:
    """Turn a function that returns losses and their gradient into a differentiable loss for rows.

    For losses whose gradient is cheapest where their value is formed: autograd then records one step in
    place of many, and keeps one (M, C) tensor. `function` must be made of differentiable operations: a
    second derivative is taken by running it again with autograd on.
    """

    def __init__(self, function: WithGradient) -> None:
        """Keep the function."""
        self._function = function

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the ``(M,)`` losses."""
        return self._formed(logits, target, False)

    def skipping(self, logits: Tensor, target: Tensor, counting: Tensor) -> Tensor | None:
        """Return the losses, 0 with gradient 0 for rows that do not count; None where that takes a mask."""
        return None

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean of at least one loss in the same step of autograd."""
        return self._formed(logits, target, True)

    def _formed(self, logits: Tensor, target: Tensor, mean: bool) -> Tensor:
        loss: Tensor
        if torch.compiler.is_compiling() or transforming():
            kind = _TracedGradient if torch.compiler.is_compiling() else _TransformedGradient
            loss = kind.apply(logits, target, self._function)[0]  # type: ignore[no-untyped-call]
        elif logits.requires_grad and torch.is_grad_enabled():
            # Gathers nothing; autograd keeps the logits for it as it keeps whatever a gradient needs.
            seen = logits.gather(0, target.new_empty(0, 0)).grad_fn
            return _FormedGradient.apply(logits, target, self._function, mean, seen)  # type: ignore[no-untyped-call,no-any-return]
        elif _is_dual(logits):
            return _FormedGradient.apply(logits, target, self._function, mean, None)  # type: ignore[no-untyped-call,no-any-return]
        else:
            loss = self._function(logits, target)[0]
        return loss.mean() if mean else loss


def _is_dual(logits: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(logits).tangent is not None  # type: ignore[no-untyped-call]


class _FormedGradient(torch.autograd.Function):
    """Keeps the gradient; the logits, which a second derivative alone asks for, are kept by `seen`.

    So logits may change in place after the loss, as for losses that need them no more.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, function: WithGradient, mean: bool, seen: Any
    ) -> Tensor:
        loss, gradient = function(logits, target)
        ctx.save_for_backward(target, gradient)
        ctx.save_for_forward(gradient)
        ctx.function, ctx.mean, ctx.seen = function, mean, seen
        return loss.mean() if mean else loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = ctx.function(ctx.seen._saved_self, target)[1]
        each = upstream / gradient.shape[0] if ctx.mean else upstream.unsqueeze(1)
        return each * gradient, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        each: Tensor = (tangent * ctx.saved_tensors[-1]).sum(1)
        return each.mean() if ctx.mean else each


class _TracedGradient(torch.autograd.Function):
    """The same in the form that torch.compile takes, whose call is dearer."""

    @staticmethod
    def forward(logits: Tensor, target: Tensor, function: WithGradient) -> tuple[Tensor, Tensor]:
        return function(logits, target)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, WithGradient], output: tuple[Tensor, Tensor]
    ) -> None:
        logits, target, ctx.function = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(logits, target, output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        logits, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = ctx.function(logits, target)[1]
        return upstream.unsqueeze(1) * gradient, None, None


class _TransformedGradient(_TracedGradient):
    """The same in the form that torch.func takes."""

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, WithGradient], output: tuple[Tensor, Tensor]
    ) -> None:
        _TracedGradient.setup_context(ctx, inputs, output)
        ctx.save_for_forward(output[1])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        return (tangent * ctx.saved_tensors[-1]).sum(1), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], logits: Tensor, target: Tensor, function: WithGradient
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        # Rows know nothing of each other, so batches of rows are more rows.
        many = [
            value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip((logits, target), in_dims, strict=False)
        ]
        shape = many[0].shape
        flat = (value.flatten(0, 1) for value in many)
        loss, gradient = _TransformedGradient.apply(*flat, function)  # type: ignore[no-untyped-call]
        return (loss.reshape(shape[:2]), gradient.reshape(shape)), (0, 0)


def expectation(rows: Rows) -> Rows:
    """Return rows of soft targets: the expectation of a loss over the classes that have mass."""

    def expected(table: Tensor, distribution: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and pretended(table):
            # How many classes have mass is not to be known; all of them make the same shapes.
            rows(table.repeat_interleave(table.shape[1], 0), distribution.argsort(1).flatten())
            return (table * distribution).sum(1)
        # One evaluation for each class that has mass, also below 0 or NaN: two a row for mixup and CutMix.
        row, column = (distribution != 0).nonzero(as_tuple=True)
        losses = rows(table[row], column) * distribution[row, column]
        return losses.new_zeros(table.shape[0]).index_add(0, row, losses)

    return expected


def _classes_last(values: Tensor) -> Tensor:
    if values.dim() == 1:
        return values.unsqueeze(0)
    return values if values.dim() == 2 else values.movedim(1, -1).reshape(-1, values.shape[1])


def _check_logits(logits: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the number of classes and the shape of class indices, or raise a `ValueError`."""
    if not logits.is_floating_point():
        raise ValueError(f"logits: got dtype {logits.dtype}, expected a floating-point type")
    if logits.dim() == 0 or logits.shape[min(1, logits.dim() - 1)] == 0:
        raise ValueError(
            f"logits: got shape {tuple(logits.shape)}, expected (N, C), (C,) or (N, C, d1, ..., dK)"
            " with at least one class"
        )
    if logits.dim() == 1:
        return logits.shape[0], ()
    return logits.shape[1], (logits.shape[0], *logits.shape[2:])


class Criterion(nn.Module):
    """The module shell of a loss function: holds its options, and no parameters.

    Options are plain attributes, so a schedule can write ``criterion.temperature = 0.5``, and those that are
    real numbers go into the state dict. Options that are tensors, and `weight`, are buffers and move with
    ``.to()``; of these only `weight` changes its type.
    """

    weight: Tensor | None

    def __init__(
        self,
        function: Callable[..., Tensor],
        *,
        weight: Tensor | Sequence[float] | None,
        ignore_index: int | None,
        reduction: str,
        **options: Any,
    ) -> None:
        """Keep `function` and its options."""
        super().__init__()
        self.function = function
        self._options = tuple(options)
        self.register_buffer("weight", as_weight(weight, torch.get_default_device()))
        self.ignore_index = ignore_index
        self.reduction = choice("reduction", reduction, ("none", "mean", "sum"))
        for name, value in options.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of `logits` for `target`, shaped as for `torch.nn.CrossEntropyLoss`."""
        return self.function(
            logits,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            **self.options,
        )

    @property
    def options(self) -> dict[str, Any]:
        """The loss's own options, as they are now."""
        return {name: getattr(self, name) for name in self._options}

    def extra_repr(self) -> str:
        """Return the options that a printed module shows."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in (*self._options, "reduction"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Half precision has no room for the counts of classes, nor for the digits of a margin.
        given = {name: value for name, value in self._buffers.items() if name != "weight"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in given.items():
            moved = self._buffers[name]
            if value is not None and moved is not None and moved.dtype != value.dtype and not value.is_meta:
                self._buffers[name] = value.to(moved.device)
        return self

    def _numbers(self) -> list[str]:
        """Return the options that are real numbers: what a schedule may move."""
        kinds = self.function.__annotations__
        return [name for name in self._options if str(kinds.get(name, "")).startswith("float")]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._numbers():
            value = getattr(self, name)
            if isinstance(value, int | float):
                destination[prefix + name] = torch.tensor(value, dtype=torch.float64, device="cpu")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        *_, unexpected, _ = args
        for name in self._numbers():
            key = prefix + name
            if name not in self._buffers and key in state_dict:
                setattr(self, name, float(state_dict[key]))
                if key in unexpected:
                    unexpected.remove(key)
