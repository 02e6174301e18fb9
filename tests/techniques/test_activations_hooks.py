"""What is kept of which tensor, and what that does to gradients."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import criterium
from criterium.techniques.activations import LEVELS, Compression, compress_activations
from criterium.techniques.activations.forms import SMALL


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=noise(seed))


def gradients(
    function: Callable[[Tensor], Tensor], inputs: Tensor, compression: Compression | None = None
) -> Tensor:
    """The gradient in `inputs` of a fixed combination of the function's numbers; dropout draws alike."""
    torch.manual_seed(7)
    leaf = inputs.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    # A leaf is kept as it is: compressed is what is computed from it.
    start = leaf * 1.0
    if compression is None:
        result = function(start)
    else:
        with compression:
            result = function(start)
    (found,) = torch.autograd.grad((result * draw(*result.shape, seed=9).to(result)).sum(), leaf)
    return found


def convolutional() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 8 * 8, 10),
    )


def of_weights(model: nn.Module, x: Tensor, compression: Compression) -> Tensor:
    """The gradient of all weights in one; dropout draws alike."""
    torch.manual_seed(7)
    with compression:
        result = model(x)
    found = torch.autograd.grad(result.square().sum(), list(model.parameters()))
    return torch.cat([part.flatten() for part in found])


def test_forward_is_untouched_and_bytes_are_counted() -> None:
    model, x, y = convolutional(), draw(8, 3, 16, 16), torch.arange(8)
    compression = compress_activations(bits=2, generator=noise())
    torch.manual_seed(1)
    plain = F.cross_entropy(model(x), y)
    torch.manual_seed(1)
    with compression:
        loss = F.cross_entropy(model(x), y)
    assert torch.equal(loss, plain)
    forms = [(saved.operation, saved.form) for saved in compression.saved if saved.form != "exact"]
    assert forms == [
        ("conv2d", "codes"),
        ("batch_norm", "codes"),
        ("relu", "sign"),
        ("max_pool2d", "nothing"),
        ("max_pool2d", "whole"),
        ("dropout", "dropout"),
        ("conv2d", "codes"),
        ("relu", "sign"),
        ("linear", "codes"),
    ]
    # Numbers: input 6,144; convolution 32,768; ReLU 32,768; pooled 8,192 with int64 places; dropout's noise
    # and product; second convolution's ReLU 8,192.
    wide = 4 * (6144 + 32768 + 32768 + 8192 + 8192 + 8192) + 8 * 8192
    small = sum(saved.plain_bytes for saved in compression.saved if saved.form == "exact")
    assert compression.plain_bytes == wide + small
    kept = {saved.form: 0 for saved in compression.saved}
    for saved in compression.saved:
        kept[saved.form] += saved.stored_bytes
    groups = 8 * (3 + 16 + 4 + 4)
    assert kept["codes"] == (6144 + 32768 + 8192 + 8192) // 4 + 8 * groups
    assert kept["sign"] + kept["dropout"] == (32768 + 8192 + 8192) // 8
    assert kept["whole"] == 8192  # places are below 16 x 16
    assert compression.stored_bytes == sum(kept.values())


