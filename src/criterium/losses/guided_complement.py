"""Guided complement entropy: flat wrong classes, the more the surer the model is of the true one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from criterium._checks import non_negative
from criterium.losses._contract import Criterion, Rows, forming_gradient, per_example_loss
from criterium.losses._one_pass import in_one_pass
from criterium.losses.complement import complement


def guided_complement_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    alpha: float = 1 / 3,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the entropy of the wrong classes, times a power of the true class's probability.

    loss(s, y) = p_y^α Σ_{j≠y} P_j log P_j / log C, p = softmax of s, P = softmax of the logits of the classes
    other than y. It lies between −log(C − 1) / log C and 0; one loss in the place of cross-entropy, since
    only a large p_y lets the entropy count.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        alpha: the guiding power, at least 0; at 0 it is `complement_entropy` times C / log C.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits); 0 where there are fewer than two wrong classes.

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> guided_complement_entropy(torch.tensor([[9.0, 1.0, 1.0]]), torch.tensor([0]))  # −log 2 / log 3
        tensor(-0.6308)

    Reference:
        Chen et al., "Improving Adversarial Robustness via Guided Complement Entropy", ICCV 2019,
        arXiv:1903.09799: the guided complement entropy, with its normaliser log C.

    Deviations:
        Α is 1/3, not the rounded 0.333. The authors form P_j = p_j / (1 − p_y + 1e-7), log(P_j + 1e-10) and
        (p_y + 1e-7)^α, so their loss and gradient vanish once p_y is close to 1, where the loss is to be at
        its lowest, and are wrong by cancellation in float32. Here both are formed in log-space.

    """
    non_negative("alpha", alpha)
    return per_example_loss(
        _guided(alpha), logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def _guided(alpha: float) -> Rows:
    def formed(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        index = target.unsqueeze(1)
        of, own = complement(logits.scatter(1, index, -torch.inf)), logits.gather(1, index)
        # The largest z is 0; as a function of the logits it makes good that `top` is taken as a constant.
        log_sum = of.log_sum + of.centred.amax(dim=1, keepdim=True)
        entropy = (log_sum - of.mean) * (of.top > -torch.inf)
        # log of (1 − p_y) / p_y: neither is formed by subtraction.
        odds = (of.top - own) + log_sum
        # Of one class the entropy is 0, and so is log C.
        power = alpha * logsigmoid(-odds) if alpha else torch.zeros_like(odds)
        guide = power.exp() / math.log(max(logits.shape[1], 2)) + of.flaw(own)
        pull = -alpha * odds.sigmoid() * entropy
        gradient = of.slope(of.mean + pull, guide).scatter(1, index, guide * pull)
        return -(guide * entropy).squeeze(1), gradient

    return in_one_pass(forming_gradient(formed), "guided_complement", alpha)


class GuidedComplementEntropyLoss(Criterion):
    """The module of `guided_complement_entropy`, with the same options.

    Example:
        >>> import torch
        >>> GuidedComplementEntropyLoss(alpha=0.0, reduction="sum")(torch.zeros(2, 3), torch.tensor([0, 1]))
        tensor(-1.2619)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        alpha: float = 1 / 3,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            guided_complement_entropy,
            alpha=non_negative("alpha", alpha),
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )
