"""Groups of numbers to codes of a few bits and back, and how bits are shared out."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from criterium.techniques.activations.bits import allocate
from criterium.techniques.activations.quantise import (
    dequantise,
    even_group,
    pack,
    quantise,
    to_groups,
    unpack,
)
from goldens import Case, cases


def stored(case: Case, name: str) -> Tensor:
    return torch.from_numpy(np.array(case.arrays[name]))


def variance(groups: Tensor, bits: int) -> Tensor:
    """r (1 - r) / scale^2, of numbers in float64."""
    _, scale, offset = quantise(groups, bits, torch.zeros_like(groups))
    place = (groups - offset) * scale
    return (place - place.floor()) * (1 - (place - place.floor())) / scale.square()


@pytest.mark.parametrize("case", cases("actnn_quantise"))
def test_codes_of_the_authors(case: Case) -> None:
    x, bits = stored(case, "x"), case.params["bits"]
    groups = to_groups(x.double())
    noise = stored(case, "noise").double().view(groups.shape)
    codes, scale, offset = quantise(groups, bits, noise)
    torch.testing.assert_close(scale, stored(case, "scale").view(-1, 1), rtol=1e-9, atol=0)
    assert torch.equal(offset, stored(case, "group_min").view(-1, 1))

    sure = ((groups - offset) * scale + noise).frac().sub(0.5).abs() < 0.5 - 1e-5
    assert sure.float().mean() > 0.95
    theirs = stored(case, "codes").view(codes.shape)
    assert torch.equal(codes[sure], theirs[sure])
    # The authors' codes, so that a tie cannot tell on the comparison.
    values = dequantise(unpack(pack(theirs, bits), bits), scale, offset).view(len(x), -1)[:, : x.shape[1]]
    torch.testing.assert_close(values, stored(case, "dequantised").double(), rtol=1e-6, atol=1e-6)

    expected = stored(case, "expected_var").double()
    ours = variance(groups, bits).view(len(x), -1)[:, : x.shape[1]]
    torch.testing.assert_close(ours, expected, rtol=2e-6, atol=1e-12)
    torch.testing.assert_close(stored(case, "expected_mean").double(), x.double(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", cases("actnn_quantise"))
def test_mean_and_variance_over_the_noise_in_float32(case: Case) -> None:
    x, bits, repeats = stored(case, "x"), case.params["bits"], 400
    groups, generator = to_groups(x), torch.Generator().manual_seed(1)
    total = torch.zeros(groups.shape, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for _ in range(repeats):
        error = dequantise(*quantise(groups, bits, torch.rand(groups.shape, generator=generator))) - groups
        total += error
        squares += error.double().square()
    expected = variance(groups.double(), bits)
    # Five standard errors, and what float32 rounds.
    assert ((total / repeats).abs() <= 5 * (expected / repeats).sqrt() + 2e-6).all()
    # The mean square of some thousand numbers over all repeats is known to half a percent.
    assert squares.sum() / repeats == pytest.approx(float(expected.sum()), rel=0.01)
    _, scale, _ = quantise(groups, bits, torch.zeros_like(groups))
    assert (expected <= 0.25 / scale.square() * (1 + 1e-6)).all()


def test_a_scale_in_bfloat16_as_the_authors_keep_it_biases() -> None:
    generator = torch.Generator().manual_seed(2)
    groups = torch.randn(64, 256, generator=generator) + 20
    exact, coarse = torch.zeros_like(groups), torch.zeros_like(groups)
    for _ in range(200):
        codes, scale, offset = quantise(groups, 2, torch.rand(groups.shape, generator=generator))
        exact += (dequantise(codes, scale, offset) - groups) / 200
        coarse += (dequantise(codes, scale.bfloat16().float(), offset.bfloat16().float()) - groups) / 200
    # A number's error is below 2, so the mean over 256 of them and 200 draws has a deviation below 0.005.
    assert exact.mean(1).abs().max() < 0.02
    assert coarse.mean(1).abs().max() > 0.04


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 32), st.integers(0, 2**31))
def test_packing_is_undone_and_takes_the_bits_it_says(bits: int, rows: int, eighths: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (rows, 8 * eighths), dtype=torch.uint8, generator=generator)
    packed = pack(codes, bits)
    assert packed.shape == (rows, eighths * bits)
    assert torch.equal(unpack(packed, bits), codes)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=8, max_size=8),
    st.integers(1, 8),
    st.sampled_from((0.0, 0.5, 1 - 2.0**-24)),
)
def test_a_number_comes_back_within_one_step(numbers: list[float], bits: int, u: float) -> None:
    groups = torch.tensor([numbers])
    codes, scale, offset = quantise(groups, bits, torch.full_like(groups, u))
    assert codes.max() <= 2**bits - 1
    back = dequantise(codes, scale, offset)
    near = 1e-5 * groups.abs().max()
    assert ((back - groups).abs() <= 1 / scale * (1 + 1e-5) + near).all()
    if len(set(numbers)) == 1:
        assert torch.equal(back, groups)


@pytest.mark.parametrize(("features", "size"), [(1, 8), (256, 256), (257, 136), (300, 152), (65536, 256)])
def test_groups_share_a_row_evenly(features: int, size: int) -> None:
    assert even_group(features) == size
    groups = to_groups(torch.ones(2, features), size)
    assert groups.shape == (2 * -(-features // size), size)
    assert groups.sum() == 2 * features


@pytest.mark.parametrize("case", cases("actnn_bits"))
def test_bits_of_the_authors(case: Case) -> None:
    found = allocate(stored(case, "C"), case.params["target"], stored(case, "w"))
    assert found.tolist() == stored(case, "bits").tolist()


def greedy(cost: list[float], weight: list[int], target: float) -> list[int]:
    """The authors' way: a queue of what the next bit costs."""
    bits = [8] * len(cost)

    def added(i: int) -> float:
        return cost[i] * ((2 ** (bits[i] - 1) - 1) ** -2 - (2 ** bits[i] - 1) ** -2) / weight[i]

    queue = [(added(i), i) for i in range(len(cost))]
    heapq.heapify(queue)
    while sum(b * w for b, w in zip(bits, weight, strict=True)) > target and queue:
        _, i = heapq.heappop(queue)
        bits[i] -= 1
        if bits[i] > 1:
            heapq.heappush(queue, (added(i), i))
    return bits


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.integers(1, 50)), min_size=1, max_size=12),
    st.floats(0.5, 9.0),
)
def test_one_sort_finds_what_the_queue_finds(items: list[tuple[float, int]], average: float) -> None:
    cost, weight = [c for c, _ in items], [w for _, w in items]
    target = average * sum(weight)
    found = allocate(torch.tensor(cost, dtype=torch.float64), target, torch.tensor(weight))
    expected = greedy(cost, weight, target)
    total = sum(int(b) * w for b, w in zip(found, weight, strict=True))
    assert total <= max(target, sum(weight))
    # Equal items may swap their bits.
    if len(set(items)) == len(items):
        assert found.tolist() == expected