def test_the_gradient_is_unbiased_where_it_is_linear_in_what_is_saved() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.LeakyReLU(), nn.Linear(64, 5))
    x, repeats = draw(32, 64), 400
    parameters = list(model.parameters())

    def flat(compression: Compression | None) -> Tensor:
        if compression is None:
            found = torch.autograd.grad(model(x).square().sum(), parameters)
        else:
            with compression:
                output = model(x)
            found = torch.autograd.grad(output.square().sum(), parameters)
        return torch.cat([part.flatten() for part in found]).double()

    exact = flat(None)
    compression = compress_activations(bits=1, generator=noise())
    draws = torch.stack([flat(compression) for _ in range(repeats)])
    error, deviation = draws.mean(0) - exact, draws.std(0)
    noisy = deviation > 1e-5 * exact.abs().max()
    assert noisy.float().mean() > 0.5
    z = error[noisy] / deviation[noisy] * repeats**0.5
    # Thousands of coordinates: their largest z stays below 5.5, and their mean square is near 1. Rows of
    # one weight share noise, so the latter is known to some percent only.
    assert z.abs().max() < 5.5
    assert z.square().mean() == pytest.approx(1, abs=0.15)
    # Biases' gradients need no activation.
    assert error[~noisy].abs().max() <= 1e-5 * exact.abs().max()


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: F.relu((x * 1.5).contiguous(), inplace=True),
    "method": lambda x: x.relu(),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "leaky_": lambda x: F.leaky_relu(x + 0.0, 0.2, inplace=True),
    "relu6": lambda x: F.relu6(4 * x),
    "relu6_": lambda x: F.relu6(4 * x, inplace=True),
    "dropout": lambda x: F.dropout(x, 0.4),
    "dropout all": lambda x: F.dropout(x, 1.0),
    "channels": lambda x: F.dropout2d(x, 0.4),
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max 1": lambda x: F.max_pool1d(x.flatten(2), 3),
    "max 3": lambda x: F.max_pool3d(x.contiguous(), 2),
    "mean": lambda x: F.avg_pool2d(x, 2),
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, 3),
    "adaptive mean": lambda x: F.adaptive_avg_pool2d(x, 3),
    "softmax": lambda x: x.flatten(2).softmax(-1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x.flip(0), x),
    "quotient": lambda x: x / (1 + x.square()),
    "constant": lambda x: x * draw(8, 4, 12, 12, seed=2),
    "cross-entropy": lambda x: F.cross_entropy(x.flatten(1), torch.arange(8), reduction="none"),
    "expanded": lambda x: F.linear(x[:, :1, :1, :1].expand(8, 4, 12, 12), torch.ones(3, 12)),
    "embedding": lambda x: F.embedding(torch.arange(2048) % 8, x.flatten(1)),
    "weight": lambda x: F.conv2d(torch.ones(2, 4, 12, 12), x[..., :5, :5]),
    "weight again": lambda x: F.linear(torch.ones(7, 12), x.reshape(-1, 12)),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_exact_where_nothing_must_be_lost(name: str, layout: torch.memory_format) -> None:
    x = draw(8, 4, 12, 12).contiguous(memory_format=layout)
    compression = compress_activations(bits=1, generator=noise())
    assert torch.equal(gradients(EXACT[name], x, compression), gradients(EXACT[name], x))
    assert "codes" not in {saved.form for saved in compression.saved} or name.startswith("weight")


def test_edges_of_masks() -> None:
    edges = torch.tensor([-1.0, 0.0, 1e-30, 6.0, 5.9999995, 7.0, -0.0, 3.0]).repeat(256).view(16, 128)
    for function in (F.relu, F.leaky_relu, F.relu6):
        assert torch.equal(gradients(function, edges, compress_activations(1)), gradients(function, edges))


def test_one_bit_a_number() -> None:
    compression = compress_activations(bits=8)
    for function in (F.relu, F.relu6, F.dropout):
        gradients(function, draw(16, 1000), compression)
        (saved,) = compression.saved
        assert saved.stored_bytes == 16 * 1000 // 8
        assert saved.plain_bytes == 16 * 1000 * 4


def test_flags_and_whole_numbers_come_back() -> None:
    flags = draw(40, 50) > 0
    found = {}

    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, *saved: Tensor) -> Tensor:
            ctx.save_for_backward(*saved)  # type: ignore[attr-defined]
            return x.clone()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
            found["saved"] = ctx.saved_tensors  # type: ignore[attr-defined]
            return gradient, *(None for _ in found["saved"])

    ends = [255, 256, -128, -129, 32767, 32768, -(2**31), 2**31, 2**62]
    numbers = [torch.arange(2000) % 7 - 0, *(torch.arange(2000) % 3 + end - 2 * (end > 0) for end in ends)]
    numbers += [torch.full((40, 50), 3, dtype=torch.int32), torch.zeros(2000, dtype=torch.uint8)]
    x = draw(3).requires_grad_()
    with compress_activations(2) as compression:
        result = Keep.apply(x, flags, flags.t(), *numbers, draw(40, 50))
    result.sum().backward()
    for given, back in zip((flags, flags.t(), *numbers, draw(40, 50)), found["saved"], strict=True):
        assert back.dtype == given.dtype
        assert back.stride() == given.stride()
        assert torch.equal(back, given)
    widths = [saved.stored_bytes / 2000 for saved in compression.saved if saved.form == "whole"]
    assert widths == [1, 1, 2, 1, 2, 2, 4, 4, 8, 8, 1]
    # The transposed flags are the same ones.
    assert [saved.stored_bytes for saved in compression.saved if saved.form == "flags"] == [250]


