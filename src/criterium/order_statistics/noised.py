"""The k-th largest of scores under Gaussian noise: a smooth stand-in for the k-th largest score."""

from __future__ import annotations

import torch
from torch import Tensor

from criterium._checks import at_least, non_negative

_BLOCK = 1024
"""How many numbers are drawn at once for each row: several samples of few scores cost as much as one."""


def noised_kth(
    scores: Tensor,
    k: int,
    *,
    epsilon: float = 1.0,
    samples: int = 5,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Monte-Carlo mean of the k-th largest of scores with Gaussian noise of scale epsilon.

    1/S sum_i kth(s + ε Z_i),  Z_i ~ N(0, I);  its gradient in s_j is how often j is the k-th largest.

    Only the chosen elements are kept of a draw, so memory does not grow with samples times n.

    Args:
        scores: ``(..., n)`` real numbers.
        k: 1 to n.
        epsilon: scale ε >= 0 of the noise, in units of the scores.
        samples: number S of draws. Without effect if `noise` is given.
        noise: ``(..., n, S)`` draws to use in place of fresh ones.
        generator: where fresh draws come from, on the device of `scores`; the global one if not given.

    Returns:
        ``(...)``: float32, or float64 where `scores` are.

    Raises:
        ValueError: for a k outside 1 to n, or noise of another shape.

    Example:
        >>> import torch
        >>> scores = torch.tensor([4.0, 1.0, 2.0])
        >>> noised_kth(scores, k=2, noise=torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
        tensor(3.)

    Reference:
        Garcin et al., "Stochastic smoothing of the top-K calibrated hinge loss for deep imbalanced
        classification", ICML 2022.

    Deviations:
        Noise has the type of the scores, and float64 stays float64 in the gradient; there is a generator.

    """
    scores = checked(scores, k, epsilon)
    at_least("samples", samples, 1)
    if noise is not None and (noise.dim() == 0 or noise.shape[:-1] != scores.shape or noise.shape[-1] == 0):
        raise ValueError(
            f"noise: got shape {tuple(noise.shape)}, expected {(*scores.shape, 'S')} with at least one draw"
        )

    frequency, shift = draw_kth(scores.detach(), k, epsilon, samples, noise, generator)
    return (scores * frequency).sum(-1) + shift


def draw_kth(
    scores: Tensor,
    k: int,
    epsilon: float,
    samples: int,
    noise: Tensor | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Return how often each score is the k-th largest (..., n), and the mean noise on those that are (...).

    `noised_kth` is the scores times the first, plus the second; its arguments are checked.
    """
    total = samples if noise is None else noise.shape[-1]
    block = max(1, _BLOCK // scores.shape[-1])
    frequency = offsets = None
    for start in range(0, total, block):
        stop = min(start + block, total)
        if noise is None:
            shape = (stop - start, *scores.shape)
            # Compiled with sizes that change, `randn` takes no generator, not even None.
            if generator is None:
                draws = torch.randn(shape, dtype=scores.dtype, device=scores.device)
            else:
                draws = torch.randn(shape, generator=generator, dtype=scores.dtype, device=scores.device)
        else:
            draws = noise[..., start:stop].to(scores).movedim(-1, 0)
        noisy = torch.add(scores, draws, alpha=epsilon)
        index = noisy.topk(k, dim=-1).indices[..., -1:]
        offset = draws.gather(-1, index).sum(0)
        offsets = offset if offsets is None else offsets + offset
        index = index.squeeze(-1).movedim(0, -1)
        frequency = torch.zeros_like(noisy[0]) if frequency is None else frequency
        frequency.scatter_add_(-1, index, scores.new_full((), 1 / total).expand_as(index))
    assert frequency is not None and offsets is not None  # there is at least one draw
    return frequency, offsets.squeeze(-1) * (epsilon / total)


def checked(scores: Tensor, k: int, epsilon: float) -> Tensor:
    """Return the scores in float32 at least, or raise a `ValueError` that names the wrong argument."""
    if not scores.is_floating_point() or scores.dim() == 0:
        raise ValueError(
            f"scores: got {scores.dtype} of shape {tuple(scores.shape)}, expected real numbers (..., n)"
        )
    if at_least("k", k, 1) > scores.shape[-1]:
        raise ValueError(f"k: got {k!r}, expected at most n = {scores.shape[-1]}")
    non_negative("epsilon", epsilon)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
