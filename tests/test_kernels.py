"""The kernels against what they stand for: compiled where there is a GPU, else in Triton's interpreter.

The interpreter is chosen before Triton is imported, so `test_in_the_interpreter` runs this file again in a
process of its own.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import criterium
from criterium import linear
from criterium.functional import (
    complement_entropy,
    focal_loss,
    guided_complement_entropy,
    isomax_loss,
    label_smoothing_cross_entropy,
    ldam_loss,
    logit_adjusted_cross_entropy,
    maxsup_loss,
    poly1_cross_entropy,
)
from criterium.linear import accumulators, candidates, kernels, scan
from criterium.losses import _contract, _kernels, _one_pass

TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = TRITON and os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
KERNELS = INTERPRETED or (TRITON and DEVICE == "cuda")

needs_kernels = pytest.mark.skipif(not KERNELS, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")
classes_of_all_sizes = pytest.mark.parametrize("classes", [1, 2, 3, 10, 1000, 20000])

LOSSES = {
    "focal": (focal_loss, {"gamma": 2.0}),
    "focal, 0": (focal_loss, {"gamma": 0}),
    "focal, 0.5": (focal_loss, {"gamma": 0.5}),
    "poly1": (poly1_cross_entropy, {"epsilon": -0.5}),
    "label smoothing": (label_smoothing_cross_entropy, {"smoothing": 0.1}),
    "maxsup": (maxsup_loss, {"alpha": 0.3}),
    "complement": (complement_entropy, {}),
    "guided complement": (guided_complement_entropy, {"alpha": 0.7}),
    "logit adjusted": (logit_adjusted_cross_entropy, {"tau": 1.3}),
    "ldam": (ldam_loss, {"max_margin": 0.5, "scale": 30.0}),
    "isomax": (isomax_loss, {"entropic_scale": 10.0}),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.mark.skipif(not TRITON, reason="Triton is not installed")
@pytest.mark.skipif(TRITON and version("triton") < "3.7", reason="Triton 3.6 interprets nothing by NumPy 2.4")
@pytest.mark.skipif(KERNELS, reason="the kernels are tested in this process")
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", Path(__file__).name]
    package = str(Path(criterium.__file__).parents[1])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": package}
    run = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let float32 logits take the kernels wherever they are, and note which did."""
    seen: list[str] = []
    kernel = _kernels.losses

    def noted(logits: Tensor, target: Tensor, loss: str, *arguments: Any, **options: Any) -> Any:
        seen.append(loss)
        return kernel(logits, target, loss, *arguments, **options)

    if DEVICE == "cpu":
        monkeypatch.setattr(_one_pass, "usable", lambda logits: logits.dtype == torch.float32)
    monkeypatch.setattr(_kernels, "losses", noted)
    return seen


def _loss(name: str, classes: int) -> Callable[..., Tensor]:
    function, options = LOSSES[name]
    if name in ("logit adjusted", "ldam"):
        options = options | {"class_counts": 1 + torch.arange(classes) % 7}
    return lambda *arguments, **contract: function(*arguments, **options, **contract)


def _logits(classes: int, rows: int = 11) -> tuple[Tensor, Tensor]:
    """Rows at random, equal, with ties and an absent class, and from the fifth on with numbers far apart."""
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(11, classes, generator=generator)
    target = torch.randint(classes, (11,), generator=generator)
    far = 1e4 * torch.nn.functional.one_hot(target, classes)
    logits[1] = 2.5
    logits[2] = (logits[2] / 3).round()
    logits[3, (target[3] + 1) % classes] = -math.inf
    logits[3, target[3]] = 0.5
    logits[4] = 1e4 + logits[2]
    logits[5] = far[5]
    logits[6] = -far[6]
    logits[7] = 1e4 * (-1.0) ** torch.arange(classes)
    logits[8] = far[8].roll(1)
    logits[9] = 1e4
    logits[10] = -1e4
    return logits[:rows], target[:rows]


