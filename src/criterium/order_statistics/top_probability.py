"""How likely an element is among the k largest, when unit normal noise is added to every element.

Given the noise t of the element itself, the others beat it independently, each with probability
q_j = Phi(-(t + gap_j)). So what looks like an integral over all elements is one-dimensional::

    P_k = integral phi(t) Pr[sum_j Bernoulli(q_j(t)) <= k - 1] dt

Nodes around the integrand's mode give the logarithm of value and derivative, in float64 and at any distance,
without sampling and in O(C) memory a row. In float32, k = 1 has a form that costs no transcendental
function a class (`win_series`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from criterium.order_statistics.normal_trials import NormalTrials
from criterium.order_statistics.operators import vectorised
from criterium.order_statistics.win_series import win_probability

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_BLOCK = 1 << 18  # numbers held at once while nodes are summed: about what a core's cache holds


def top_probability(gap: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the chance to be among the `k` largest under unit normal noise, and its derivative.

    Args:
        gap: (N, C), float32 or float64: the element minus each element, in units of the noise's standard
            deviation, with infinity where an element would compete with itself.
        k: from 1 to C.

    Returns:
        (N,) probabilities and their (N, C) derivatives by `gap`.

    Example:
        >>> chance, slope = top_probability(torch.tensor([[torch.inf, 1.0]]))
        >>> chance, slope[0, 1]
        (tensor([0.7602]), tensor(0.2197))

    """
    # The series is filled in place, which autograd could not follow to a second derivative.
    followed = torch.is_grad_enabled() and gap.requires_grad
    if k == 1 and gap.dtype == torch.float32 and gap.device.type != "mps" and not followed:
        chance, slope = win_probability(gap)
        return chance.to(gap.dtype).clamp_(max=1), slope
    # Beyond a gap of 100 every probability here is 0 or 1 to the last bit, in float64 too.
    log_chance, log_slope = log_top_probability(gap.clamp(-100, 100), k)
    chance = log_chance.exp()
    return chance, chance.unsqueeze(1) * log_slope


