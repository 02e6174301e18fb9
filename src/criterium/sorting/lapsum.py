"""LapSum: chances to be among the r largest, sums of Laplace distributions made equal to r."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def lapsum(scores: Tensor, k: int, elements: Tensor | None = None) -> Tensor:
    """Return ``(..., n, k)`` degrees to which each element is the r-th largest, or those of some `elements`.

    An element is among the r largest with chance p_j(r) = F(s_j - b_r), where F is the Laplace distribution
    function and b_r the threshold at which these chances sum to r; it is the r-th with p_j(r) - p_j(r - 1).
    `elements` are indices ``(..., m)`` along the last dimension of scores.

    Struski et al., "LapSum - One Method to Differentiate Them All: Ranking, Sorting and Top-k Selection",
    ICML 2025.
    """
    n = scores.shape[-1]
    form = _Thresholds if torch.compiler.is_compiling() else _ThresholdsForward
    near, offset = form.apply(scores, min(k, n - 1))  # type: ignore[no-untyped-call]
    chosen = (scores if elements is None else scores.gather(-1, elements)).unsqueeze(-1)
    distance = chosen - scores.gather(-1, near).unsqueeze(-2) - offset.unsqueeze(-2)

    # Nothing is among the 0 largest and everything among the n largest. F is e^d / 2 below a threshold and
    # 1 - e^-d / 2 above. Ones are taken from ones and tails from tails, to keep the digits of small chances.
    above = (distance > 0).to(scores.dtype)
    tail = (0.5 - above) * (distance * (1 - 2 * above)).exp()
    zero = torch.zeros_like(chosen)
    sure = [zero + 1] if k == n else []
    ones = torch.cat([zero, above, *sure], dim=-1).diff(dim=-1)
    return ones + torch.cat([zero, tail, *(0 * one for one in sure)], dim=-1).diff(dim=-1)


class _Thresholds(torch.autograd.Function):
    """The thresholds of ranks 1 to k < n, each as an element that is near and the offset from its score.

    That keeps the digits of distances to it where scores are large. One sort serves all ranks; the derivative
    is that of an implicit function: of b_r by s_j it is f(s_j - b_r) / sum_i f(s_i - b_r).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        n = scores.shape[-1]
        # Cumulative sums of hostile scores would lose all digits in float32.
        wide = scores if scores.device.type == "mps" else scores.double()
        x, order = wide.sort(dim=-1, descending=True)
        # In descending order, sums of e^-distance from an element to those at least as high, and as low.
        high = ((-x).logcumsumexp(-1) + x).exp()
        low = (x.flip(-1).logcumsumexp(-1).flip(-1) - x).exp()

        # With its threshold at the i-th element, sum_j F is at_element_i; that rises with i. So the threshold
        # of r lies below as many elements as have a value of at most r.
        place = torch.arange(1, n + 1, device=x.device)
        at_element = place - 0.5 * high + 0.5 * (low - 1)
        rank = place[:k]
        i = (at_element.unsqueeze(-2) <= rank.unsqueeze(-1)).sum(-1)
        # There, between u = e^(b - x_i) and v = e^(x_(i+1) - b), it is i - high_i u / 2 + low_(i+1) v / 2,
        # and u v = e^-gap: a quadratic equation for either.
        over, under = (i - 1).clamp_min(0), i.clamp_max(n - 1)
        a = high.gather(-1, over) * (i > 0)
        c = low.gather(-1, under) * (i < n)
        gap = x.gather(-1, over) - x.gather(-1, under)
        excess = rank - i
        root = (excess * excess + a * c * (-gap).exp()).sqrt() + excess.abs()
        a, c = a.clamp_min(1), c.clamp_min(1)
        # Of the two roots the sum of positive terms; where i = r their product, which cannot underflow.
        middle = 0.5 * ((c / a).log() - gap)
        from_above = torch.where(excess < 0, (root.clamp_min(1) / a).log(), middle)
        offset = torch.where(excess > 0, -(root.clamp_min(1) / c).log(), from_above)
        near = order.gather(-1, torch.where(excess > 0, under, over))
        return near, offset.to(scores.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[0])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, _: Tensor, upstream: Tensor) -> tuple[Tensor, None]:
        scores, near, offset = ctx.saved_tensors
        distance = scores.unsqueeze(-1) - scores.gather(-1, near).unsqueeze(-2) - offset.unsqueeze(-2)
        # f is e^-|distance| / 2, so that its shares of the sum are a softmax.
        pull = (torch.softmax(-distance.abs(), dim=-2) * upstream.unsqueeze(-2)).sum(-1)
        return pull.scatter_add(-1, near, -upstream), None


class _ThresholdsForward(_Thresholds):
    """The same with a derivative in forward mode, which a compiler does not take."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        _Thresholds.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], *output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[None, Tensor]:
        scores, near, offset = ctx.saved_tensors
        distance = scores.unsqueeze(-1) - scores.gather(-1, near).unsqueeze(-2) - offset.unsqueeze(-2)
        share = torch.softmax(-distance.abs(), dim=-2)
        return None, (share * tangent.unsqueeze(-1)).sum(-2) - tangent.gather(-1, near)