def _with_gradient(loss: Callable[..., Tensor], logits: Tensor, *of: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, *of)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _close(found: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    """Equal relative to the largest entry of a row."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert found.shape == expected.shape
    assert found.isfinite().all()
    largest = expected.abs().reshape(len(expected), -1).amax(dim=1) if expected.dim() else expected.abs()
    off = (found - expected).abs().reshape(found.shape[0] if found.dim() else 1, -1).amax(dim=-1)
    assert (off <= relative * largest + 1e-12).all(), (off, largest)


# Losses of rows


@needs_kernels
@every_loss
@classes_of_all_sizes
def test_a_loss_and_its_gradient(name: str, classes: int, runs: list[str]) -> None:
    loss = _loss(name, classes)
    logits, target = _logits(classes)
    if name in ("label smoothing", "maxsup"):
        # Of an absent class these are infinite.
        logits[3] = logits[3].clamp_min(-9)
    if name in ("logit adjusted", "ldam"):
        # A shift or margin of equal logits about 1e4 is rounded.
        for row in (4, 7, 9, 10):
            logits[row] /= 1e4
    wide = logits.double()
    # What is so far below is absent; the reference would take infinity times a probability of zero.
    wide = wide.clamp_min(-1e6) if "complement" in name else wide
    expected = _with_gradient(lambda x: loss(x, target, reduction="none"), wide)
    assert not runs
    labels = target.to(DEVICE)
    found = _with_gradient(lambda x: loss(x, labels, reduction="none"), logits.to(DEVICE))
    assert len(runs) == 1
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        _close(one, other)


@needs_kernels
@every_loss
def test_reductions(name: str, runs: list[str]) -> None:
    loss = _loss(name, 10)
    logits, target = _logits(10, 3)
    target[1] = -100
    labels = target.to(DEVICE)
    for contract in ({}, {"reduction": "sum"}, {"weight": torch.linspace(0, 2, 10)}):
        expected, its_gradient = _with_gradient(lambda x, o=contract: loss(x, target, **o), logits.double())
        found, gradient = _with_gradient(lambda x, o=contract: loss(x, labels, **o), logits.to(DEVICE))
        _close(found, expected)
        _close(gradient, its_gradient)
    assert len(runs) == 3


@needs_kernels
@every_loss
def test_the_second_derivative_is_the_reference_s(name: str, runs: list[str]) -> None:
    loss = _loss(name, 10)
    logits, target = _logits(10, 3)
    # A maximum that is shared has none.
    logits[1:] += torch.linspace(0, 0.3, 10)
    direction = torch.linspace(-1, 1, 30).reshape(3, 10)

    def curvature(x: Tensor) -> Tensor:
        leaf = x.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, target.to(x.device)), leaf, create_graph=True)
        return torch.autograd.grad((gradient * direction.to(x)).sum(), leaf)[0]

    expected = curvature(logits.double())
    # The reference's own digits, in float32.
    _close(curvature(logits.to(DEVICE)), expected, 1e-4)
    assert runs


@needs_kernels
def test_without_a_gradient_there_is_none(runs: list[str]) -> None:
    logits, target = _logits(1000)
    values, slopes = _kernels.losses(logits.to(DEVICE), target.to(DEVICE), "focal", 2, slope=False)
    assert slopes.numel() == 0
    _close(values, focal_loss(logits.double(), target, reduction="none"))
    runs.clear()
    found = focal_loss(logits.to(DEVICE), target.to(DEVICE), reduction="none")
    assert torch.equal(found, values)
    assert runs == ["focal"]


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [3, 1000, 20000])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype, classes: int) -> None:
    logits, target = _logits(classes)
    logits[3] = 0
    half = logits.to(dtype)
    for loss, option in (("guided_complement", 0.7), ("maxsup", 0.3)):
        function = guided_complement_entropy if loss == "guided_complement" else maxsup_loss
        expected, slope = _with_gradient(
            lambda x, f=function, o=option: f(x, target, alpha=o, reduction="none"), half.double()
        )
        values, slopes = _kernels.losses(half.to(DEVICE), target.to(DEVICE), loss, option)
        assert values.dtype == torch.float32
        assert slopes.dtype == dtype
        _close(values, expected)
        # Below the least float16 a slope is zero.
        off = (slopes.cpu().double() - slope).abs()
        assert (off <= torch.finfo(dtype).eps * slope.abs() + torch.finfo(dtype).tiny).all()


@needs_kernels
def test_an_index_that_is_no_class_spoils_its_row_only() -> None:
    logits, target = torch.zeros(4, 3), torch.tensor([0, 3, -1, 2])
    values, slopes = _kernels.losses(logits.to(DEVICE), target.to(DEVICE), "maxsup", 0.1)
    assert values.isnan().tolist() == [False, True, True, False]
    assert slopes[[0, 3]].isfinite().all()
    values, slopes = _kernels.losses(logits[:0].to(DEVICE), target[:0].to(DEVICE), "maxsup", 0.1)
    assert values.shape == (0,)
    assert slopes.shape == (0, 3)


@needs_kernels
@every_loss
def test_rows_that_count_for_nothing_may_hold_anything(
    name: str, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_contract, "looked_at", lambda values: False)  # as on a GPU
    loss = _loss(name, 10)
    logits, target = _logits(10)
    weight = 1 + torch.arange(10.0)
    weight[target[0]] = 0
    counting = (weight[target] > 0) & (torch.arange(11) != 5)
    spoilt = logits.where(counting.unsqueeze(1), math.nan)
    options = {"weight": weight, "reduction": "none"}
    expected, its_gradient = _with_gradient(lambda x: loss(x, target, **options) * counting, logits.double())
    ignoring = target.where(torch.arange(11) != 5, -100)
    device = {"weight": weight.to(DEVICE), "reduction": "none"}
    found, gradient = _with_gradient(lambda x: loss(x, ignoring.to(DEVICE), **device), spoilt.to(DEVICE))
    known = expected.isfinite()  # label smoothing and MaxSup of a masked class are infinite
    _close(found[known], expected[known])
    _close(gradient[known], its_gradient[known])
    assert not gradient[~counting].any()
    assert runs


@needs_kernels
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, in the interpreter
@every_loss
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_with_nan_or_infinity_is_nan(name: str, value: float, runs: list[str]) -> None:
    target = torch.tensor([0, 1, 2])
    for column in (1, 3):
        logits = torch.linspace(-1, 1, 15).reshape(3, 5)
        logits[1, column] = value
        found, gradient = _with_gradient(
            lambda x: _loss(name, 5)(x, target.to(DEVICE), reduction="none"), logits.to(DEVICE)
        )
        assert found.isnan().tolist() == [False, True, False]
        assert gradient[1].isnan().any()
        assert gradient[[0, 2]].isfinite().all()
    assert runs


@needs_kernels
@every_loss
def test_logits_far_from_zero_keep_their_digits(name: str, runs: list[str]) -> None:
    logits = (_logits(10, 1)[0] * 16).round() / 16
    target = torch.tensor([3])
    call = lambda x: _loss(name, 10)(x, target.to(x.device), reduction="none")  # noqa: E731
    expected, its_gradient = _with_gradient(call, logits.double())
    found, gradient = _with_gradient(call, (logits + 1e6).to(DEVICE))
    _close(found, expected)
    _close(gradient, its_gradient)
    assert runs


@needs_kernels
def test_strides_do_not_matter(runs: list[str]) -> None:
    logits, target = _logits(10, 3)
    expected, its_gradient = _with_gradient(lambda x: maxsup_loss(x, target), logits.double())
    for spread in (lambda x: x.T.contiguous().T, lambda x: x.repeat(1, 2)[:, :10]):
        leaf = logits.to(DEVICE).requires_grad_()
        value = maxsup_loss(spread(leaf), target.to(DEVICE))
        _close(value, expected)
        _close(torch.autograd.grad(value, leaf)[0], its_gradient)
    assert len(runs) == 2


def test_what_can_not_take_the_kernels() -> None:
    assert not _one_pass.usable(torch.zeros(1, 2))
    if DEVICE == "cuda" and TRITON:
        logits = torch.zeros(1, 2, device=DEVICE)
        assert _one_pass.usable(logits)
        assert not _one_pass.usable(logits.double())
        asked = []
        torch.func.vmap(lambda row: (asked.append(_one_pass.usable(row)), row)[1])(logits)
        assert asked == [False]


# Streams


def _hidden(target: Tensor) -> Tensor:
    return target.where(torch.arange(len(target)) % 3 > 0, -1)


def _wrong(logits: Tensor, hidden: Tensor) -> Tensor:
    columns = torch.arange(logits.shape[1])
    return logits.double().masked_fill(columns == hidden.unsqueeze(1), -math.inf)


def _check_sums(classes: int, dtype: torch.dtype, wider: int = 0) -> None:
    logits, target = _logits(classes)
    logits, hidden = logits.to(dtype), _hidden(target)
    held = torch.nn.functional.pad(logits, (0, wider), value=1e4).to(DEVICE)[:, :classes]
    top, total, moment = kernels.softmax_sums(held, hidden.to(DEVICE), True)
    torch.testing.assert_close(kernels.softmax_sums(held, hidden.to(DEVICE), False), (top, total))
    assert torch.equal(held.cpu(), logits)
    wrong = _wrong(logits, hidden)
    counting = (wrong > -math.inf).any(dim=1)
    assert (top[~counting] < -1e18).all()
    assert (total[~counting] == 1).all()
    assert (moment[~counting] == 0).all()
    wrong = wrong[counting]
    _close(top[counting], wrong.amax(dim=1), 0)
    centred = wrong - wrong.amax(dim=1, keepdim=True)
    _close(total[counting], centred.exp().sum(dim=1))
    _close(moment[counting], (centred.exp() * centred).where(centred != -math.inf, 0).sum(dim=1))


def _check_slope(classes: int, dtype: torch.dtype, wider: int = 0) -> None:
    """Against autograd, for the statistics of the block alone."""
    # In float32, log Σ exp of numbers about 1e4 has no digits left for a gradient.
    logits, target = _logits(classes, 4)
    logits, hidden = logits.to(dtype), _hidden(target)
    counting = (_wrong(logits, hidden) > -math.inf).any(dim=1, keepdim=True)
    leaf = logits.double().clamp_min(-1e6).requires_grad_()
    chance = leaf.masked_fill(torch.arange(classes) == hidden.unsqueeze(1), -1e6)
    log_sum = chance.logsumexp(dim=1)
    log_chance = chance - log_sum.unsqueeze(1)
    entropy = (log_chance.exp() * log_chance).sum(dim=1)
    u, v = torch.linspace(-1, 1.7, 4), torch.linspace(2, -1, 4)
    for statistics in ((log_sum, u), (log_sum, u, entropy, v)):
        value = u * log_sum if len(statistics) == 2 else u * log_sum + v * entropy
        (expected,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True)
        held = torch.nn.functional.pad(logits, (0, wider), value=1e4).to(DEVICE)
        arguments = [each.detach().float().to(DEVICE) for each in statistics]
        found = kernels.softmax_slope_(held[:, :classes], hidden.to(DEVICE), *arguments)
        assert found.data_ptr() == held.data_ptr()
        assert (held[:, classes:] == torch.tensor(1e4).to(dtype)).all()
        digits = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
        _close(found, expected.where(counting, 0), digits)


def _check_leaders(classes: int, dtype: torch.dtype, wider: int = 0) -> None:
    scores = _logits(classes, 4)[0].to(dtype)
    scores[0, :70] = torch.arange(70)[:classes]  # ascending, so that each leads when it is met
    held = torch.nn.functional.pad(scores, (0, wider), value=1e4).to(DEVICE)[:, :classes]
    for m in {min(3, classes), 64 if classes == 1000 else min(12, classes)}:
        values, columns = (found.cpu() for found in kernels.block_leaders(held, m))
        assert values.dtype == dtype
        ranked, order = scores.sort(dim=1, descending=True, stable=True)
        assert torch.equal(values, ranked[:, :m])
        assert torch.equal(columns, order[:, :m].where(values > -math.inf, 0))


every_stream = pytest.mark.parametrize("check", [_check_sums, _check_slope, _check_leaders])


@needs_kernels
@every_stream
@classes_of_all_sizes
def test_a_stream(check: Callable[..., None], classes: int, runs: list[str]) -> None:
    check(classes, torch.float32, wider=3 if classes in (3, 1000) else 0)


@needs_kernels
@every_stream
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_stream_in_half_precision(check: Callable[..., None], dtype: torch.dtype, runs: list[str]) -> None:
    check(100, dtype)


@needs_kernels
@pytest.mark.parametrize(
    "criterion, streams",
    [
        (criterium.ComplementEntropyLoss(), True),
        (criterium.FocalLoss(), True),
        (criterium.TopKSVMLoss(k=2), False),
        (criterium.NoisedTopKHingeLoss(k=2, epsilon=0.0), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_fused_losses_take_the_kernels(
    criterion: torch.nn.Module, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for kernel in ("softmax_sums", "softmax_slope_", "block_leaders"):
        plain = getattr(kernels, kernel)
        monkeypatch.setattr(kernels, kernel, lambda *args, f=plain, k=kernel: (seen.append(k), f(*args))[1])
    monkeypatch.setattr(scan, "block_size", lambda features: 4)
    if DEVICE == "cpu":
        monkeypatch.setattr(accumulators, "usable", lambda _: True)
        monkeypatch.setattr(candidates, "usable", lambda _: True)
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randn(rows, 3, generator=generator).to(DEVICE) for rows in (6, 11))
    target = torch.arange(6, device=DEVICE)

    def gradients(loss: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
        leaves = [value.detach().requires_grad_() for value in tensors]
        value = loss(*leaves)
        return [value, *torch.autograd.grad(value, leaves)]

    ours = gradients(lambda f, w: linear.linear_loss(criterion, f, w, target), features, weight)
    theirs = gradients(lambda f, w: criterion(f @ w.T, target), features.double(), weight.double())
    for one, other in zip(ours, theirs, strict=True):
        _close(one, other)
    assert set(seen) == ({"softmax_sums", "softmax_slope_"} if streams else {"block_leaders"})
