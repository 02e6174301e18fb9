"""What every criterion shares: shapes, ignored rows, class weights, soft targets and reduction.

A loss file states its maths for single rows, ``rows(logits (M, C), target (M,)) -> (M,)``;
`per_example_loss` gives it everything that `torch.nn.CrossEntropyLoss` users expect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from criterium._checks import choice
from criterium.losses._targets import Targets, check, full_precision

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
    ignore_index: int = -100,
    reduction: str = "mean",
    dense: Rows | None = None,
    prepare: Prepare | None = None,
) -> Tensor:
    """Apply a loss for rows to logits and targets of any shape that `torch.nn.CrossEntropyLoss` takes.

    ``mean`` is sum(w_i l_i) / sum(w_i) with w_i = sum_k q_ik weight_k, where q is the one-hot or the
    given class distribution of row i; it is 0, with zero gradient, where no row counts. A soft target
    means the expectation l_i = sum_k q_ik loss(logits_i, k), evaluated only where q_ik > 0; `dense`
    is its closed form over all classes, where a loss has one. `prepare` changes the logits by
    statistics over the batch before rows are looked at one by one.
    """
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
        table = table if prepare is None else prepare(table, targets.valid)
        if soft:
            losses = (dense or expectation(rows))(table, targets.classes)
        elif reduction == "mean" and targets.all_alike:
            return mean_of(rows, table, targets.classes)
        else:
            losses = rows(table, targets.classes)
        return targets.reduce(losses, shape, reduction)


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
        return F.cross_entropy(changed, target, reduction=reduction, label_smoothing=self._smoothing)


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
        loss: Tensor
        if torch.compiler.is_compiling() or transforming():
            loss = _TransformedGradient.apply(logits, target, self._function)[0]  # type: ignore[no-untyped-call]
        elif logits.requires_grad and torch.is_grad_enabled():
            loss = _FormedGradient.apply(logits, target, self._function, False)  # type: ignore[no-untyped-call]
        else:
            loss = self._function(logits, target)[0]
        return loss

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean of at least one loss in the same step of autograd."""
        if torch.compiler.is_compiling() or transforming() or not logits.requires_grad:
            return self(logits, target).mean()
        loss: Tensor = _FormedGradient.apply(logits, target, self._function, True)  # type: ignore[no-untyped-call]
        return loss


# Whether torch.func is at work. PyTorch has no public name for it; without this one, always say yes.
transforming: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def _gradient(ctx: Any) -> Tensor:
    logits, target, gradient = ctx.saved_tensors
    return ctx.function(logits, target)[1] if torch.is_grad_enabled() else gradient  # type: ignore[no-any-return]


class _FormedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, function: WithGradient, mean: bool) -> Tensor:
        loss, gradient = function(logits, target)
        ctx.save_for_backward(logits, target, gradient)
        ctx.function, ctx.mean = function, mean
        return loss.mean() if mean else loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = _gradient(ctx)
        each = upstream / gradient.shape[0] if ctx.mean else upstream.unsqueeze(1)
        return each * gradient, None, None, None


class _TransformedGradient(torch.autograd.Function):
    """The same in the form that torch.func and torch.compile take, whose call is dearer."""

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
        return upstream.unsqueeze(1) * _gradient(ctx), None, None

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
        # One evaluation for each class that has mass: two a row for mixup and CutMix.
        row, column = (distribution > 0).nonzero(as_tuple=True)
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

    Options are plain attributes, so a schedule can write ``criterion.temperature = 0.5``; options that
    are tensors, and `weight`, are buffers and move with ``.to()``.
    """

    weight: Tensor | None

    def __init__(
        self,
        function: Callable[..., Tensor],
        *,
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        **options: Any,
    ) -> None:
        """Keep `function` and its options."""
        super().__init__()
        self.function = function
        self._options = tuple(options)
        self.register_buffer("weight", weight)
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
