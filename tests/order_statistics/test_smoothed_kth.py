from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from criterium.order_statistics import noised_kth, smoothed_kth

ROOT = math.sqrt(0.5)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def _with_chances(scores: Tensor, k: int, epsilon: float = 1.0) -> tuple[Tensor, Tensor]:
    leaf = scores.detach().clone().requires_grad_()
    kth = smoothed_kth(leaf, k, epsilon=epsilon)
    (chances,) = torch.autograd.grad(kth.sum(), leaf)
    return kth.detach(), chances


def _profiles(n: int) -> Tensor:
    """Rows of scores, in float32's digits: equal, spread, some above the rest, evenly spaced."""
    generator = torch.Generator().manual_seed(n)
    rows = [torch.zeros(n), torch.linspace(-6, 0, n)]
    rows += [spread * torch.randn(n, generator=generator) for spread in (0.3, 1.0, 4.0)]
    rows += [above * (torch.arange(n) < many) for many in (1, 5, 30) for above in (2.0, 6.0)]
    return torch.stack(rows).double()


def _by_brute_force(scores: Tensor, k: int) -> Tensor:
    """E = high - ∫ G, on 650 nodes, counting the scores that exceed one by one; (..., n) to (...)."""
    middle = scores.topk(k).values[..., -1:]
    t = torch.linspace(-12, 14, 651, dtype=torch.float64)
    x = t - (scores - middle).unsqueeze(-1)  # (..., n, nodes)
    miss, hit = 0.5 * torch.erfc(-x * ROOT), 0.5 * torch.erfc(x * ROOT)
    counts = [torch.ones_like(x[..., 0, :])] + [torch.zeros_like(x[..., 0, :])] * (k - 1)
    for j in range(scores.shape[-1]):
        shifted = [torch.zeros_like(counts[0]), *counts[:-1]]
        counts = [c * miss[..., j, :] + s * hit[..., j, :] for c, s in zip(counts, shifted, strict=True)]
    below = torch.stack(counts).sum(0)
    return middle.squeeze(-1) + t[-1] - torch.trapezoid(below, t)


# Numbers


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 1), (2, 2), (7, 4), (30, 1), (30, 10), (90, 1), (150, 3), (300, 6), (250, 10)]
)
def test_against_brute_force(n: int, k: int, dtype: torch.dtype) -> None:
    """With some tens of scores all are counted one by one; of some hundreds most are a crowd."""
    scores = _profiles(n)
    found, chances = _with_chances(scores.to(dtype), k)
    assert found.dtype == dtype
    error = TOLERANCE[dtype]
    torch.testing.assert_close(found.double(), _by_brute_force(scores, k), rtol=0.0, atol=error)
    # From below it is the (n + 1 - k)-th.
    mirrored, mirrored_chances = _with_chances(-scores.to(dtype), n + 1 - k)
    torch.testing.assert_close(mirrored, -found, rtol=0.0, atol=error)
    torch.testing.assert_close(mirrored_chances, chances, rtol=0.0, atol=error)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("n", "k"), [(20, 3), (200, 1), (200, 4)])
