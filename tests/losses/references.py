"""The losses of one row in float64, as their formulas read: slow, and by other means than the library's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, log_ndtr, logsumexp, ndtr

from criterium.sorting.networks import NETWORKS

Row = np.ndarray
T = np.linspace(-45, 45, 18001)
"""Nodes of the trapezoidal rule, fine enough for normal densities."""
STEP = T[1] - T[0]


def others(z: Row, y: int) -> Row:
    return np.delete(z, y)


def nll(z: Row, y: int) -> float:
    return float(logsumexp(z) - z[y])


def negative_entropy(z: Row) -> float:
    """Σ P log P of the softmax of logits, 0 of none."""
    z = z[z > -np.inf]
    if len(z) == 0:
        return 0.0
    log_p = z - logsumexp(z)
    return float((np.exp(log_p) * log_p).sum())


def at_most(chances: Row, k: int) -> Row:
    """Pr[fewer than k of independent events], of chances (events, nodes)."""
    count = np.zeros((k, chances.shape[1]))
    count[0] = 1
    for q in chances:
        moved = count * q
        count = count * (1 - q)
        count[1:] += moved[:-1]
    return count.sum(0)


def exact(z: Row, y: int, *, temperature=1.0, margin=math.inf, k=1, log=False, **_: Any) -> float:
    gap = np.minimum(z[y] - others(z, y), margin) / temperature
    x = T + gap[:, None]
    if k == 1:
        log_mass = -0.5 * T * T - 0.5 * math.log(2 * math.pi) + log_ndtr(x).sum(0)
    else:
        with np.errstate(divide="ignore"):
            log_mass = -0.5 * T * T - 0.5 * math.log(2 * math.pi) + np.log(at_most(ndtr(-x), k))
    log_p = logsumexp(log_mass) + math.log(STEP)
    return -log_p if log else 1 - math.exp(log_p)


SHARES: dict[str, Callable[[float, float, float], float]] = {
    "logistic": lambda gap, beta, _: float(expit(beta * gap)),
    "logistic_phi": lambda gap, beta, power: float(expit(beta * gap / (abs(gap) + 1e-10) ** power)),
}


def network(z: Row, k: int, relaxation: str, distribution: str, steepness: float, power: float) -> Row:
    """The relaxed ranks 1 to k of the first element."""
    values, where = z.copy(), np.zeros(len(z))
    where[0] = 1
    for layer in NETWORKS[relaxation](len(z), k):
        for low, high in layer:
            a, b = values[low], values[high]
            stay = SHARES[distribution](b - a, steepness, power)
            values[low], values[high] = stay * a + (1 - stay) * b, stay * b + (1 - stay) * a
            p, q = where[low], where[high]
            where[low], where[high] = stay * p + (1 - stay) * q, stay * q + (1 - stay) * p
    return where[::-1][:k]


def lapsum(z: Row, k: int) -> Row:
    def chance(r: int) -> float:
        if r == 0:
            return 0.0
        low, high = z.min() - 60, z.max() + 60
        for _ in range(200):
            middle = (low + high) / 2
            d = z - middle
            f = np.where(d < 0, 0.5 * np.exp(-np.abs(d)), 1 - 0.5 * np.exp(-np.abs(d)))
            low, high = (middle, high) if f.sum() > r else (low, middle)
        return float(f[0])

    return np.diff([chance(r) for r in range(k + 1)])


def sinkhorn(z: Row, k: int) -> Row:
    n = len(z)
    anchors = (n - 1) / 2 - np.arange(n)
    cost, column = -np.square(z[:, None] - anchors), np.zeros(n)
    for _ in range(2000):
        row = -logsumexp(cost + column, axis=1)
        column = -logsumexp(cost + row[:, None], axis=0)
    return np.exp(cost + row[:, None] + column)[0, :k]


def softsorts(z: Row, k: int, relaxation: str) -> Row:
    n, ranked = len(z), np.sort(z)[::-1]
    ranks = []
    for r in range(1, k + 1):
        if relaxation == "softsort":
            logits = -np.abs(z - ranked[r - 1])
        else:
            logits = (n + 1 - 2 * r) * z - np.abs(z[:, None] - z).sum(1)
        ranks.append(np.exp(logits[0] - logsumexp(logits)))
    return np.array(ranks)


def topk(
    z: Row,
    y: int,
    *,
    p_k: tuple[float, ...],
    relaxation="odd_even",
    distribution="logistic",
    steepness=1.0,
    art_lambda=0.25,
    candidates: int | None = None,
    top1="softmax",
) -> float:
    # The true class, and the others in falling order.
    z = np.maximum(z, z.max() - 1e4)
    z = np.concatenate([z[y : y + 1], np.sort(others(z, y))[::-1]])[:candidates]
    k = len(p_k)
    if relaxation in NETWORKS:
        ranks = network(z, k, relaxation, distribution, steepness, art_lambda)
    elif relaxation == "lapsum":
        ranks = lapsum(z * steepness, k)
    elif relaxation == "sinkhorn":
        ranks = sinkhorn(z * steepness, k)
    else:
        ranks = softsorts(z * steepness, k, relaxation)
    within, first = np.cumsum(ranks), math.exp(-nll(z, 0))
    rest = sum(p * within[i] for i, p in enumerate(p_k) if i or top1 == "sort")
    if top1 == "softmax":
        rest += p_k[0] * first
    loss = -math.log(rest * (1 - 2e-7) + 1e-7)
    return p_k[0] * nll(z, 0) + (1 - p_k[0]) * loss if top1 == "softmax_ce" else loss


def noised(
    z: Row,
    y: int,
    *,
    k: int,
    epsilon=1.0,
    margin: Any = 1.0,
    scale=1.0,
    samples: int | None = 5,
    noise: Any = None,
) -> float:
    if samples is None:
        nodes = np.linspace(z[z > -np.inf].min() - 40, z.max() + 40, 40001)
        tail = at_most(ndtr((z[:, None] - nodes) / epsilon), k + 1)
        # E Y of the (k+1)-th largest: the upper end less the integral of Pr[Y <= t].
        kth = nodes[-1] - (tail.sum() - 0.5) * (nodes[1] - nodes[0])
    else:
        kth = np.mean([np.sort(z + epsilon * draw)[::-1][k] for draw in np.asarray(noise).T])
    own = float(margin[y]) if hasattr(margin, "__len__") else margin
    return max(0.0, scale * (own + kth - z[y]))


def smooth_svm(z: Row, y: int, *, k: int, temperature=1.0, margin=1.0) -> float:
    wrong = others(z, y) / (k * temperature)

    def log_sum(size: int) -> float:
        return float(logsumexp([sum(each) for each in itertools.combinations(wrong, size)]))

    excess = (margin - z[y] / k) / temperature + log_sum(k) - log_sum(k - 1)
    return temperature * float(np.logaddexp(0, excess))


def zero_one(z: Row, y: int, *, kind="sigmoid", temperature=1.0, a: Any = 0.0, b: Any = 0.0) -> float:
    d = (z[y] - others(z, y)) / temperature
    if kind == "sigmoid":
        return float((1 / (1 + np.exp(d))).sum())
    if kind == "polynomial":
        c = d.clip(-1, 1)
        return float((0.5 - 0.75 * c + 0.25 * c**3).sum())
    w, theta = (1 / (1 + math.exp(-float(value))) for value in (a, b))
    return float(-np.log(w * theta + (1 - w) / (1 + np.exp(-d))).sum())


def hierarchical(z: Row, y: int, *, groups: Any, level="both") -> float:
    total = 0.0
    for numbers in np.asarray(groups).reshape(-1, len(z)):
        own = numbers == numbers[y]
        inner, outer = own.copy(), ~own
        inner[y] = False
        total += (level != "outer") * negative_entropy(z[inner]) / own.sum()
        total += (level != "inner") * negative_entropy(z[outer]) / len(z)
    return total


def margins(counts: Any, most: float) -> Row:
    counts = np.asarray(counts, dtype=float)
    return most * (counts / counts.min()) ** -0.25


def ldam(z: Row, y: int, *, class_counts: Any, max_margin=0.5, scale=30.0) -> float:
    z = z.copy()
    z[y] -= margins(class_counts, max_margin)[y]
    return nll(scale * z, y)


def adjusted(z: Row, y: int, *, class_counts: Any, tau=1.0) -> float:
    counts = np.asarray(class_counts, dtype=float)
    return nll(z + tau * np.log(counts / counts.sum()), y)


REFERENCES: dict[str, Callable[..., float]] = {
    "exact_loss": exact,
    "topk_cross_entropy": topk,
    "noised_topk_hinge": noised,
    "isomax_loss": lambda z, y, entropic_scale=10.0: nll(entropic_scale * z, y),
    "complement_entropy": lambda z, y: negative_entropy(others(z, y)) / len(z),
    "guided_complement_entropy": lambda z, y, alpha=1 / 3: (
        math.exp(-alpha * nll(z, y)) * negative_entropy(others(z, y)) / math.log(len(z))
    ),
    "hierarchical_complement_entropy": hierarchical,
    "focal_loss": lambda z, y, gamma=2.0: (1 - math.exp(-nll(z, y))) ** gamma * nll(z, y),
    "poly1_cross_entropy": lambda z, y, epsilon=1.0: nll(z, y) + epsilon * (1 - math.exp(-nll(z, y))),
    "ldam_loss": ldam,
    "logit_adjusted_cross_entropy": adjusted,
    "maxsup_loss": lambda z, y, alpha=0.1: nll(z, y) + alpha * (z.max() - z.mean()),
    "multiclass_hinge": lambda z, y, margin=1.0: np.maximum(0, margin + others(z, y) - z[y]).mean(),
    "zero_one_relaxation": zero_one,
    "label_smoothing_cross_entropy": lambda z, y, smoothing=0.1: (
        (1 - smoothing) * nll(z, y) + smoothing * (logsumexp(z) - z.mean())
    ),
    "smooth_topk_svm": smooth_svm,
    "topk_svm": lambda z, y, k=5, margin=1.0: max(
        0.0, margin + (np.sort(others(z, y))[::-1][k - 1] - z[y]) / k
    ),
}
