"""The chance that an element beats all others under unit normal noise, from some sums over the others.

Given the noise t of the element itself, the others lose independently of each other::

    P = integral phi(t) exp(F(t)) dt,    F(t) = sum_j log Phi(t + gap_j)

log Phi(t + gap) is smooth in gap, so on a fixed grid of t and a fixed window of gaps it is a polynomial to
ten digits, the same one for every row: F(t) = sum_p M_p G_p(t) with the moments M_p = sum_j T_p(gap_j). That
leaves no transcendental function to be evaluated for each class, neither here nor in the derivative,
dP/dgap_j = sum_p c_p T_p(gap_j). The polynomials of a block of classes give its moments; blocks add up.

T_p runs over the products T_8a T_b of Chebyshev polynomials, a < A, b < 8: A + 8 of them are evaluated, and
two small matrix products make the 8 A moments and the derivative of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from criterium._values import pretended
from criterium.order_statistics.operators import vectorised

# Gaps below the window have P < 1e-29; above it the other loses but for 1e-14.
_LOW, HIGH = -16.0, 11.0
_CENTRE, _HALF = (HIGH + _LOW) / 2, (HIGH - _LOW) / 2
INNER = 8
Tables = tuple[Tensor, Tensor, Tensor]
_BLOCK = 1 << 18  # numbers held at once, about what a core's cache holds


def win_probability(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return P (N,), float64, and its derivative by each gap (N, C), of the type of `gap`.

    The error is below 1e-7 in P, and below 1e-4 of a row's largest derivative, or 2e-11 where P is near 1.
    An element's gap to itself is infinity.
    """
    # A compiler could follow neither the tables, made once, nor the series, filled in place.
    return _whole(gap) if torch.compiler.is_compiling() or pretended(gap) else _in_blocks(gap)


