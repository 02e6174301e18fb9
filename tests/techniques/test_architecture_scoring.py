"""Scores of untrained networks: the authors' numbers, what counts as a rectifier, and what is left alone."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import criterium
from criterium import score_architecture
from criterium.techniques.architecture.codes import agreement, read_codes
from criterium.techniques.architecture.scoring import _prepared
from criterium.techniques.architecture.synflow import synflow_and_flops
from goldens import Case, cases


class DeadBranch(nn.Module):
    """A rectifier whose input is detached, so that no gradient reaches it, adds to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.r = nn.ReLU()
        self.dead = nn.ReLU()
        self.f = nn.Linear(144, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.a(inputs)
        return self.f((self.r(hidden) + self.dead(hidden.detach())).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "naswot-conv2": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ),
    "naswot-conv_bn": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 7),
    ),
    "naswot-dead_branch": DeadBranch,
    "naswot-singular": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 2), nn.ReLU(), nn.Linear(2, 3)),
}


def golden(case: Case) -> tuple[nn.Module, Tensor]:
    network = NETWORKS[case.id]()
    weights = {key.removeprefix("weight:"): value for key, value in case.arrays.items() if ":" in key}
    missing, unexpected = network.load_state_dict(
        {name: torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    assert not unexpected
    assert all("running" in name or "num_batches" in name for name in missing)
    return network.double(), torch.from_numpy(case.arrays["input"]).double()


@pytest.mark.parametrize("case", cases("naswot"))
def test_kernel_and_score_are_those_of_the_authors_code(case: Case) -> None:
    network, batch = golden(case)
    kernel = read_codes(_prepared(network), batch).kernel
    np.testing.assert_array_equal(kernel.numpy(), case.arrays["K"])
    found = score_architecture(network, batch)
    assert found.score == pytest.approx(float(case.arrays["logdet"]), rel=1e-9)
    assert (found.reason == "") == math.isfinite(found.score)


def test_repeated_codes_are_minus_infinity_and_say_so() -> None:
    (case,) = (case for case in cases("naswot") if case.id == "naswot-singular")
    found = score_architecture(*golden(case))
    assert found.score == -math.inf
    assert (found.codes, found.rank, found.units) == (3, 3, 2)
    assert found.reason == "9 rows have only 3 different codes"


SHIFT = torch.tensor([[3.0, -1.0, 2.0, -4.0], [1.0, 1.0, -2.0, -3.0], [-1.0, 5.0, 2.0, 1.0]])

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x * 1, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": lambda x: torch.relu_(x * 1),
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: (x * 1).relu_(),
    "F.relu(input=)": lambda x: F.relu(input=x),
    "ops.aten.relu": lambda x: torch.ops.aten.relu.default(x),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": lambda x: nn.ReLU(inplace=True)(x * 1),
    "clamp(min=0)": lambda x: torch.clamp(x, min=0),
    "clamp(0.0)": lambda x: x.clamp(0.0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clip": lambda x: torch.clip(x, 0, 6),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "F.hardtanh(0, 6)": lambda x: F.hardtanh(x, 0.0, 6.0),
    "F.leaky_relu": F.leaky_relu,
    "F.relu6": F.relu6,
    **{
        f"nn.{kind.__name__}": kind()
        for kind in (
            *(nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU),
            *(nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
        )
    },
}


class Through(nn.Module):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.last = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Any:
        return self.last(self.activation(inputs))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_rectifier_is_read_once_by_the_sign_of_its_input(name: str) -> None:
    codes = read_codes(Through(ACTIVATIONS[name]), SHIFT)
    assert (codes.rectifiers, codes.units) == (1, 4)
    b = (SHIFT > 0).double()
    assert torch.equal(codes.kernel, b @ b.T + (1 - b) @ (1 - b).T)


@pytest.mark.parametrize(
    "activation",
    [
        torch.sigmoid,
        torch.tanh,
        F.hardtanh,
        torch.abs,
        F.softplus,
        lambda x: x.clamp(max=0),
        lambda x: x.clamp(min=-1),
        lambda x: F.relu(torch.ones(1)) * x,  # says nothing of the rows
        lambda x: x + F.relu(torch.ones(3, 4)),  # nor does this, through which no gradient passes
        lambda x: x + F.relu(x.detach()),
    ],
)
def test_without_a_rectifier_the_error_says_what_was_expected(activation: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="model: got Through without a rectifier"):
        score_architecture(Through(activation), SHIFT)


def test_a_shared_rectifier_counts_at_every_call_and_tokens_belong_to_their_row() -> None:
    relu = nn.ReLU()

    class Tokens(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden = relu(inputs)
            windows = relu(hidden.reshape(6, 2) - 1)  # two windows a row, moved into the first dimension
            return windows.reshape(3, 4)

    codes = read_codes(Tokens(), SHIFT)
    assert (codes.rectifiers, codes.units) == (2, 8)
    b = torch.cat([SHIFT > 0, F.relu(SHIFT) > 1], dim=1).double()
    assert torch.equal(codes.kernel, b @ b.T + (1 - b) @ (1 - b).T)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_kernel_is_the_sum_of_both_products(rows: int, units: int, seed: int) -> None:
    inputs = torch.randn(rows, units, generator=torch.Generator().manual_seed(seed))
    b = (inputs > 0).double()
    kernel, length = agreement(inputs, rows)
    assert torch.equal(kernel, b @ b.T + (1 - b) @ (1 - b).T)
    assert length == units
    # Whole numbers: the determinant is one too, so the logarithm of a regular one is never below zero.
    assert torch.equal(kernel, kernel.round())


def test_the_kernel_is_exact_under_autocast() -> None:
    # In bfloat16 sums above 256 would be rounded.
    network = nn.Sequential(nn.Linear(4, 1001), nn.ReLU(), nn.Linear(1001, 2))
    with torch.autocast("cpu", torch.bfloat16):
        kernel = read_codes(network, SHIFT).kernel
    assert torch.equal(kernel.diagonal(), torch.full((3,), 1001.0, dtype=torch.float64))
    assert torch.equal(kernel, kernel.round())


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_generator_are_left_as_found(training: bool) -> None:
    model, batch = mixed().train(training), torch.randn(6, 1, 8, 8)
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    score_architecture(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    for (name, now), then in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(now, then), name
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["5.weight"]
    assert not batch.requires_grad
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_neither_mode_nor_dropout_nor_gradient_settings_change_the_score() -> None:
    model, batch = mixed(), torch.randn(6, 1, 8, 8)
    found = score_architecture(model, batch)
    assert score_architecture(model.eval(), batch) == found
    assert score_architecture(model.requires_grad_(False), batch) == found
    with torch.no_grad():
        assert score_architecture(model, batch) == found
    with torch.inference_mode():
        assert score_architecture(model, batch.clone()) == found


def test_a_lazy_and_a_compiled_model_are_scored_too() -> None:
    model, batch = mixed(), torch.randn(6, 1, 8, 8)
    assert score_architecture(torch.compile(model, backend="eager"), batch) == score_architecture(
        model, batch
    )
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(80), nn.ReLU(), nn.LazyLinear(3))
    assert score_architecture(lazy, batch).parameters == 65 * 80 + 81 * 3
    assert nn.parameter.is_lazy(lazy[1].weight)


def test_token_indices_are_scored() -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.last = nn.Linear(16, 2)

        def forward(self, tokens: Tensor) -> dict[str, Tensor]:
            return {"logits": self.last(F.gelu(self.embed(tokens)).mean(1))}

    torch.manual_seed(0)
    found = score_architecture(Text().requires_grad_(False), torch.randint(0, 50, (5, 7)))
    assert (found.rank, found.units, found.parameters) == (5, 112, 834)


def test_reasons_of_singular_kernels() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    batch = torch.randn(40, 8)
    found = score_architecture(network, batch[:9])
    assert (found.score, found.reason) == (
        -math.inf,
        "codes of 4 units cannot be independent for 9 rows"
        if found.codes == 9
        else f"9 rows have only {found.codes} different codes",
    )
    wide = nn.Sequential(nn.Linear(8, 400), nn.ReLU(), nn.Linear(400, 2))
    repeated = score_architecture(wide, batch[[0, 1, 2, 1]])
    assert repeated.reason == "4 rows have only 3 different codes (4 rows hold 3 different inputs)"
    assert repeated.rank == 3


def test_too_few_units_and_dependent_codes_are_told_apart() -> None:
    identity = nn.Sequential(nn.ReLU())
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    model = nn.Sequential(identity, nn.Linear(2, 1))
    assert score_architecture(model, corners).reason == "codes of 2 units cannot be independent for 4 rows"
    # A third unit that repeats the first makes room for four codes, but not for independent ones.
    model = nn.Sequential(identity, nn.Linear(3, 1))
    padded = torch.cat([corners, corners[:, :1]], dim=1)
    found = score_architecture(model, padded)
    assert found.reason == "the codes of 4 rows are linearly dependent: K has rank 3"
    assert (found.codes, found.rank, found.score) == (4, 3, -math.inf)


def test_parameters_and_flops_are_counted_for_one_row() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    found = score_architecture(network, torch.randn(6, 1, 8, 8))
    assert found.parameters == 4 * 9 + 4 + 144 * 3 + 3
    assert found.flops == 2 * 36 * 4 * 9 + 2 * 144 * 3  # 6x6 positions


def test_synflow_of_a_chain_is_the_number_of_layers_times_the_paths() -> None:
    # R is linear in each layer, so Σ θ ∂R/∂θ is R for each of them.
    torch.manual_seed(0)
    first, second, third = (nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 2))
    network = nn.Sequential(first, nn.ReLU(), second, nn.LayerNorm(6), nn.GELU(), third)
    paths = torch.ones(5)
    for layer in (first, second, third):
        paths = layer.weight.detach().abs() @ paths
    found = score_architecture(network, torch.randn(4, 5))
    assert found.log_synflow == pytest.approx(math.log(3 * float(paths.sum())), rel=1e-6)


def test_synflow_of_a_residual_block_needs_its_input_unchanged() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = F.layer_norm(inputs, (3,))
            hidden += self.inner(F.relu(hidden))  # in place
            return inputs + hidden

    torch.manual_seed(0)
    block = Block()
    weight = block.inner.weight.detach().abs()
    found = score_architecture(block, torch.randn(2, 3))
    assert found.log_synflow == pytest.approx(math.log(float(weight.sum())), rel=1e-6)


def test_synflow_does_not_overflow() -> None:
    # Each of 300 layers multiplies by 64, and 64^300 is about 10^542.
    layers = [nn.Linear(64, 64, bias=False) for _ in range(300)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    found, _ = synflow_and_flops(nn.Sequential(*layers), torch.ones(2, 64))
    assert found == pytest.approx(math.log(300) + 301 * math.log(64), rel=1e-12)


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        (F.relu, torch.ones(2, 3), "model: got a builtin_function_or_method|model: got a function"),
        (nn.ReLU(), [1.0, 2.0], "batch: got a list, expected a tensor"),
        (nn.ReLU(), torch.ones(1, 3), r"batch: got shape \(1, 3\), expected at least 2 rows"),
        (nn.ReLU(), torch.tensor(1.0), r"batch: got shape \(\), expected"),
        (
            nn.Linear(3, 2),
            torch.ones(4, 5),
            r"model: Linear on a batch of shape \(4, 5\) raised RuntimeError: ",
        ),
        (nn.Linear(3, 2), torch.ones(4, 3), "model: got Linear without a rectifier"),
        (nn.ReLU(), torch.full((2, 3), torch.inf), "outputs on the batch are not finite"),
    ],
)
def test_what_cannot_be_scored_is_named(model: Any, batch: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score_architecture(model, batch)


def test_it_is_public_and_imported_only_when_asked_for() -> None:
    assert "score_architecture" in criterium.__all__
    code = "import criterium, sys; print('torch' in sys.modules, 'score_architecture' in dir(criterium))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
