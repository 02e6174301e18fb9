"""EXACT: train on expected accuracy itself (Karpukhin, Dereka, Kolesnikov, 2022, arXiv:2205.09615)."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import at_least, non_negative, positive
from criterium.losses._contract import Criterion, Rows, forming_gradient, per_example_loss
from criterium.losses._logits import flaw
from criterium.order_statistics.top_probability import log_top_probability, top_probability


def expected_accuracy(
    logits: Tensor, target: Tensor, *, temperature: float = 1.0, k: int = 1, log: bool = False
) -> Tensor:
    r"""Return the probability that each row is classified correctly when its logits carry unit noise.

    With independent N(0, 1) noise on logits s / T, and d_j = (s_y - s_j) / T,

    .. math:: P = \int \phi(t) \prod_{j \ne y} \Phi(t + d_j) \, dt,

    and for k > 1 the product becomes the probability that at most k - 1 classes beat class y.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        temperature: T > 0; the standard deviation of the noise in units of the logits is T.
        k: the true class counts as found among the k largest, 1 <= k <= C.
        log: return log P, exact also where P itself would be 0.

    Returns:
        (N,) probabilities, float32 (float64 for float64 logits). Absolute error below 1e-6 in float32.

    Raises:
        ValueError: for arguments of other shapes or ranges.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0]])
        >>> expected_accuracy(logits, torch.tensor([0]))
        tensor([0.8658])
        >>> expected_accuracy(logits, torch.tensor([0]), k=3)
        tensor([1.])
        >>> expected_accuracy(50 * logits, torch.tensor([1]), log=True)
        tensor([-2505.1777])

    Reference:
        Karpukhin et al. 2022: expected accuracy with normal noise on the logits.

    Deviations:
        The authors integrate over C - 1 dimensions by Monte Carlo; this is the same integral, done
        deterministically, so it is exact in evaluation too. `k` is not in the paper.

    """
    return per_example_loss(_rows(temperature, None, k, log), logits, target, reduction="none")


def exact_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    temperature: float = 1.0,
    margin: float | None = None,
    standardize: bool = False,
    k: int = 1,
    log: bool = False,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Return 1 - expected accuracy, or minus its logarithm.

    .. math:: \ell = 1 - \int \phi(t) \prod_{j \ne y} \Phi(t + d_j) \, dt, \quad
        d_j = \min(s_y - s_j, m) / T.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices of shape (N,), () or (N, d1, ..., dK), or class probabilities shaped as logits.
        weight: (C,) class weights.
        temperature: T > 0; large values give smooth losses with far-reaching gradients. The paper lets it
            fall from 10 during training.
        margin: m >= 0; a row is not pushed further once the true logit leads by m. None: no limit.
        standardize: first bring all logits of the batch to mean 0 and standard deviation 1 together. Masked
            classes (minus infinity) and rows that do not count are no part of it. With data parallelism
            each process takes its own batch for the whole, so gradients differ from those of one process.
        k: expected top-k accuracy, 1 <= k <= C.
        log: the loss is -log P in place of 1 - P. Its gradient does not vanish for rows far behind, at
            P = 1e-200 neither; it is computed in float64 around the integrand's mode, and takes ten
            times as long for ten classes, sixty times for a thousand.
        ignore_index: rows with this target do not count (nor in the statistics of `standardize`); None: all
            count.
        reduction: "mean" (weighted), "sum" or "none".

    Returns:
        A scalar, or the losses in the target's shape for "none"; from 0 to 1 before weighting (without
        `log`). In float32 the gradient of a row is exact to 1e-4 of its largest entry, or to 2e-11 a class
        where P is near 1 and nothing is left to gain.

    Raises:
        ValueError: for arguments of other shapes or ranges.

    Example:
        >>> exact_loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.3699)

    Reference:
        Karpukhin, Dereka and Kolesnikov 2022, "EXACT: How to Train Your Accuracy", arXiv:2205.09615.

    Deviations:
        Quadrature in place of the authors' sampler. Constant logits are left at 0 by `standardize`, where
        the authors' code gives NaN. The authors standardise whenever a temperature is given and forbid a
        margin without one; here they are separate options.

    """
    return per_example_loss(
        _rows(temperature, margin, k, log, lost=True),
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        prepare=_standardize if standardize else None,
    )


def _rows(temperature: float, margin: float | None, k: int, log: bool, lost: bool = False) -> Rows:
    """Return the rows of P or log P, or of what is `lost`: 1 - P or -log P."""
    check_options(temperature, margin, k)
    chance = log_top_probability if log else top_probability
    scale = (1 if lost else -1) / temperature

    def rows(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        if k > table.shape[1]:
            raise ValueError(f"k: got {k}, expected at most the number of classes, {table.shape[1]}")
        own = index.unsqueeze(1)
        true = table.gather(1, own)
        lead = true + flaw(table) - table
        gap = lead if margin is None else lead.clamp(max=margin)
        if temperature != 1:
            gap = gap / temperature
        value, slope = chance(gap.scatter(1, own, torch.inf), k)
        if log:  # a masked class has no chance, however far the logarithm follows distances
            value = value.masked_fill((true.squeeze(1) == -torch.inf) & (value < 0), -torch.inf)
        if scale != 1:
            slope = slope * scale
        if margin is not None:
            slope = slope * (lead < margin)
        gradient = slope.scatter(1, own, -slope.sum(1, keepdim=True))
        return (-value if log else 1 - value) if lost else value, gradient

    return forming_gradient(rows)


def _standardize(table: Tensor, counting: Tensor | None) -> Tensor:
    # Masked classes, and rows that have no loss, stay as they are and are no part of the statistics.
    counts = table.isfinite() if counting is None else table.isfinite() & counting.unsqueeze(1)
    number = counts.sum().clamp(min=1)
    known = table.where(counts, 0)
    with torch.no_grad():
        # The mean twice: the first takes the size of the logits away, the second what rounding left.
        mean = (known / number).sum()
        mean = mean + ((known - mean) / number).where(counts, 0).sum()
        spread = (known - mean).where(counts, 0).abs().max() if known.numel() else mean
        # Logits that are equal but for rounding have nothing to scale; 1 keeps their gradient finite.
        constant = spread <= (8 * torch.finfo(table.dtype).eps * mean.abs()).clamp(min=1e-30)
        unit = spread.where(~constant, 1)
    # Neither a shift nor a unit changes the result, so they are constants; they keep squares in range.
    scaled = (known - mean) / unit
    centred = (scaled - scaled.where(counts, 0).sum() / number).where(counts, 0)
    variance = centred.square().sum() / (number - 1).clamp(min=1)
    return (centred * variance.where(~constant, 1).rsqrt()).where(counts, table)


def check_options(temperature: float, margin: float | None, k: int) -> None:
    """Raise a `ValueError` for an option out of range."""
    positive("temperature", temperature)
    if margin is not None:
        non_negative("margin", margin)
    at_least("k", k, 1)


class ExactLoss(Criterion):
    """Module form of `criterium.functional.exact_loss`; see there for formula and arguments.

    Example:
        >>> criterion = ExactLoss(temperature=1.0)  # in place of nn.CrossEntropyLoss()
        >>> criterion(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        tensor(0.2398)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        temperature: float = 1.0,
        margin: float | None = None,
        standardize: bool = False,
        k: int = 1,
        log: bool = False,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options of `exact_loss`."""
        check_options(temperature, margin, k)
        super().__init__(
            exact_loss,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            temperature=temperature,
            margin=margin,
            standardize=standardize,
            k=k,
            log=log,
        )
