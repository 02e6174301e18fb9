"""The expected k-th largest of scores under Gaussian noise: what `noised_kth` samples, without sampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from criterium.order_statistics import poisson_binomial
from criterium.order_statistics.grid import Exceedances, Grid, OnGrid
from criterium.order_statistics.noised import checked
from criterium.order_statistics.operators import vectorised

_BLOCK = 1 << 16  # numbers held at once while nodes are summed: about what a core's cache holds


def smoothed_kth(scores: Tensor, k: int, *, epsilon: float = 1.0) -> Tensor:
    """Expected k-th largest of scores with Gaussian noise of scale epsilon, by a one-dimensional integral.

    E Y = ∫_0^∞ (1 - G(t)) dt - ∫_{-∞}^0 G(t) dt,  G(t) = Pr[at most k - 1 of s_j + ε Z_j exceed t]

    where Y is the k-th largest of s + ε Z and Z ~ N(0, I). Noisy scores exceed t independently, each with
    probability Φ((s_j - t) / ε), so G is a tail of the Poisson-binomial distribution. The gradient in s_j is
    the probability that j is the k-th largest: non-negative, and in sum one.

    The absolute error is below 1e-5 ε (1e-9 ε in float64), plus the rounding of the scores themselves. Time
    and memory are O(n) a row for large n; time grows as k^2 (as (n + 1 - k)^2 in the lower half).

    Args:
        scores: ``(..., n)`` real numbers.
        k: 1 to n.
        epsilon: scale ε >= 0 of the noise, in units of the scores.

    Returns:
        ``(...)``: float32, or float64 where `scores` are.

    Raises:
        ValueError: for a k outside 1 to n or a negative epsilon.
        NotImplementedError: for a second derivative.

    Example:
        >>> import torch
        >>> smoothed_kth(torch.zeros(2, dtype=torch.float64), k=1)  # 1 / sqrt(pi)
        tensor(0.5642, dtype=torch.float64)

    Reference:
        Garcin et al., "Stochastic smoothing of the top-K calibrated hinge loss for deep imbalanced
        classification", ICML 2022.

    Deviations:
        It averages samples; this is their expectation.

    """
    scores = checked(scores, k, epsilon)
    if epsilon == 0:
        return scores.topk(k, dim=-1).values[..., -1]
    rows = scores.reshape(-1, scores.shape[-1])
    form = _SmoothedKth if torch.compiler.is_compiling() else _SmoothedKthForward
    kth: Tensor = form.apply(rows, k, epsilon)[0]  # type: ignore[no-untyped-call]
    return kth.reshape(scores.shape[:-1])


class _SmoothedKth(torch.autograd.Function):
    """Forms the gradient in the forward pass, where every factor of it is at hand."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, k: int, epsilon: float) -> tuple[Tensor, Tensor]:
        # Compiled, a loop over nodes would be one for each number of rows.
        return (_compiled if torch.compiler.is_compiling() else _either_half)(scores, k, epsilon)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        scores, chance = ctx.saved_tensors
        return _FirstDerivative.apply(upstream, chance, scores), None, None  # type: ignore[no-untyped-call]


class _FirstDerivative(torch.autograd.Function):
    """Says that there is no second derivative, where it would be taken for zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(upstream: Tensor, chance: Tensor, scores: Tensor) -> Tensor:
        return upstream.unsqueeze(1) * chance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError("smoothed_kth: has a first derivative, but no second")


class _SmoothedKthForward(_SmoothedKth):
    """The same with a derivative in forward mode, which a compiler does not take."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
        _SmoothedKth.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], output[1])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        return (tangent * ctx.saved_tensors[-1]).sum(1), None


@torch.library.custom_op("criterium::smoothed_kth", mutates_args=())
def _compiled(scores: Tensor, k: int, epsilon: float) -> tuple[Tensor, Tensor]:
    return _either_half(scores, k, epsilon)


@_compiled.register_fake
def _(scores: Tensor, k: int, epsilon: float) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape[0]), torch.empty_like(scores)


vectorised(_compiled)