def test_a_tensor_saved_twice_is_stored_once() -> None:
    x, weight = draw(8, 16, 10, 10), draw(16, 16, 3, 3)

    def both(x: Tensor) -> Tensor:
        normal = F.batch_norm(x, None, None, training=True)
        flat = F.linear(x.flatten(1), draw(5, 1600))
        return F.conv2d(x, weight.requires_grad_(), padding=1) + normal + flat.sum()

    weight.requires_grad_()
    compression = compress_activations(bits=4, generator=noise())
    gradients(both, x, compression)
    (saved,) = [saved for saved in compression.saved if saved.form == "codes"]
    assert saved.operation == "batch_norm"
    assert saved.plain_bytes == 12800 * 4
    # 1,600 numbers of a sample make seven groups of 232.
    assert saved.stored_bytes == 8 * 7 * (232 // 2 + 8)


def test_a_tensor_changed_in_place_is_another() -> None:
    first, second = draw(6, 300, seed=1).requires_grad_(), draw(6, 300, seed=2).requires_grad_()

    def twice(x: Tensor) -> Tensor:
        a = F.linear(x, first)
        with torch.no_grad():
            x.mul_(-3)
        return a + F.linear(x, second)

    x = draw(16, 300)
    with compress_activations(bits=8, generator=noise()) as compression:
        result = twice(x.clone() + 0)
    one, two = torch.autograd.grad(result.sum(), (first, second))
    assert len([saved for saved in compression.saved if saved.form == "codes"]) == 2
    torch.testing.assert_close(one, x.sum(0).expand(6, 300), rtol=0, atol=0.5)
    torch.testing.assert_close(two, -3 * x.sum(0).expand(6, 300), rtol=0, atol=1.5)


class Factors(nn.Module):
    def forward(self, original: Tensor) -> Tensor:
        return original.sin() @ original.cos()


def test_parameters_and_what_is_made_of_them_stay_exact() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(64, 64)
    model = nn.Linear(64, 64)
    nn.utils.parametrize.register_parametrization(model, "weight", Factors())
    scale = nn.Parameter(torch.randn(64, 64))
    assert scale.numel() >= SMALL
    x = draw(4, 64)  # too small to be compressed
    for function in (model, plain, lambda x: x @ scale.t() + x.sum() * (scale[:4] * scale[4:8])):
        model.zero_grad()
        with compress_activations(1) as compression:
            result = function(x)
        result.square().sum().backward()
        assert all(saved.form == "exact" for saved in compression.saved)
    original = model.parametrizations.weight.original
    (exact,) = torch.autograd.grad(F.linear(x, model.weight).square().sum(), original)
    with compress_activations(1):
        weight = model.weight
    assert torch.equal(torch.autograd.grad(F.linear(x, weight).square().sum(), original)[0], exact)


def test_what_the_caller_keeps() -> None:
    weight = draw(5, 400).requires_grad_()

    def gradient(keep: bool) -> Tensor:
        with compress_activations(1, generator=noise()) as compression:
            hidden = draw(16, 400).requires_grad_() * 2
            output = F.linear(compression.keep(hidden) if keep else hidden, weight)
        return torch.autograd.grad(output.sum(), weight)[0]

    exact = (draw(16, 400) * 2).sum(0).expand(5, 400)
    torch.testing.assert_close(gradient(True), exact)
    assert (gradient(False) - exact).abs().mean() > 1


def test_exact_tensors_must_not_be_written_to() -> None:
    x = draw(8, 300).requires_grad_()
    with compress_activations(2):
        hidden = x * 1.0
        result = hidden.exp()
    with torch.no_grad():
        result.add_(1)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation: \(8, 300\) is at version 1, expe"
    ):
        result.sum().backward()


def test_memory_is_given_back_before_the_backward_pass() -> None:
    def loss(compression: Compression | None) -> tuple[Tensor, weakref.ref[Tensor]]:
        hidden = draw(16, 400).requires_grad_() * 2
        weight = draw(5, 400).requires_grad_()
        if compression is None:
            return F.linear(hidden, weight).sum(), weakref.ref(hidden)
        with compression:
            return F.linear(hidden, weight).sum(), weakref.ref(hidden)

    kept, hidden = loss(None)
    assert hidden() is not None
    kept, hidden = loss(compress_activations(2))
    assert hidden() is None
    # And the noise and codes go with the graph, without the garbage collector.
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(20):
            kept, _ = loss(compress_activations(2))
            kept.backward()
            del kept
        assert len(gc.get_objects()) < before + 20
    finally:
        gc.enable()