def log_top_probability(gap: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the logarithm of `top_probability`, and its derivative, at any distance.

    Example:
        >>> gap = torch.tensor([[torch.inf, -50.0]], dtype=torch.float64)
        >>> [round(float(value), 2) for value in log_top_probability(gap)[0]]  # a chance of 1e-274
        [-629.49]

    """
    # Compiled, a loop over nodes would be one for each number of rows.
    return _compiled_log(gap, k) if torch.compiler.is_compiling() else _log_top_probability(gap, k)


@torch.library.custom_op("criterium::log_top_probability", mutates_args=())
def _compiled_log(gap: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _log_top_probability(gap, k)


@_compiled_log.register_fake
def _(gap: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return gap.new_empty(gap.shape[0]), torch.empty_like(gap)


vectorised(_compiled_log)


def _log_top_probability(gap: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k >= gap.shape[1]:
        return torch.zeros_like(gap[:, 0]), torch.zeros_like(gap)
    # Where a difference of squares must keep its digits; 1e6 is as good as infinite.
    wide = (gap if gap.device.type == "mps" else gap.double()).clamp(-1e6, 1e6)
    strongest = wide.detach().topk(k, largest=False).indices
    others = NormalTrials(wide.gather(1, strongest), wide.scatter(1, strongest, 1e6))
    chance, by_few, by_many = log_chance(others, gap.shape[1], double=gap.dtype == torch.float64)
    return chance.to(gap.dtype), by_many.scatter(1, strongest, by_few).to(gap.dtype)


def log_chance(others: NormalTrials, classes: int, *, double: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithm of the chance (N,), and its derivatives by the few and by one of each of the many.

    Args:
        others: the other elements, by their gaps.
        classes: about how many there are.
        double: whether errors of 1e-7, relative to the largest derivative, are too large.

    """
    with torch.no_grad():
        still = NormalTrials(others.few.detach(), others.many.detach(), others.number)
        nodes, log_weights = _nodes(still, classes, double)
    block = max(1, _BLOCK // max(1, others.many.numel()))
    peak = torch.full_like(others.few[:, 0], -torch.inf)
    total, few, many = torch.zeros_like(peak), torch.zeros_like(others.few), torch.zeros_like(others.many)
    for start in range(0, nodes.shape[0], block):
        log_tail, by_few, by_many = others.log_tail(nodes[start : start + block])
        log_mass = log_weights[start : start + block] + log_tail
        # A running maximum keeps the sums in range, whatever the size of the chances.
        higher = torch.maximum(peak, log_mass.detach().amax(0))
        mass, shrink = (log_mass - higher).exp(), (peak - higher).exp()
        total = total * shrink + mass.sum(0)
        few = few * shrink.unsqueeze(1) + (mass.unsqueeze(2) * by_few).sum(0)
        many = many * shrink.unsqueeze(1) + (mass.unsqueeze(2) * by_many).sum(0)
        peak = higher
    each = total.unsqueeze(1)
    return (peak + total.log()).clamp(max=0), few / each, many / each


def _nodes(others: NormalTrials, classes: int, double: bool) -> tuple[Tensor, Tensor]:
    """Return nodes t and the logarithms of weight times phi(t), both (Q, N)."""
    mode, width = _mode(others, classes)
    k = others.few.shape[1]
    # The integrand is log-concave and falls at least as fast as exp(-t^2/2) around its mode, with a left
    # flank that gets steeper as log C grows. Reach and density bring the error under 1e-12 (1e-7 where the
    # result is float32), measured up to C = 100,000.
    base, growth, reach, narrow, far = (52, 24, 8.5, 6.0, 54.0) if double else (26, 9, 6.0, 4.0, 19.0)
    if k > 1 and not double:
        base, reach, narrow = 38, 8.5, 6.0  # the derivatives by the few reach further
    count = base + math.ceil(growth * math.log10(max(2, classes)))
    # The derivative's own integrand lies where the k strongest others come level with the element:
    # outside that reach where it leads them by much. Past a lead of `far` it is 0 in the type asked for.
    lead = others.few[:, -1].clamp(0, far) * (k / (k + 1))
    left = -torch.maximum(reach * width, lead + narrow * width) / width
    part = torch.linspace(0, 1, count, dtype=width.dtype, device=width.device).unsqueeze(1)
    length = reach + 0.5 - left
    u = left + length * part
    # Left of the mode the integrand is as wide as at the mode; to the right it widens towards 1.
    t = mode + width * u + (1 - width) * softplus(u - 1)
    spacing = (width + (1 - width) * torch.sigmoid(u - 1)) * length / (count - 1)
    return t, spacing.log() - 0.5 * t * t - _LOG_SQRT_2PI


def _mode(others: NormalTrials, classes: int) -> tuple[Tensor, Tensor]:
    """Return where -t^2/2 + log Pr[at most k - 1 are ahead] is largest, and how wide its peak is there.

    Both only place nodes, so a few digits are enough.
    """

    def rise(t: Tensor) -> Tensor:
        _, by_few, by_many = others.log_tail(t.unsqueeze(0))
        rise: Tensor = by_few[0].sum(1) + others.total(by_many[0]) - t
        return rise

    # The derivative falls from at least 0 at t = 0 to below 0 where the k-th strongest is left behind: the
    # others of the few may be ahead.
    low = torch.zeros_like(others.few[:, 0])
    high = -others.few[:, -1].clamp(max=0) + math.sqrt(2 * math.log(max(2, classes))) + 1
    at_low, at_high = rise(low), rise(high)
    t = low
    for _ in range(10):
        # Regula falsi; halving the value of an end that stays put keeps both ends moving (Illinois).
        t = low + (high - low) * (at_low / (at_low - at_high).clamp(min=1e-30)).clamp(0, 1)
        value = rise(t)
        right = value > 0
        low, high = torch.where(right, t, low), torch.where(right, high, t)
        at_low, at_high = torch.where(right, value, 0.5 * at_low), torch.where(right, 0.5 * at_high, value)
    step = 0.05
    curvature = (rise(t - step) - rise(t + step)) / (2 * step)
    return t, curvature.clamp(min=1).rsqrt()