def _in_blocks(gap: Tensor) -> tuple[Tensor, Tensor]:
    rows, classes = gap.shape
    outer, nodes = size_for(classes)
    tables = tables_for(outer, nodes, gap.device)
    size = max(1, min(rows, _BLOCK // ((outer + INNER) * max(1, classes))))
    room = gap.new_empty(outer + INNER, size, classes, dtype=torch.float64)
    room[0].fill_(1)
    room[INNER].fill_(1)
    if size == rows:
        chance, slope = _of_block(gap, room, tables)
        return chance, slope.to(gap.dtype)
    probability, slope = gap.new_empty(rows, dtype=torch.float64), torch.empty_like(gap)
    for start in range(0, rows, size):
        block = slice(start, start + size)
        probability[block], slope[block] = _of_block(gap[block], room, tables)
    return probability, slope


@torch.library.custom_op("criterium::win_probability", mutates_args=())
def _whole(gap: Tensor) -> tuple[Tensor, Tensor]:
    return _in_blocks(gap)


@_whole.register_fake
def _(gap: Tensor) -> tuple[Tensor, Tensor]:
    return gap.new_empty(gap.shape[0], dtype=torch.float64), torch.empty_like(gap)


vectorised(_whole)


def _of_block(gap: Tensor, room: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    outer, inner = polynomials(gap, room)
    probability, coefficients = finish(torch.bmm(outer, inner.transpose(1, 2)), tables)
    return probability, torch.bmm(coefficients, inner).mul_(outer).sum(1)


def polynomials(gap: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Return T_8a and T_b of the gaps, (N, A, C) and (N, 8, C), up to their signs, in float64.

    The coefficients G_p reach 200, and the sums over all classes must be good to 1e-9.
    """
    space = room[:, : gap.shape[0]]
    inner, outer = space[:INNER], space[INNER:]
    terms = space.unbind()
    torch.mul(gap.double().clamp_(_LOW, HIGH).sub_(_CENTRE), 1 / _HALF, out=terms[1])
    # T_8 ends the inner series, and T_8a is the a-th polynomial of T_8.
    _recur((*terms[:INNER], terms[INNER + 1]))
    _recur(terms[INNER:])
    return outer.transpose(0, 1), inner.transpose(0, 1)


def _recur(terms: Sequence[Tensor]) -> None:
    """Fill `terms`, 1 and x, with s_p T_p(x) by T_p+1 = 2x T_p - T_p-1; s_p = +, +, -, -, +, + ...

    With these signs the recurrence is one fused operation: W_p+1 = W_p-1 -+ 2x W_p.
    """
    twice = terms[1] + terms[1]
    for p in range(1, len(terms) - 1):
        torch.addcmul(terms[p - 1], twice, terms[p], value=-1 if p % 2 else 1, out=terms[p + 1])


def finish(moments: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Return P (N,) and the coefficients c (N, A, 8) of its derivative, of the moments (N, A, 8)."""
    log_weight, log_cdf, hazard = tables
    mass = torch.addmm(log_weight, moments.flatten(1), log_cdf).exp_()
    return mass.sum(1), (mass @ hazard).reshape(moments.shape)


_made: dict[tuple[int, int, torch.device], Tables] = {}


def size_for(classes: float) -> tuple[int, int]:
    """Return how many polynomials T_8a and nodes so many classes take.

    The more classes, the more errors add up, and the narrower the integrand.
    """
    return (8, 50) if classes <= 128 else (10, 74)


def tables_for(outer: int, nodes: int, device: torch.device) -> Tables:
    """Return what `finish` needs, made once for each number of polynomials T_8a, nodes and device."""
    key = (outer, nodes, device)
    if key in _made:
        return _made[key]
    tables = _make_tables(outer, nodes, device)
    # Those made while tensors are only pretended are of no use later.
    if type(tables[0]) is Tensor:
        _made[key] = tables
    return tables


def _make_tables(outer: int, nodes: int, device: torch.device) -> Tables:
    """Return log-weights (Q,) of nodes and the coefficients of log Phi (8A, Q) and phi / Phi (Q, 8A)."""
    # Trapezoidal rule for phi(t) exp(F(t)) from t = -6.3 to 11, which holds it for all gaps in the window;
    # closest where the largest of ten to 100,000 normals lies and the integrand is narrow.
    u = torch.linspace(-1.319, 1.319, nodes, dtype=torch.float64, device="cpu")
    node = 2.4 + 5 * u.sinh()
    # Chebyshev coefficients by the discrete cosine transform of 512 values on the window.
    angle = math.pi * (torch.arange(512, dtype=torch.float64, device="cpu") + 0.5) / 512
    x = node.unsqueeze(1) + _HALF * angle.cos() + _CENTRE
    log_cdf = torch.special.log_ndtr(x)
    log_root = 0.5 * math.log(2 * math.pi)
    hazard = (-0.5 * x * x - log_root - log_cdf).exp()
    transform = torch.outer(torch.arange(outer * INNER, dtype=torch.float64, device="cpu"), angle).cos() * (
        2 / 512
    )
    transform[0] /= 2
    log_weight = (5 * u.cosh() * (u[1] - u[0])).log() - log_root - 0.5 * node * node
    return (
        log_weight.to(device),
        _for_products(transform @ log_cdf.T).to(device),
        _for_products(transform @ hazard.T).T.contiguous().to(device),
    )


def _for_products(series: Tensor) -> Tensor:
    """Turn coefficients (8A, Q) of the polynomials T_p into those of the products s_8a T_8a s_b T_b."""
    rest = series.clone().reshape(-1, INNER, series.shape[1])
    products = torch.zeros_like(rest)
    for a in reversed(range(len(rest))):
        for b in reversed(range(INNER)):
            products[a, b] = rest[a, b]
            if a and b:  # T_8a+b = 2 T_8a T_b - T_8a-b
                products[a, b] *= 2
                rest[a - 1, INNER - b] -= rest[a, b]
    # T_8a is the a-th polynomial of T_8, whose own sign is +.
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=series.dtype, device="cpu").repeat(len(rest))
    return (products * sign[: len(rest), None, None] * sign[:INNER, None]).flatten(0, 1)
