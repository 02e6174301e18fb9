"""Noised top-k hinge: the margin of the true class over a smoothed (k+1)-th largest (Garcin et al., 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import at_least, non_negative, positive
from criterium.losses._contract import Criterion, per_example_loss
from criterium.losses._logits import bounded, from_top, positive_part
from criterium.order_statistics.noised import draw_kth
from criterium.order_statistics.smoothed import smoothed_kth


def noised_topk_hinge(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    k: int = 5,
    epsilon: float = 1.0,
    margin: float | Tensor = 1.0,
    scale: float = 1.0,
    samples: int | None = 5,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Hinge between the true class's logit and the smoothed (k+1)-th largest of all logits.

    l = max(0, a (m_y + s̃_[k+1] - s_y)),  s̃_[k+1] = 1/S sum_i (k+1)-th largest of s + ε Z_i

    with Z_i ~ N(0, I) fresh in every call (`criterium.order_statistics.noised_kth`). With ``samples=None`` s̃
    is the expectation of that, E[(k+1)-th largest of s + ε Z] (`criterium.order_statistics.smoothed_kth`):
    there is no noise in the loss or its gradient, the chances to be the (k+1)-th largest. A hinge is convex,
    so the loss of few samples is higher than that on average.

    The true class is one of those ranked. With one margin for all classes this is the paper's balanced loss;
    with a margin for each, m_c proportional to n_c^(-1/4), on the cosine logits of a `NormalizedLinear` head
    and with scale a, it is the imbalanced one. Memory does not grow with the number of samples.

    Args:
        logits: ``(N, C)``, ``(C,)`` or ``(N, C, d1, ..., dK)``.
        target: class indices, or class probabilities of the logits' shape.
        weight: ``(C,)`` class weights.
        k: the k of top-k, 1 to C - 1.
        epsilon: scale ε >= 0 of the noise, in logits.
        margin: m, in logits: a number, or ``(C,)``, one for each class.
        scale: a > 0; it multiplies the hinge, not the logits.
        samples: number S of draws, or None for their expectation.
        noise: the draws, in place of fresh ones: the logits' shape with a last dimension of size S.
        generator: where fresh draws come from, on the logits' device; the global one if not given. A module
            keeps it, and pickles and copies its state.
        ignore_index: class index whose rows do not count; None: all rows count.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Returns:
        The loss; with ``"none"`` of the shape of the class indices.

    Raises:
        ValueError: for arguments outside their range; it names them.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 3)
        >>> target = torch.tensor([0, 2, 3])
        >>> noised_topk_hinge(logits, target, k=1, epsilon=0.0, reduction="none")
        tensor([0., 2., 3.])

    Reference:
        Garcin et al., "Stochastic smoothing of the top-K calibrated hinge loss for deep imbalanced
        classification", ICML 2022.

    Deviations:
        Those of `criterium.order_statistics.noised_kth`; the margins of classes are given, not computed from
        counts, and keep the logits' precision; ``samples=None`` is new.

    """
    check_options(k, epsilon, margin, scale, samples)
    exact = samples is None and noise is None

    def margins(table: Tensor) -> Tensor | float:
        """Return the margin, or one for each class, once k and it fit the classes."""
        classes = table.shape[1]
        if k >= classes:
            raise ValueError(f"k: got {k}, expected at most C - 1 = {classes - 1}")
        if not isinstance(margin, Tensor) or margin.dim() == 0:
            return margin
        if margin.shape != (classes,):
            raise ValueError(f"margin: got shape {tuple(margin.shape)}, expected a number or ({classes},)")
        return margin.to(table)

    def drawn(table: Tensor) -> tuple[Tensor, Tensor]:
        """Return how often each class is the (k+1)-th largest, and by how much noise on average."""
        draws = noise
        if noise is not None:
            if noise.shape[:-1] != logits.shape or noise.shape[-1] == 0:
                raise ValueError(
                    f"noise: got shape {tuple(noise.shape)}, expected {(*logits.shape, 'S')}"
                    " with at least one draw"
                )
            draws = noise.movedim(min(1, logits.dim() - 1), -2).reshape(*table.shape, noise.shape[-1])
        return draw_kth(table.detach(), k + 1, epsilon, samples or 1, draws, generator)

    def known(table: Tensor) -> Tensor:
        """Return the logits as differences; a masked class far below all, where it is chosen by no draw."""
        return bounded(from_top(table))

    def scaled(losses: Tensor) -> Tensor:
        return losses if scale == 1 else scale * losses

    def rows(table: Tensor, index: Tensor) -> Tensor:
        gap = margins(table)
        gap = gap[index] if isinstance(gap, Tensor) and gap.dim() else gap
        table = known(table)
        true = index.unsqueeze(1)
        if exact:
            lead = smoothed_kth(table, k + 1, epsilon=epsilon) - table.gather(1, true).squeeze(1)
        else:
            # The true class among them: the margin is one weighted sum of the logits.
            frequency, shift = drawn(table)
            # 0, but NaN where there is no loss, which the gradient is to show too.
            void = 0 * table.detach().gather(1, true)
            weights = frequency.scatter_add_(1, true, void - 1)
            lead = (table * weights).sum(1)
            gap = shift + gap
        return scaled(positive_part(lead + gap))

    def dense(table: Tensor, distribution: Tensor) -> Tensor:
        gap, table = margins(table), known(table)
        if exact:
            kth = smoothed_kth(table, k + 1, epsilon=epsilon)
        else:
            frequency, shift = drawn(table)
            kth = (table * (frequency + 0 * table[:, :1].detach())).sum(1) + shift
        return scaled(distribution * positive_part(kth.unsqueeze(1) - table + gap)).sum(1)

    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, dense=dense
    )


class NoisedTopKHingeLoss(Criterion):
    """Module of `noised_topk_hinge`, with its options; they are checked when it is made."""

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        k: int = 5,
        epsilon: float = 1.0,
        margin: float | Tensor = 1.0,
        scale: float = 1.0,
        samples: int | None = 5,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        check_options(k, epsilon, margin, scale, samples)
        super().__init__(
            noised_topk_hinge,
            k=k,
            epsilon=epsilon,
            margin=margin,
            scale=scale,
            samples=samples,
            noise=noise,
            generator=generator,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )


def check_options(k: int, epsilon: float, margin: float | Tensor, scale: float, samples: int | None) -> None:
    """Raise a `ValueError` for an option out of range."""
    at_least("k", k, 1)
    non_negative("epsilon", epsilon)
    positive("scale", scale)
    if samples is not None:
        at_least("samples", samples, 1)
    if not isinstance(margin, Tensor):
        non_negative("margin", margin)
