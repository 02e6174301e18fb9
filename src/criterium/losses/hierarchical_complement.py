"""Hierarchical complement entropy: wrong classes made alike within the true class's group, and outside it."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import choice
from criterium.losses._contract import Criterion, Rows, forming_gradient, per_example_loss
from criterium.losses._logits import from_top, put
from criterium.losses.complement import absent, complement

LEVELS = ("both", "inner", "outer")
"""Which parts of the wrong classes count: those in the true class's group, outside it, or both."""


def hierarchical_complement_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    groups: Tensor,
    level: str = "both",
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the entropies of two softmaxes: over the wrong classes of the true class's group, and outside it.

    With G the group of y, P = softmax of the logits of G without y ("inner"), and Q = softmax of the logits
    outside G ("outer"),

    loss(s, y) = (1/|G|) Σ_{j∈G, j≠y} P_j log P_j + (1/C) Σ_{j∉G} Q_j log Q_j.

    Groups may be of any sizes: the inner term is divided by the size of the row's own group, the outer by the
    number of all classes. It does not depend on s_y. A sum over fewer than two classes is 0: the inner
    term of a group of one or two, the outer term of a group that leaves out one class or none. For a deeper
    tree the loss is the sum over the rows of `groups`, one a level.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        groups: (C,) whole numbers below 2^24, classes with the same number are a group; or (levels, C).
        level: "both", "inner" or "outer": which of the two terms.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> logits, groups = torch.tensor([[9.0, 1.0, 1.0, 2.0, 2.0]]), torch.tensor([0, 0, 0, 1, 1])
        >>> hierarchical_complement_entropy(logits, torch.tensor([0]), groups=groups)
        tensor(-0.3697)

    Reference:
        Chen et al., "Learning with Hierarchical Complement Objective", 2019, arXiv:1911.07257.

    Deviations:
        The authors' code holds CIFAR-100's 20 groups of 5 and needs groups of one size; unequal groups and
        more levels are not in it. They divide by 1 − p + 1e-7 and clamp logarithms at 1e-10, which makes
        terms vanish, and wrong in float32, for a sure model. Here both are formed in log-space.

    """
    rows = _rows(whole_numbers(groups), choice("level", level, LEVELS))
    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def whole_numbers(groups: Tensor) -> Tensor:
    """Return `groups` if they are (C,) or (L, C) whole numbers, else raise a `ValueError`."""
    if groups.dtype == torch.bool or groups.is_floating_point() or groups.is_complex():
        raise ValueError(f"groups: got dtype {groups.dtype}, expected whole numbers")
    if not 1 <= groups.dim() <= 2 or groups.numel() == 0:
        raise ValueError(f"groups: got shape {tuple(groups.shape)}, expected (C,) or (levels, C)")
    return groups


def _rows(groups: Tensor, level: str) -> Rows:
    def formed(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        low, classes = absent(logits), logits.shape[1]
        if groups.shape[-1] != classes:
            raise ValueError(
                f"groups: got shape {tuple(groups.shape)}, expected ({classes},) or (levels, {classes}),"
                " one number a class"
            )
        parts, others = [], put(from_top(logits), target.unsqueeze(1), -torch.inf)
        for numbers in groups.to(logits).reshape(-1, classes):
            # Arithmetic: comparisons and masks of booleans take several times as long. Adding `absent`, once
            # or more, takes a class out; adding 0 leaves its logit as it is, to the last digit.
            apart = (numbers - numbers[target].unsqueeze(1)).abs_()
            inner = torch.add(others, apart, alpha=low)
            own = apart.neg_().add_(1).relu_()
            size = own.sum(dim=1, keepdim=True)
            # A part without any class counts for nothing.
            if level != "outer":
                parts.append(_part(inner, (size > 1) / size))
            if level != "inner":
                parts.append(_part(torch.add(others, own, alpha=low), (size < classes).to(size) / classes))
        loss, gradient = parts[0]
        for more, slope in parts[1:]:
            loss, gradient = loss + more, gradient.add_(slope)
        return loss.squeeze(1), gradient

    return forming_gradient(formed)


def _part(wrong: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    of = complement(wrong)
    scale = scale * (of.top > absent(wrong) / 2)
    return of.negative_entropy * scale, of.slope(of.mean, scale)


class HierarchicalComplementEntropyLoss(Criterion):
    """The module of `hierarchical_complement_entropy`, with the same options.

    Example:
        >>> import torch
        >>> criterion = HierarchicalComplementEntropyLoss(groups=torch.tensor([0, 0, 0, 1]), level="inner")
        >>> criterion(torch.zeros(2, 4), torch.tensor([0, 3]))  # the mean of −log(2) / 3 and 0
        tensor(-0.1155)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        groups: Tensor,
        level: str = "both",
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            hierarchical_complement_entropy,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            groups=whole_numbers(groups),
            level=choice("level", level, LEVELS),
        )
