from __future__ import annotations

import itertools

import numpy as np
import pytest

from criterium.sorting.networks import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_select_the_k_largest_of_every_input(name: str) -> None:
    """By the 0-1 principle a network that is right on all zeros and ones is right on all numbers."""
    for n in range(1, 13):
        inputs = np.array(list(itertools.product([0, 1], repeat=n)), dtype=np.int8).T
        ordered = np.sort(inputs, axis=0)
        for k in range(1, n + 1):
            wires = inputs.copy()
            for layer in NETWORKS[name](n, k):
                low, high = np.array(layer, dtype=np.int64).reshape(-1, 2).T
                assert len({*low, *high}) == 2 * len(layer), "comparators of a layer share a wire"
                wires[low], wires[high] = np.minimum(*wires[[low, high]]), np.maximum(*wires[[low, high]])
            assert np.array_equal(wires[n - k :], ordered[n - k :]), (name, n, k)


def test_depth_and_size() -> None:
    def shape(name: str, n: int, k: int) -> tuple[int, int]:
        layers = NETWORKS[name](n, k)
        return len(layers), sum(map(len, layers))

    assert shape("odd_even", 16, 16) == (16, 120)
    assert shape("odd_even", 16, 5) == (16, 90)
    assert shape("bitonic", 16, 16) == (10, 80)
    assert shape("bitonic", 16, 5) == (10, 67)
    assert shape("splitter", 16, 1) == (4, 32)
    assert shape("splitter", 16, 5) == (10, 50)
