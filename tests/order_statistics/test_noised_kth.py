from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from criterium.order_statistics import noised_kth
from goldens import Case, cases


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", cases("noised_topk_fn"))
def test_golden(case: Case, dtype: torch.dtype) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    dim = case.params["dim"] % stored["x"].dim()
    x = stored["x"].to(dtype).requires_grad_()
    kth = noised_kth(
        x.movedim(dim, -1),
        case.params["k"],
        epsilon=case.params["epsilon"],
        noise=stored["noise"].movedim(dim, -2),
    )
    kth.backward(stored["grad_output"].to(dtype))
    tight = dtype == torch.float64
    torch.testing.assert_close(kth.double(), stored["out"], rtol=1e-10 if tight else 1e-6, atol=1e-12)
    torch.testing.assert_close(
        x.grad.double(), stored["grad_x"], rtol=1e-9 if tight else 1e-5, atol=1e-12 if tight else 1e-7
    )


def test_expectation_and_gradient_of_the_larger_of_two() -> None:
    """E max(a + εZ, b + εZ') = aΦ(d) + bΦ(-d) + √2 ε φ(d) with d = (a - b) / (√2 ε).

    Within 4.5 standard errors, which fails once in 150,000 seeds.
    """
    epsilon, samples = 0.5, 200_000
    scores = torch.tensor([0.3, 0.0], dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    value = noised_kth(scores, 1, epsilon=epsilon, samples=samples, generator=generator)
    value.backward()
    spread = math.sqrt(2) * epsilon
    d = torch.tensor(0.3 / spread, dtype=torch.float64)
    first = torch.special.ndtr(d).item()
    density = math.exp(-(d.item() ** 2) / 2) / math.sqrt(2 * math.pi)
    assert value.item() == pytest.approx(0.3 * first + spread * density, abs=4.5 * epsilon / samples**0.5)
    error = 4.5 * math.sqrt(first * (1 - first) / samples)
    assert scores.grad.tolist() == pytest.approx([first, 1 - first], abs=error)


@pytest.mark.parametrize(("k", "mean"), [(1, 1.1629644736), (2, 0.4950189705), (3, 0.0), (5, -1.1629644736)])
def test_expectation_of_order_statistics(k: int, mean: float) -> None:
    """Tabulated means of the order statistics of five normals; their standard deviation is below one."""
    samples = 100_000
    generator = torch.Generator().manual_seed(k)
    value = noised_kth(torch.full((5,), 2.0), k, epsilon=0.1, samples=samples, generator=generator)
    assert value.item() == pytest.approx(2 + 0.1 * mean, abs=4.5 * 0.1 / samples**0.5)


@pytest.mark.parametrize("n", [7, 700])
def test_same_seed_same_bits(n: int) -> None:
    scores = torch.randn(3, n, generator=torch.Generator().manual_seed(0))

    def draw(seed: int) -> torch.Tensor:
        return noised_kth(scores, 3, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    generator = torch.Generator().manual_seed(1)
    first = noised_kth(scores, 3, generator=generator)
    assert not torch.equal(first, noised_kth(scores, 3, generator=generator))


def test_draws_are_taken_in_blocks_without_a_change() -> None:
    """700 scores make blocks of one draw: the plain formula over all draws at once must come out."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 700, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 700, 5, generator=generator, dtype=torch.float64)
    kth = (scores.unsqueeze(-1) + 0.3 * noise).sort(dim=1, descending=True).values[:, 3].mean(-1)
    torch.testing.assert_close(noised_kth(scores, 4, epsilon=0.3, noise=noise), kth, rtol=1e-12, atol=0.0)


def test_without_noise_it_is_the_kth_largest() -> None:
    scores = torch.tensor([4.0, 1.0, 2.0, 2.0])
    assert [noised_kth(scores, k, epsilon=0.0).item() for k in (1, 2, 3, 4)] == [4.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: got 0"),
        ({"k": 4}, "k: got 4, expected at most n = 3"),
        ({"epsilon": -1.0}, "epsilon: got -1.0"),
        ({"samples": 0}, "samples: got 0"),
        ({"noise": torch.zeros(3)}, r"noise: got shape \(3,\), expected \(2, 3, 'S'\)"),
        ({"noise": torch.zeros(2, 3, 0)}, r"noise: got shape \(2, 3, 0\)"),
        ({"scores": torch.tensor([1, 2, 3])}, "scores: got torch.int64"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noised_kth(**{"scores": torch.zeros(2, 3), "k": 2} | change)


class _Peak(TorchDispatchMode):
    """The most numbers that the tensors of a computation held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple) else (found,):
            # Views and results in place share the storage of a tensor that is counted already.
            if isinstance(tensor, torch.Tensor) and tensor._base is None and id(tensor) not in self.live:
                self.live[id(tensor)] = tensor.numel()
                weakref.finalize(tensor, self.live.pop, id(tensor), None)
        self.most = max(self.most, sum(self.live.values()))
        return found


def _peak(n: int, samples: int) -> int:
    scores = torch.randn(8, n, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with _Peak() as peak:
        noised_kth(scores, 3, samples=samples).sum().backward()
    return peak.most


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """Many scores are drawn one sample at a time, few in blocks, whatever the number of samples."""
    assert _peak(700, 200) <= 1.01 * _peak(700, 2) < 10 * 8 * 700
    block = 1024 // 10
    assert _peak(10, 5000) <= 1.01 * _peak(10, 2 * block)


def test_gradient_counts_every_draw_once() -> None:
    scores = torch.zeros(2, 700, dtype=torch.float64, requires_grad=True)
    noised_kth(scores, 2, samples=8, generator=torch.Generator().manual_seed(0)).sum().backward()
    torch.testing.assert_close(scores.grad.sum(1), torch.ones(2, dtype=torch.float64))
    assert ((8 * scores.grad).round() == 8 * scores.grad).all()
    assert scores.grad.count_nonzero() > 8  # of 700, hardly the same one twice