def test_gradient_is_the_slope(n: int, k: int, dtype: torch.dtype) -> None:
    scores = _profiles(n)
    _, chances = _with_chances(scores.to(dtype), k)
    step = 1e-3
    for j in (0, 1, n // 2, n - 1):
        move = step * torch.nn.functional.one_hot(torch.tensor(j), n).double()
        # Fourth order, so that the step may be large.
        near, far = (
            _by_brute_force(scores + m * move, k) - _by_brute_force(scores - m * move, k) for m in (1, 2)
        )
        slope = (8 * near - far) / (12 * step)
        torch.testing.assert_close(chances[:, j].double(), slope, rtol=0.0, atol=max(TOLERANCE[dtype], 1e-8))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_ten_thousand_equal_scores(k: int, dtype: torch.dtype) -> None:
    """Where G is a tail of the binomial distribution."""
    n = 10_000
    t = torch.linspace(-2, 12, 1401, dtype=torch.float64)
    log_hit, log_miss = torch.special.log_ndtr(-t), torch.special.log_ndtr(t)
    below = sum((math.log(math.comb(n, i)) + i * log_hit + (n - i) * log_miss).exp() for i in range(k))
    found, chances = _with_chances(torch.full((1, n), 3.0, dtype=dtype), k)
    error = TOLERANCE[dtype]
    assert found.item() == pytest.approx(15 - torch.trapezoid(below, t).item(), abs=error)
    torch.testing.assert_close(chances, torch.full_like(chances, 1 / n), rtol=error, atol=0.0)


@pytest.mark.parametrize(
    ("n", "k", "draws"), [(20, 1, 200_000), (20, 3, 200_000), (20, 6, 200_000), (400, 5, 10_000)]
)
def test_sampling_agrees_within_four_standard_errors(n: int, k: int, draws: int) -> None:
    epsilon = 0.7
    generator = torch.Generator().manual_seed(k)
    scores = torch.randn(n, generator=generator, dtype=torch.float64)
    found, chances = _with_chances(scores, k, epsilon)
    noise = torch.randn(draws, n, generator=generator, dtype=torch.float64)
    kth = torch.add(scores, noise, alpha=epsilon).topk(k)
    values, winners = kth.values[:, -1], kth.indices[:, -1]
    assert abs(values.mean() - found) < 4 * values.std() / draws**0.5
    frequency = winners.bincount(minlength=n) / draws
    assert ((frequency - chances).abs() <= 4 * (chances * (1 - chances) / draws).sqrt() + 1 / draws).all()


@pytest.mark.parametrize("n", [6, 120])
def test_it_is_what_noised_kth_samples(n: int) -> None:
    scores = torch.linspace(-1, 1, n)
    sampled = noised_kth(scores, 2, epsilon=0.5, samples=20_000, generator=torch.Generator().manual_seed(0))
    assert abs(sampled - smoothed_kth(scores, 2, epsilon=0.5)) < 4 * 0.5 / 20_000**0.5  # sd below epsilon


# Limits


@pytest.mark.parametrize("n", [4, 200])
def test_little_noise_gives_the_kth_largest(n: int) -> None:
    scores = torch.randperm(n, generator=torch.Generator().manual_seed(0)).double()
    for k in (1, 3, n - 1, n):
        for epsilon in (0.0, 1e-30, 1e-3):
            kth, chances = _with_chances(scores, k, epsilon)
            assert kth.item() == pytest.approx(n - k, abs=1e-12)
            torch.testing.assert_close(chances, (scores == n - k).double(), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("n", [5, 300])
def test_extreme_scores(n: int, dtype: torch.dtype) -> None:
    rows = torch.zeros(4, n, dtype=dtype)
    rows[0] = 1e4
    rows[1, 0], rows[2, 0] = 1e4, -1e4
    rows[3] = 1e4 * torch.linspace(-1, 1, n, dtype=dtype)
    kth, chances = _with_chances(rows, 2)
    assert kth.isfinite().all()
    torch.testing.assert_close(chances.sum(1), torch.ones_like(kth), rtol=0.0, atol=TOLERANCE[dtype])
    even = smoothed_kth(torch.zeros(n, dtype=torch.float64), 2)
    without = smoothed_kth(torch.zeros(n - 1, dtype=torch.float64), 1)
    ladder = 1e4 * (n - 3) / (n - 1)
    for row, expected in enumerate(
        (1e4 + even, without, smoothed_kth(torch.zeros(n - 1).double(), 2), ladder)
    ):
        size = float(rows[row].abs().max())
        assert kth[row].item() == pytest.approx(float(expected), abs=1e-5 + 2 * torch.finfo(dtype).eps * size)
    assert max(chances[1, 0], chances[2, 0]) < 1e-12


def test_shapes_and_types() -> None:
    scores = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    kth = smoothed_kth(scores, 4)
    assert kth.shape == (2, 3)
    torch.testing.assert_close(kth[1, 2], smoothed_kth(scores[1, 2], 4))
    assert smoothed_kth(scores.half(), 4).dtype == torch.float32
    assert smoothed_kth(torch.zeros(0, 5), 2).shape == (0,)


# Properties


@st.composite
def _rows(draw: st.DrawFn) -> tuple[Tensor, float, int]:
    """Scores, noise and a place: few, or many with some of them above."""
    few = draw(st.lists(st.floats(-8, 8), min_size=1, max_size=12))
    crowd = draw(st.sampled_from((0, 0, 80)))
    spread = draw(st.floats(0.01, 4.0))
    scores = torch.tensor([*few, *(-spread * i / 20 for i in range(crowd))], dtype=torch.float64)
    return scores, draw(st.floats(0.05, 3.0)), draw(st.integers(0, len(scores) - 1))


@given(_rows(), st.integers(1, 6))
def test_properties(row: tuple[Tensor, float, int], k: int) -> None:
    scores, epsilon, place = row
    n = len(scores)
    k = min(k, n)
    error = 2e-9 * epsilon
    kth, chances = _with_chances(scores, k, epsilon)
    assert chances.min() >= 0
    assert chances.sum().item() == pytest.approx(1, abs=1e-8)
    # No further from the k-th largest than the extreme of as many normals can bring it.
    hard = scores.topk(k).values[-1]
    up, down = (smoothed_kth(torch.zeros(m, dtype=torch.float64), 1) for m in (n + 1 - k, k))
    assert hard - epsilon * down - error <= kth <= hard + epsilon * up + error
    # Between its neighbours.
    if k < n:
        assert smoothed_kth(scores, k + 1, epsilon=epsilon) <= kth + error
    # Rises with every score, by no more than it.
    move = 0.3 * torch.nn.functional.one_hot(torch.tensor(place), n).double()
    rise = smoothed_kth(scores + move, k, epsilon=epsilon) - kth
    assert -error <= rise <= 0.3 + error
    # Names, shift and unit do not matter.
    turned, turned_chances = _with_chances(scores.roll(place), k, epsilon)
    assert turned.item() == pytest.approx(kth.item(), abs=error)
    torch.testing.assert_close(turned_chances.roll(-place), chances, rtol=0.0, atol=1e-9)
    assert smoothed_kth(scores + 5, k, epsilon=epsilon).item() == pytest.approx(
        kth.item() + 5, abs=error + 1e-14
    )
    assert smoothed_kth(3 * scores, k, epsilon=3 * epsilon).item() == pytest.approx(
        3 * kth.item(), abs=3 * error
    )


@pytest.mark.parametrize("n", [9, 90])
def test_all_of_them_sum_to_the_scores(n: int) -> None:
    scores = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    few = (*range(1, 5), *range(n - 3, n + 1)) if n > 9 else range(1, n + 1)
    kth = {k: smoothed_kth(scores, k, epsilon=0.4) for k in few}
    values = torch.stack([kth[k] for k in sorted(kth)])
    assert (values.diff() < 0).all()
    if n == len(kth):
        torch.testing.assert_close(values.sum(), scores.sum(), rtol=0.0, atol=1e-9)


# The ways of torch


@pytest.mark.parametrize("n", [6, 150])
def test_gradcheck(n: int) -> None:
    scores = torch.randn(1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: smoothed_kth(x, 3, epsilon=0.7), scores.requires_grad_())


# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("n", [6, 150])
def test_compile_and_vmap(n: int) -> None:
    scores = torch.randn(3, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kth, chances = _with_chances(scores, 2)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: smoothed_kth(x, 2), fullgraph=True, backend="aot_eager")
    leaf = scores.clone().requires_grad_()
    found = compiled(leaf)
    torch.testing.assert_close(found, kth)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), leaf)[0], chances)

    def one(row: Tensor) -> Tensor:
        return smoothed_kth(row, 2)

    torch.testing.assert_close(torch.func.vmap(one)(scores), kth)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(one))(scores), chances)


def test_a_second_derivative_is_refused() -> None:
    scores = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(smoothed_kth(scores, 2) ** 2, scores, create_graph=True)
    with pytest.raises(NotImplementedError, match="smoothed_kth: has a first derivative, but no second"):
        slope.sum().backward()
    with pytest.raises(NotImplementedError, match="no second"):
        torch.func.grad(lambda x: torch.func.grad(lambda y: smoothed_kth(y, 2))(x)[0])(scores.detach())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: got 0"),
        ({"k": 4}, "k: got 4, expected at most n = 3"),
        ({"epsilon": -1.0}, "epsilon: got -1.0"),
        ({"epsilon": math.inf}, "epsilon: got inf"),
        ({"scores": torch.tensor([1, 2, 3])}, "scores: got torch.int64"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smoothed_kth(**{"scores": torch.zeros(2, 3), "k": 2} | change)
