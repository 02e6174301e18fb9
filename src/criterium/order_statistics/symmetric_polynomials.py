"""Elementary symmetric polynomials of exponentials: the sum over all k-subsets of a row, softly its best k.

e_k(w) = sum over subsets S of k elements of prod_{j in S} w_j is the coefficient of x^k in
prod_j (1 + w_j x). All digits are kept, at any gap between the elements, by two means:

- everything is measured from the k-th largest element, and a factor with w_j > 1 is divided by w_j:
  ``1/w_j + x``. No coefficient in use leaves the range of float64, and those that count are at least 1;
- the 2k largest elements are multiplied up one by one, without subtractions. The others are each in a
  k-subset with a probability below 1/2, which makes subtractions harmless: their polynomial is got from
  sums of powers, and their derivatives are polynomials in w_j. So each costs k passes over the table.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from criterium.order_statistics.poisson_binomial import divided, from_power_sums

_DIGITS_FOR = 10
"""Largest k for which float32 sums of powers are exact enough: subtractions lose a factor exp(k / 4)."""


def symmetric_log_ratio(
    values: Tensor, k: int, temperature: float, origin: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return log e_k(w) - log e_(k-1)(w), where w = exp(values / temperature), and its derivative.

    The derivative by values_j / temperature is the probability that j is in a random k-subset less that
    it is in a random (k-1)-subset, where a subset is as likely as the product of its w. It is not
    negative, and sums to one over j. As the temperature goes to 0, the ratio times the temperature goes to
    the k-th largest value.

    Args:
        values: (N, C), float32 or float64; minus infinity leaves an element out.
        k: from 1 to the number of elements that are not left out.
        temperature: above 0.
        origin: (N,), what the values of a row are measured from, so that they may be far from 0; None: 0.

    Returns:
        (N,) log-ratios in float64, and the (N, C) derivative in the type of `values`. Both are made of
        differentiable operations.

    Example:
        >>> ratio, slope = symmetric_log_ratio(torch.tensor([[1.0, 2.0, 4.0]]).log(), 2, 1.0)
        >>> ratio.exp().round(decimals=6)  # (1 * 2 + 1 * 4 + 2 * 4) / (1 + 2 + 4)
        tensor([2.], dtype=torch.float64)
        >>> slope
        tensor([[0.2857, 0.4286, 0.2857]])

    """
    strong = min(2 * k, values.shape[1])
    top, place = values.topk(strong, dim=1)
    # The result does not depend on what the elements are measured from, so neither does its derivative.
    pivot = top[:, k - 1 : k].detach()
    # From here the elements, and the coefficients of polynomials, lie in the first dimension.
    z = ((top.double() - pivot) / temperature).T
    if strong == values.shape[1]:
        ratio, slope, _ = _strong(z, _unit(z[0], k))
        table = torch.zeros_like(values)
    else:
        table = values if k <= _DIGITS_FOR else values.double()
        w = (table - pivot).div_(temperature).scatter(1, place, -torch.inf).exp_()
        sums = _power_sums(w, k)
        # In units in which the others sum to at most k the coefficients stay in range, however many the
        # elements. Row l - 1 is -(-1)^l times the l-th power of the unit.
        unit = (k / sums[:1]).clamp(max=1.0).detach()
        units = -(-unit).expand(k, -1).cumprod(0)
        shift = unit.log()
        weak = from_power_sums((sums * units).unbind(), torch.ones_like(sums[0]))
        ratio, slope, product = _strong(z + shift, torch.stack(weak))
        ratio = ratio - shift.squeeze(0)
        by_power = (_without(product) * units.abs()).to(w.dtype).unsqueeze(2)
        table = (w * divided(by_power.flip(0).unbind(), w)).to(values.dtype)
    height = pivot.squeeze(1).double() if origin is None else pivot.squeeze(1).double() - origin
    ratio = ratio + height / temperature
    return ratio, table.scatter(1, place, slope.T.to(values.dtype))


def _power_sums(w: Tensor, k: int) -> Tensor:
    """Return the sums of the first to the k-th powers of each row of w (N, C), as (k, N) in float64."""
    power, sums = w, [w.sum(1)]
    for _ in range(k - 1):
        power = power * w
        sums.append(power.sum(1))
    return torch.stack(sums).double()


def _unit(row: Tensor, k: int) -> Tensor:
    """Return the coefficients (k + 1, N) of the polynomial 1, for N rows."""
    return pad(torch.ones_like(row).unsqueeze(0), (0, 0, 0, k))


def _strong(z: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Multiply `start` (k + 1, N) by the factors of the elements exp(z) (m, N).

    Return the log-ratio of its last two coefficients (N,), the derivative by z (m, N), and the product
    (k + 1, N), cut off at degree k. No subtraction but of the two probabilities, so no digits are lost.

    Not the tree of `poisson_binomial.chances`: all coefficients of few rows lie in one tensor here, and one
    step an element is the fewest calls. There a coefficient is a table, next to which calls cost nothing.
    """
    k = start.shape[0] - 1
    # 1 + w x, or 1/w + x where w > 1.
    factors = torch.stack((-z.relu(), z.clamp(max=0)), 1).exp()
    # From both ends at once: what lies before an element times what lies after is the product without it.
    both = torch.stack((start, _unit(start[0], k)), 1)
    products = [both]
    for constant, linear in torch.stack((factors, factors.flip(0)), 2).unbind():
        longer = constant * both
        longer[1:].add_(linear * both[:-1])
        both = longer
        products.append(both)
    before, after = torch.stack(products[:-1]).unbind(2)
    product, after = both[:, 0], after.flip(0, 1)

    chance = (before[:, :k] * after[:, 1:]).sum(1) / product[k]
    if k > 1:
        chance = chance - (before[:, : k - 1] * after[:, 2:]).sum(1) / product[k - 1]
    return (product[k] / product[k - 1]).log(), factors[:, 1] * chance, product


def _without(product: Tensor) -> Tensor:
    """Return the coefficients (k, N), by powers of -w, of the log-ratio's derivative by w.

    The product without the factor 1 + w x has the coefficients sum_l (-w)^l product_(n-l).
    """
    fewer = product[:-1].flip(0)
    return fewer / product[-1] - pad(fewer[1:], (0, 0, 0, 1)) / fewer[0]
