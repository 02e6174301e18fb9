"""How likely an element is among the k largest, when unit normal noise is added to every element.

Given the noise t of element y itself, the others beat it independently, each with probability
q_j = Phi(-(t + x_y - x_j)). So what looks like an integral over all elements is one-dimensional::

    P_k = integral phi(t) Pr[sum_j Bernoulli(q_j(t)) <= k - 1] dt

and for k = 1 the inner probability is the product of Phi(t + x_y - x_j). The trapezoidal rule on nodes
placed around the integrand's mode gives value and gradient together, without sampling, in O(C) memory
a row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_BLOCK = 1 << 16  # numbers held at once while nodes are summed: about what a core's cache holds


def top_probability(gap: Tensor, k: int = 1) -> Tensor:
    """Return the probability that an element is among the `k` largest, once all have unit normal noise.

    Args:
        gap: (N, C), float32 or float64: the element minus each element, in units of the noise's standard
            deviation, with infinity where an element would compete with itself.
        k: from 1 to C.

    Returns:
        (N,) probabilities; the gradient reaches `gap`, once (there is no second derivative).

    Example:
        >>> round(float(top_probability(torch.tensor([[torch.inf, 1.0]]))), 6)
        0.76025

    """
    probability: Tensor = _TopProbability.apply(gap, k)[0]  # type: ignore[no-untyped-call]
    return probability


class _TopProbability(torch.autograd.Function):
    """Forms the gradient in the forward pass, where every factor of it is at hand."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gap: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # Beyond a gap of 100 every probability here is 0 or 1 to the last bit, in float64 too; the
        # clamp keeps squares of hostile gaps finite.
        gap = gap.clamp(-100, 100)
        return _first(gap) if k == 1 else _among_first(gap, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return upstream.unsqueeze(1) * slope, None


def _first(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return P_1 (N,) and its derivative by each gap (N, C)."""
    t, log_weight = _nodes(gap)
    probability, slope = torch.zeros_like(gap[:, 0]), torch.zeros_like(gap)
    block = max(1, _BLOCK // max(1, gap.numel()))
    for start in range(0, t.shape[0], block):
        nodes, log_weights = t[start : start + block], log_weight[start : start + block]
        x = nodes.unsqueeze(2) + gap  # (block, N, C)
        log_cdf = _log_cdf(x)
        mass = (log_weights - 0.5 * nodes * nodes + log_cdf.sum(2)).exp()
        probability = probability + mass.sum(0)
        slope = slope + (mass.unsqueeze(2) * _hazard(x, log_cdf)).sum(0)
    return probability.clamp(max=1), slope


def _nodes(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes t and log-weights, both (Q, N), for the integral of phi(t) prod_j Phi(t + gap_j)."""
    mode, curvature = _mode(gap)
    width = curvature.rsqrt()
    # The integrand is log-concave and falls at least as fast as exp(-t^2/2) around its mode, with a left
    # flank that gets steeper as log C grows. Reach and density bring the error under 1e-7 (float32) and
    # 1e-12 (float64), measured up to C = 100,000.
    double = gap.dtype == torch.float64
    reach, base, growth, narrow, far = (8.5, 52, 24, 6.0, 54.0) if double else (5.5, 20, 7, 3.5, 19.0)
    count = base + math.ceil(growth * math.log10(max(2, gap.shape[1])))
    # The gradient's own integrand phi(t) phi(t + gap_j) lies around -gap_j / 2: outside that reach where
    # class y leads all others by much. Past a lead of `far` it is 0 in this type.
    lead = gap.amin(1).clamp(0, far)
    left = -torch.maximum(reach * width, 0.5 * lead + narrow * width) / width
    part = torch.linspace(0, 1, count, dtype=gap.dtype, device=gap.device).unsqueeze(1)
    length = reach + 0.5 - left
    u = left + length * part
    # Left of the mode the integrand is as wide as at the mode; to the right it widens towards 1.
    t = mode + width * u + (1 - width) * softplus(u - 1)
    slope = width + (1 - width) * torch.sigmoid(u - 1)
    return t, (slope * length).log() - (math.log(count - 1) + _LOG_SQRT_2PI)


def _mode(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return where -t^2/2 + sum_j log Phi(t + gap_j) is largest, and minus its second derivative there.

    Both only place nodes, so a few digits are enough.
    """
    # The strongest competitor alone puts the mode at least here.
    t = (-0.5 * gap.amin(1)).clamp(min=0)
    for _ in range(4):
        pull, fall = _pull(gap, t)
        # Newton's step on pull(t) = t never passes the root from the left, since pull is convex; the step
        # on its logarithm is the quicker one once the competitors' normal tails decide.
        plain = (pull - t) / (1 + fall)
        s, safe = t.clamp(min=0.25), pull.clamp(min=1e-30)
        log = s - t + (safe / s).log() / (1 / s + fall / safe)
        ahead = torch.minimum(torch.maximum(plain, log), plain + 1.5)
        back = torch.maximum(plain, log.clamp(max=0))
        t = (t + ahead.where(plain > 0, back)).clamp(min=0)
    # At a gap of -100 Phi is out of range and the curvature with it; the probability is 0 wherever t is.
    return t, 1 + _pull(gap, t)[1].clamp(min=0)


def _pull(gap: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return d/dt sum_j log Phi(t + gap_j), and minus the second derivative."""
    x = t.unsqueeze(1) + gap
    hazard = _hazard(x, _log_cdf(x))
    return hazard.sum(1), (hazard * (hazard + x)).sum(1)


def _log_cdf(x: Tensor) -> Tensor:
    """Return log Phi(x), to full relative precision where Phi is near 0 and where it is near 1."""
    # Below, Phi leaves the range of the type; terms so small no longer reach the probability.
    x = x.clamp(min=-35.0 if x.dtype == torch.float64 else -12.5)
    tail = 0.5 * torch.erfc(x.abs() * math.sqrt(0.5))
    # log Phi is log1p(-tail) above 0 and log(tail) = -log1p(1/tail - 1) below: one logarithm for both,
    # the argument chosen by lerp because `where` is many times slower than arithmetic on a CPU.
    below = 0.5 - torch.copysign(torch.full_like(x[..., :1], 0.5), x)
    inverse = tail.reciprocal().clamp(max=torch.finfo(x.dtype).max) - 1
    return -torch.lerp(-tail, inverse, below).log1p().abs()


def _hazard(x: Tensor, log_cdf: Tensor) -> Tensor:
    """Return phi(x) / Phi(x)."""
    return (-0.5 * x * x - log_cdf - _LOG_SQRT_2PI).exp()


def _among_first(gap: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return P_k (N,) and its derivative by each gap (N, C), for k > 1.

    In float64: 1 - q_j rounds to steps of 6e-8 in float32, and a thousand factors add that up.
    """
    wide = gap.double()
    classes = gap.shape[1]
    if k >= classes:
        return torch.ones_like(gap[:, 0]), torch.zeros_like(gap)
    # With the k - 1 strongest competitors sure to win, the others put the mode here; if they are not sure
    # to, it lies between 0 and here. The integrand falls as exp(-t^2/2) at least, away from its mode.
    rest = wide.scatter(1, wide.topk(k - 1, largest=False).indices, 100.0)
    top = _mode(rest)[0]
    t, log_weight = _even_nodes(top, classes, k)
    probability, slope = torch.zeros_like(wide[:, 0]), torch.zeros_like(wide)
    block = max(1, 16 * _BLOCK // max(1, wide.numel() * k))
    for start in range(0, t.shape[0], block):
        nodes, log_weights = t[start : start + block], log_weight[start : start + block]
        x = nodes.unsqueeze(2) + wide
        root = math.sqrt(0.5)
        lose, win = 0.5 * torch.erfc(x * root), 0.5 * torch.erfc(-x * root)
        tail, exactly = _poisson_binomial(lose, win, k)
        weight = (log_weights - 0.5 * nodes * nodes).exp()
        probability = probability + (weight * tail).sum(0)
        density = (-0.5 * x * x - _LOG_SQRT_2PI).exp()
        slope = slope + (weight.unsqueeze(2) * density * exactly).sum(0)
    return probability.clamp(max=1).to(gap.dtype), slope.to(gap.dtype)


def _even_nodes(top: Tensor, classes: int, k: int) -> tuple[Tensor, Tensor]:
    """Return evenly spaced nodes and log-weights, both (Q, N), that hold the integrand for k > 1."""
    low, high = -7.5, top + 7.5
    # The k-th largest of C normals is about this wide, and the inner probability as steep.
    narrow = 1 / math.sqrt((1 + 2 * math.log(classes)) * min(k, classes - k + 1))
    count = math.ceil((15 + 0.5 * 4) / (0.6 * narrow))
    u = torch.linspace(0, 1, count, dtype=top.dtype, device=top.device).unsqueeze(1)
    span = high - low
    return low + span * u, (span / (count - 1)).log() - _LOG_SQRT_2PI + 0 * u


def _poisson_binomial(lose: Tensor, win: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return Pr[at most k - 1 competitors win over y], and per competitor Pr[exactly k - 1 others do].

    `lose` and `win` (..., C) are the chances that a competitor beats y and that y beats it. The generating
    polynomials win_j + lose_j z are multiplied up a balanced tree, cut off at degree k - 1; going down the
    tree, each node gets the product of everything outside it. No subtraction, so no digits are lost.
    """
    size = 1 << (lose.shape[-1] - 1).bit_length()
    spare = size - lose.shape[-1]
    leaf = torch.stack(
        (torch.nn.functional.pad(win, (0, spare), value=1.0), torch.nn.functional.pad(lose, (0, spare))), -1
    )
    levels = [leaf]
    while levels[-1].shape[-2] > 1:
        pair = _pairs(levels[-1])
        levels.append(_multiply(pair[..., 0, :], pair[..., 1, :], k))
    outside = torch.ones_like(levels[-1][..., :1])
    for level in levels[-2::-1]:
        sibling = _pairs(level).flip(-2)
        outside = _multiply(outside.unsqueeze(-2), sibling, k).flatten(-3, -2)
    exactly = outside[..., k - 1] if outside.shape[-1] >= k else torch.zeros_like(outside[..., 0])
    return levels[-1].sum((-2, -1)), exactly[..., : lose.shape[-1]]


def _pairs(polynomials: Tensor) -> Tensor:
    return polynomials.reshape(*polynomials.shape[:-2], polynomials.shape[-2] // 2, 2, polynomials.shape[-1])


def _multiply(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Return the product of polynomials along the last dimension, without powers of k and above."""
    degree = min(k, a.shape[-1] + b.shape[-1] - 1)
    terms = [
        sum(a[..., i] * b[..., n - i] for i in range(max(0, n - b.shape[-1] + 1), min(n + 1, a.shape[-1])))
        for n in range(degree)
    ]
    return torch.stack(terms, -1)  # type: ignore[arg-type]