def test_twice_backward_and_second_derivatives() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1)), draw(32, 64).requires_grad_()
    with compress_activations(8, generator=noise()):
        result = model(x * 1.0).sum()
    once = torch.autograd.grad(result, x, retain_graph=True)[0]
    again = torch.autograd.grad(result, x, create_graph=True)[0]
    assert torch.equal(once, again)
    (second,) = torch.autograd.grad(again.square().sum(), x)
    (plain,) = torch.autograd.grad(model(x * 1.0).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(plain.square().sum(), x)
    torch.testing.assert_close(second, expected, rtol=0.1, atol=0.02 * float(expected.abs().max()))


def test_the_same_seed_gives_the_same_bits_and_leaves_other_draws_alone() -> None:
    x, model = draw(8, 3, 16, 16), convolutional()

    def run(seed: int) -> Tensor:
        return of_weights(model, x, compress_activations(2, generator=noise(seed)))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    torch.manual_seed(5)
    with compress_activations(2, generator=noise()):
        model(x)
    after = torch.rand(3)
    torch.manual_seed(5)
    model(x)
    assert torch.equal(after, torch.rand(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_type_comes_back_as_it_was(dtype: torch.dtype) -> None:
    x, weight = draw(16, 300).to(dtype), draw(7, 300).to(dtype).requires_grad_()
    with compress_activations(8, generator=noise()):
        result = F.linear(x.t().contiguous().t(), weight)
    (found,) = torch.autograd.grad(result.float().sum(), weight)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), x.float().sum(0).expand(7, 300), rtol=0.02, atol=0.3)


def test_numbers_that_are_not_finite_stay_visible() -> None:
    x, weight = draw(16, 300), draw(7, 300).requires_grad_()
    x[3, 5] = torch.inf
    with compress_activations(2):
        result = F.linear(x, weight)
    (found,) = torch.autograd.grad(result.sum(), weight)
    assert not found[:, 5].isfinite().any()


def test_levels() -> None:
    model, x = convolutional(), draw(8, 3, 16, 16)
    bits = {}
    for level in LEVELS:
        compression = compress_activations(level=level, generator=noise())
        plain = of_weights(model, x, compress_activations(level="L0"))
        found = of_weights(model, x, compression)
        assert compression.plain_bytes > 400_000
        bits[level] = 32 * compression.stored_bytes / compression.plain_bytes
        by = {saved.operation: saved.form for saved in compression.saved if saved.plain_bytes > 5000}
        if level in ("L0", "swap"):
            assert torch.equal(found, plain)
        else:
            assert by["batch_norm"] == ("exact" if level == "L1" else "codes")
            assert not torch.equal(found, plain)
    # Without a GPU there is nowhere to swap to.
    assert bits["L0"] == bits["swap"] == 32
    assert bits["L1"] > 1.5 * bits["L2"] > 2 * bits["L3"]
    assert bits["L3"] == bits["L3.1"] == bits["L4"] == bits["L5"]


def test_need_decides_on_bits() -> None:
    """Two layers, one with a gradient a hundred times the other's; samples of different ranges."""
    torch.manual_seed(0)
    one, two = nn.Linear(512, 8), nn.Linear(512, 8)
    x = draw(32, 512) * torch.logspace(-2, 0, 32)[:, None]

    def error(compression: Compression) -> float:
        with compression:
            loss = one(x).sum() + 100 * two(x + 1).sum()
        found = torch.autograd.grad(loss, (one.weight, two.weight))
        expected = (x.sum(0).expand(8, 512), 100 * (x + 1).sum(0).expand(8, 512))
        return sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))

    alike = compress_activations(2, generator=noise())
    needed = compress_activations(level="L3", generator=noise())
    first = error(needed)
    stored = needed.stored_bytes
    learnt = sum(error(needed) for _ in range(20)) / 20
    bits = [saved.stored_bytes for saved in needed.saved]
    assert bits[0] < bits[1]
    assert needed.stored_bytes <= stored + 32 * 8
    uniform = sum(error(alike) for _ in range(20)) / 20
    assert learnt < 0.7 * uniform
    assert learnt < first
    # A sample's place in its layer is all that comes on top of the codes and scales of the uniform bits.
    assert needed.stored_bytes <= alike.stored_bytes + 2 * 32 * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 0}, "bits: got 0, expected a whole number of at least 1"),
        ({"bits": 9}, "bits: got 9, expected a whole number from 1 to 8"),
        ({"bits": 2.5}, "bits: got 2.5, expected a whole number of at least 1"),
        ({"bits": True}, "bits: got True, expected a whole number of at least 1"),
        ({"bits": "2"}, "bits: got '2', expected a whole number from 1 to 8"),
        ({"level": "L6"}, "level: got 'L6', expected one of L0, L1, .*; did you mean 'L"),
        ({"level": "SWAP"}, "did you mean 'swap'"),
        ({"bits": 2, "level": "L0"}, "bits: got 2 for level L0, which quantises nothing; expected none"),
    ],
)
def test_bad_settings(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        criterium.compress_activations(**arguments)


def test_open_twice() -> None:
    compression = compress_activations(2)
    with compression, pytest.raises(RuntimeError, match="this compression is open already"), compression:
        pass
    with compression, compress_activations(4) as inner:
        F.linear(draw(16, 300), draw(3, 300).requires_grad_())
    assert (len(compression.saved), len(inner.saved)) == (0, 1)
    with pytest.raises(ZeroDivisionError), compression:
        raise ZeroDivisionError
    with compression:
        pass
