"""Orthogonal layers in a model: trained, looked after, folded, refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from criterium import orthogonal

EXACT = ("cayley", "gram_schmidt", "householder", "lowdin", "gradient_descent")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4))


def images() -> Tensor:
    return torch.randn(8, 2, 5, 5, generator=seeded(1))


def energies(model: nn.Module) -> Tensor:
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return torch.stack([orthogonal.hyperspherical_energy(layer.weight.detach().double()) for layer in layers])


def stepper(model: nn.Module, method: str, lr: float = 0.02) -> Callable[[], float]:
    """Return a function that makes one update towards fixed random outputs."""
    own = orthogonal.rotations(model) if method == "gradient_descent" else []
    others = [p for p in model.parameters() if not any(p is matrix for matrix in own)]
    optimizers = [torch.optim.SGD(others, lr=lr, momentum=0.9, weight_decay=5e-4)]
    if own:
        optimizers.append(orthogonal.RotationDescent(own))
    inputs, target = images(), torch.randn(8, 4, generator=seeded(2))

    def step() -> float:
        model.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        (loss + orthogonal.penalty(model) if method == "regularised" else loss).backward()
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    return step


@pytest.mark.parametrize("method", EXACT)
def test_orthogonal_and_of_constant_energy_after_1000_updates(method: str) -> None:
    model = orthogonal.apply(network(), method, generator=seeded(3))
    before, step = energies(model), stepper(model, method)
    first = model[3].weight.detach().clone()
    losses = [step() for _ in range(1000)]
    assert losses[-1] < 0.5 * losses[0]
    assert (model[3].weight - first).abs().max() > 0.1  # it did turn
    assert orthogonal.orthogonality_error(model) <= 1e-5
    torch.testing.assert_close(energies(model), before, rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", ["householder", "gradient_descent"])
def test_stochastic_after_300_updates_in_15_episodes(method: str) -> None:
    model = orthogonal.apply(network(), method, stochastic=0.25, generator=seeded(3))
    before, step, generator = energies(model), stepper(model, method), seeded(4)
    losses = []
    for number in range(300):
        if number and number % 20 == 0:
            held = [layer.weight.detach().clone() for layer in (model[0], model[3])]
            orthogonal.next_episode(model, generator)
            for layer, weight in zip((model[0], model[3]), held, strict=True):
                torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1e-6)
        losses.append(step())
        assert number % 50 or orthogonal.orthogonality_error(model) <= 1e-5
    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(energies(model), before, rtol=1e-5, atol=0)


def test_regularised_stays_near_where_without_the_penalty_it_leaves() -> None:
    errors = {}
    for penalised in (True, False):
        model = orthogonal.apply(network(), "regularised", generator=seeded(3))
        step = stepper(model, "regularised" if penalised else "free")
        for _ in range(200):
            step()
        errors[penalised] = orthogonal.orthogonality_error(model)
    assert errors[True] < 0.1 * errors[False]


def test_what_is_drawn() -> None:
    """Neurons from N(0, 2/fan_in), matrices from N(0, 1): means and variances within four standard errors."""
    layer = orthogonal.apply(nn.Conv2d(8, 200, 3), "gram_schmidt", generator=seeded(5))
    steps = layer.parametrizations.weight
    for drawn, variance in ((steps[0].neurons, 2 / 72), (steps.original.detach(), 1.0)):
        count = drawn.numel()
        assert abs(drawn.mean()) < 4 * (variance / count) ** 0.5
        assert abs(drawn.var() / variance - 1) < 4 * (2 / count) ** 0.5
    assert {name for name, _ in layer.named_parameters()} == {"bias", "parametrizations.weight.original"}
    again = orthogonal.apply(nn.Conv2d(8, 200, 3), "gram_schmidt", generator=seeded(5))
    assert torch.equal(again.weight, layer.weight)


@pytest.mark.parametrize("method", orthogonal.METHODS)
@pytest.mark.parametrize("stochastic", [None, 0.5])
def test_fold(method: str, stochastic: float | None) -> None:
    model = orthogonal.apply(network(), method, stochastic=stochastic)
    step = stepper(model, method)
    for _ in range(3):
        step()
    expected = model(images())
    plain = orthogonal.fold(model)
    assert [type(layer) for layer in plain] == [type(layer) for layer in network()]
    assert plain.state_dict().keys() == network().state_dict().keys()
    assert torch.equal(plain(images()), expected)
    assert torch.equal(model(images()), expected)  # and may be folded again, and trained on
    assert torch.equal(orthogonal.fold(model)(images()), expected)
    step()
    assert torch.equal(plain(images()), expected)
    assert not torch.equal(model(images()), expected)
    # The plain model trains.
    assert all(p.grad is None or p.grad.shape == p.shape for p in plain.parameters())
    plain(images()).sum().backward()
    torch.optim.SGD(plain.parameters(), lr=0.1).step()
    assert not torch.equal(plain(images()), expected)
    orthogonal.apply(plain, "cayley")


def test_episodes_reach_every_axis_and_leave_the_others_alone() -> None:
    layer = orthogonal.apply(nn.Linear(12, 5), "lowdin", stochastic=0.25, generator=seeded(6))
    turned, generator = set(), seeded(7)
    for _ in range(30):
        axes = layer.parametrizations.weight[0].axes.clone()
        assert len(axes) == len(set(axes.tolist())) == 3
        turned |= set(axes.tolist())
        before = layer.weight.detach().clone()
        (matrix,) = orthogonal.rotations(layer)
        with torch.no_grad():
            matrix.add_(torch.randn(3, 3, generator=generator))
        moved = (layer.weight - before).abs().amax(0)
        assert set(moved.nonzero().flatten().tolist()) == set(axes.tolist())
        (reset,) = orthogonal.next_episode(layer, generator)
        assert reset is matrix
        assert torch.equal(matrix, torch.eye(3))
    assert turned == set(range(12))


@pytest.mark.parametrize("kind", ["deepcopy", "state_dict"])
def test_copies_and_states(kind: str) -> None:
    model = orthogonal.apply(network(), "householder", stochastic=0.5, generator=seeded(8))
    expected = model(images())
    if kind == "deepcopy":
        other = copy.deepcopy(model)
    else:
        stored = io.BytesIO()
        torch.save(model.state_dict(), stored)
        stored.seek(0)
        other = orthogonal.apply(network(), "householder", stochastic=0.5, generator=seeded(9))
        assert not torch.equal(other(images()), expected)
        other.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(other(images()), expected)
    step = stepper(other, "householder")
    for _ in range(2):
        step()
    assert not torch.equal(other(images()), expected)
    assert torch.equal(model(images()), expected)


@pytest.mark.parametrize("method", orthogonal.METHODS)
def test_weights_keep_float32_under_autocast(method: str) -> None:
    model = orthogonal.apply(network(), method, generator=seeded(10))
    with torch.autocast("cpu", torch.bfloat16):
        weight = model[3].weight
        outputs = model(images())
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model[3].weight)
    assert outputs.dtype == torch.bfloat16
    outputs.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    layer = orthogonal.apply(nn.Linear(6, 3), "lowdin", stochastic=0.5).to(dtype)
    assert layer.weight.dtype == dtype
    layer.weight.float().sum().backward()
    (matrix,) = orthogonal.next_episode(layer)
    assert matrix.grad is not None
    assert matrix.grad.dtype == dtype


# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("method", ["householder", "lowdin"])
def test_compiled(method: str) -> None:
    model = orthogonal.apply(nn.Sequential(nn.Linear(5, 3)), method, generator=seeded(11))
    inputs = torch.randn(2, 5, generator=seeded(12))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    (matrix,) = orthogonal.rotations(model)
    slopes = []
    for function in (model, compiled):
        model.zero_grad()
        function(inputs).square().sum().backward()
        slopes.append(matrix.grad)
    torch.testing.assert_close(*slopes)


def test_groups_share_one_rotation() -> None:
    layer = orthogonal.apply(nn.Conv2d(6, 9, 2, groups=3, bias=False), "cayley", generator=seeded(13))
    (matrix,) = orthogonal.rotations(layer)
    assert matrix.shape == (8, 8)
    neurons, rotation = layer.parametrizations.weight[0].neurons, orthogonal.METHODS["cayley"](matrix)
    torch.testing.assert_close(layer.weight.flatten(1), neurons @ rotation.T)


def test_what_is_left_alone() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.Linear(1, 4),
        nn.Conv2d(3, 3, 1, groups=3),
        nn.ConvTranspose2d(3, 3, 2),
        nn.BatchNorm2d(3),
        nn.Embedding(5, 4),
    )
    model.append(nn.Linear(4, 4).requires_grad_(False))
    before = copy.deepcopy(model.state_dict())
    orthogonal.apply(model, "cayley")
    assert len(orthogonal.rotations(model)) == 1
    for key, value in model.state_dict().items():
        assert key.startswith("0.parametrizations.") or torch.equal(value, before[key])
    alone = nn.Linear(3, 2)
    assert orthogonal.apply(alone, "cayley") is alone


def twice() -> nn.Module:
    return orthogonal.apply(nn.Sequential(nn.Linear(3, 2)), "cayley")


def tied() -> nn.Module:
    model = nn.ModuleDict({"in": nn.Embedding(5, 3), "out": nn.Linear(3, 5)})
    model["out"].weight = model["in"].weight
    return model


def wide(fan_in: int) -> nn.Module:
    return nn.Sequential(nn.Linear(fan_in, 1, device="meta"))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (network, {"method": "cayly"}, r"method: got 'cayly', expected one of .*did you mean 'cayley'\?"),
        (network, {"stochastic": 0.0}, "stochastic: got 0.0, expected None or a share above 0, at most 1"),
        (network, {"stochastic": 1.5}, "stochastic: got 1.5"),
        (network, {"stochastic": float("nan")}, "stochastic: got nan"),
        (network, {"stochastic": True}, "stochastic: got True"),
        (nn.BatchNorm1d, {}, "model: got BatchNorm1d without a layer that can be orthogonal"),
        (twice, {}, "model: its layer '0' is orthogonal already"),
        (tied, {}, "model: in.weight and out.weight are one parameter"),
        (lambda: wide(20000), {}, "'0' has a fan-in of 20000, .* at most 8192, or stochastic=0.409 or less"),
        (lambda: wide(20000), {"stochastic": 0.5}, "matrix of 10000x10000"),
        (lambda: nn.LazyLinear(3), {}, "model: its layer 'LazyLinear' has no size yet"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
            {},
            "weight of its layer 'ParametrizedLinear' is computed by another parametrisation",
        ),
    ],
)
def test_refused(make: Callable[..., nn.Module], options: dict[str, object], message: str) -> None:
    model = make(4) if make is nn.BatchNorm1d else make()
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        orthogonal.apply(model, **{"method": "gram_schmidt", **options})
    assert list(model.state_dict()) == before


def test_refused_without_orthogonal_layers() -> None:
    for function in (orthogonal.fold, orthogonal.rotations, orthogonal.orthogonality_error):
        with pytest.raises(ValueError, match="model: got one without an orthogonal layer"):
            function(network())
    with pytest.raises(ValueError, match="model: got one without a stochastic layer"):
        orthogonal.next_episode(orthogonal.apply(network(), "cayley"))
    with pytest.raises(ValueError, match="model: got one without a regularised layer"):
        orthogonal.penalty(orthogonal.apply(network(), "cayley"))