def _either_half(scores: Tensor, k: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the expected k-th largest (N,) and the chances (N, n) to be it."""
    n = scores.shape[1]
    if 2 * k <= n + 1:
        return _kth_largest(scores, k, epsilon)
    kth, chance = _kth_largest(-scores, n + 1 - k, epsilon)
    return -kth, chance


def _kth_largest(scores: Tensor, k: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the expected k-th largest (N,) and the chances (N, n) to be it, for k in the upper half."""
    plan = _plan(scores.shape[1], k, scores.dtype == torch.float64)
    top, leaders = scores.topk(plan.leaders, dim=1)
    kth = top[:, k - 1 : k]
    # From here on in standard deviations from the k-th largest score.
    means = ((top - kth) / epsilon).clamp(max=100).T.contiguous()
    others_on_grid = None
    if plan.leaders < scores.shape[1]:
        # The leaders, which are counted one by one, are put where they count for nothing.
        others_on_grid = OnGrid.spread(((scores - kth) / epsilon).scatter(1, leaders, -torch.inf), plan.grid)

    nodes = torch.linspace(-plan.low, plan.high, plan.nodes, dtype=scores.dtype, device=scores.device)
    below, chance, flow = torch.zeros_like(scores[:, 0]), torch.zeros_like(means), None
    block = max(1, _BLOCK // max(1, means.numel()))
    for start in range(0, plan.nodes, block):
        here = nodes[start : start + block]
        x = here.unsqueeze(1) - means.unsqueeze(1)  # (leaders, block, N)
        miss, hit = 0.5 * torch.erfc(x * -math.sqrt(0.5)), 0.5 * torch.erfc(x * math.sqrt(0.5))
        others = [torch.ones_like(x[0])]
        if others_on_grid is not None:
            tables = Exceedances.at(here, plan.grid)
            others = [c.to(x.dtype) for c in tables.counts(others_on_grid, k)]
        counts, exactly = poisson_binomial.chances(miss, hit, others, k)
        below = below + torch.stack(counts).sum((0, 1))
        chance = chance + ((-0.5 * x * x).exp() * exactly).sum(1)
        if others_on_grid is not None:
            here_too = tables.flow(counts)
            flow = here_too if flow is None else flow + here_too

    # The trapezoidal rule for high - ∫ G, where G is 1 at the last node and 0 at the first.
    mean = plan.high - plan.spacing * (below - 0.5)
    chances = torch.zeros_like(scores)
    if others_on_grid is not None and flow is not None:
        chances = plan.spacing * others_on_grid.back(flow).clamp(min=0)
    chance = chance.T * (plan.spacing / math.sqrt(2 * math.pi))
    return kth.squeeze(1) + epsilon * mean, chances.scatter(1, leaders, chance)


class _Plan(NamedTuple):
    """So many nodes from -`low` to `high`; how many leaders are counted singly; a grid for the others."""

    low: float
    high: float
    nodes: int
    leaders: int
    grid: Grid

    @property
    def spacing(self) -> float:
        return (self.low + self.high) / (self.nodes - 1)


def _plan(n: int, k: int, double: bool) -> _Plan:
    """Return the plan that brings the error under 1e-5 (float32) or 1e-9, measured up to n = 10,000."""
    error, slope, least, width, points = (1e-10, 1.15, 0.6, 0.125, 12) if double else (5e-7, 1.8, 0.7, 0.2, 8)

    def reach(normals: int) -> float:
        """Return where the mean excess of the largest of so many, normals φ(t) / t^2, is that small."""
        return math.sqrt(2 * math.log(normals / (90 * error)))

    # The k-th largest of n is about as narrow as this, and the trapezoidal rule needs nodes as dense.
    low, high = reach(k), reach(n)
    spacing = min(least, slope * k**-0.2 / (1 + math.log(n)))
    # Below the last of so many leaders no threshold counts: fewer than k of them would have to exceed it,
    # which all do with a chance of a half at least. So the others have odds below one there.
    leaders = min(n, 2 * k)
    while leaders < n and sum(math.comb(leaders, i) for i in range(k)) > 10 * error * 2**leaders:
        leaders += 1
    leaders = n if n <= 2 * leaders else leaders  # a grid for a few is no gain
    # Two normals are rarely further apart than √2 times what one is from its mean.
    return _Plan(
        low, high, math.ceil((low + high) / spacing) + 1, leaders, Grid(math.sqrt(2) * high, width, points)
    )
