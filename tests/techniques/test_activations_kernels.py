"""The Triton kernels against the functions they stand for, in Triton's interpreter on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from criterium.techniques.activations import kernels
from criterium.techniques.activations.quantise import dequantise, quantise, unpack


def check(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    groups, noise = (torch.randn(3, size, generator=generator), torch.rand(3, size, generator=generator))
    groups[1] = 2.5
    for bits in range(1, 9):
        codes, scale, offset = quantise(groups, bits, noise)
        packed, *found = kernels.compress(groups, bits, noise=noise)
        torch.testing.assert_close(found, [scale, offset], rtol=1e-6, atol=0)
        assert packed.shape == (3, size * bits // 8)
        # One multiply-add may round f + u across a whole number.
        off = (unpack(packed, bits).int() - codes.int()).abs()
        assert off.max() <= 1
        assert off.float().mean() < 0.01
        values = kernels.restore(packed, *found, bits)
        torch.testing.assert_close(values, dequantise(unpack(packed, bits), *found), rtol=1e-6, atol=1e-6)
    # Noise of the kernel's own: within a step, of mean zero, and the same for the same seed.
    error = torch.zeros_like(groups)
    for _ in range(100):
        packed, *found = kernels.compress(groups, 2, generator=generator)
        draw = kernels.restore(packed, *found, 2) - groups
        assert (draw * found[0]).abs().max() < 1 + 1e-5
        error += draw / 100
    # A step's half is the largest deviation; five standard errors of 100 draws.
    assert (error * found[0]).abs().max() < 5 * 0.5 / 10
    one, two = (kernels.compress(groups, 3, generator=generator.manual_seed(4))[0] for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.skipif(not kernels.AVAILABLE, reason="Triton is not installed")
def test_kernels_in_the_interpreter() -> None:
    # The interpreter is chosen before Triton is imported.
    subprocess.run(
        [sys.executable, "-c", "import test_activations_kernels as t; t.check(152); t.check(8)"],
        cwd=Path(__file__).parent,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=True,
    )


@pytest.mark.skipif(
    not (kernels.AVAILABLE and torch.cuda.is_available()), reason="needs a CUDA device and Triton"
)
def test_kernels_on_the_device() -> None:
    groups, noise = torch.randn(1000, 256), torch.rand(1000, 256)
    for bits in range(1, 9):
        codes, scale, offset = quantise(groups, bits, noise)
        packed, *found = kernels.compress(groups.cuda(), bits, noise=noise.cuda())
        torch.testing.assert_close([part.cpu() for part in found], [scale, offset], rtol=1e-6, atol=0)
        assert (unpack(packed.cpu(), bits) != codes).float().mean() < 0.001
        values = kernels.restore(packed, *found, bits).cpu()
        expected = dequantise(unpack(packed.cpu(), bits), scale, offset)
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)


def test_the_cpu_takes_the_plain_path() -> None:
    assert not kernels.usable(torch.zeros(1))
