"""Complement entropy: how evenly the probability that misses the true class spreads over the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from criterium.losses._contract import Criterion, forming_gradient, per_example_loss
from criterium.losses._one_pass import in_one_pass


def complement_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the entropy of the softmax over the wrong classes, divided by the number of classes.

    loss(s, y) = (1/C) Σ_{j≠y} P_j log P_j, P = softmax of the logits of the classes other than y. It lies
    between −log(C − 1) / C, all wrong classes alike, and 0, and does not depend on s_y. The paper minimises
    it in a second update after each update for cross-entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> complement_entropy(torch.tensor([[9.0, 1.0, 1.0]]), torch.tensor([0]))  # −log(2) / 3
        tensor(-0.2310)

    Reference:
        Chen et al., "Complement Objective Training", ICLR 2019, arXiv:1903.01182: the complement entropy.

    Deviations:
        The authors form P_j = p_j / (1 − p_y + 1e-7) and log(P_j + 1e-10), which lets the loss vanish, and
        the gradient go wrong by cancellation, once p_y is close to 1 (in float32 from a gap of logits of
        about 16). Here both are formed in log-space from the wrong classes alone.

    """
    return per_example_loss(
        _rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


class Complement(NamedTuple):
    """The softmax P over the wrong classes of each row, as losses and their gradients need it."""

    probabilities: Tensor  # (M, C), exactly 0 for classes that do not count, if one does
    top: Tensor  # (M, 1), the largest logit that counts, as a constant
    centred: Tensor  # (M, C), z: the logits less that
    mean: Tensor  # (M, 1), Σ P z
    log_sum: Tensor  # (M, 1), log Σ exp z

    @property
    def negative_entropy(self) -> Tensor:
        """Σ P log P, (M, 1); 0 where no class counts."""
        return (self.mean - self.log_sum) * (self.top > -torch.inf)

    def flaw(self, own: Tensor) -> Tensor:
        """Return what `_logits.flaw` does, by the logits (M, 1) of the true class."""
        highest = torch.maximum(self.top, own.detach())
        return highest - highest

    def slope(self, towards: Tensor, scale: Tensor | float) -> Tensor:
        """Return scale · P (z − towards), (M, C)."""
        return (self.centred - towards).mul_(self.probabilities).mul_(scale)


def complement(wrong: Tensor) -> Complement:
    """Return the softmax of logits (M, C), −inf or far below where a class does not count; reuses memory.

    Fresh memory costs a page fault every 4 KiB, here as much as the arithmetic; so there is little of it.
    """
    # A common shift of the logits changes nothing, so that it needs no derivative.
    top = wrong.detach().amax(dim=1, keepdim=True)
    centred = wrong.sub_(top.clamp_min(torch.finfo(wrong.dtype).min)).clamp_min_(absent(wrong))
    probabilities = centred.softmax(dim=1)
    mean = (probabilities * centred).sum(dim=1, keepdim=True)
    # The largest exponential is exp(0), so its probability is one over their sum.
    log_sum = -probabilities.amax(dim=1, keepdim=True).log()
    return Complement(probabilities, top, centred, mean, log_sum)


def absent(logits: Tensor) -> float:
    """Return a logit far enough below all others for a probability of exactly zero.

    Minus infinity would make 0 · (−inf) of the products with it; its square is still finite.
    """
    return -math.sqrt(torch.finfo(logits.dtype).max)


@forming_gradient
def _formed(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    own = target.unsqueeze(1)
    of = complement(logits.scatter(1, own, -torch.inf))
    # ∂/∂s_j Σ P log P = P_j (z_j − Σ P z)
    share = 1 / logits.shape[1] + of.flaw(logits.gather(1, own))
    return (of.negative_entropy * share).squeeze(1), of.slope(of.mean, share)


_rows = in_one_pass(_formed, "complement")


class ComplementEntropyLoss(Criterion):
    """The module of `complement_entropy`, with the same options.

    Example:
        >>> import torch
        >>> ComplementEntropyLoss(reduction="sum")(torch.zeros(2, 3), torch.tensor([0, 1]))
        tensor(-0.4621)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(complement_entropy, weight=weight, ignore_index=ignore_index, reduction=reduction)
