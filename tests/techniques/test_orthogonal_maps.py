"""From free matrices to orthogonal ones: the authors' numbers, gradients, and what rounding leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from criterium import orthogonal
from criterium.techniques.orthogonal.descent import cayley_step
from criterium.techniques.orthogonal.maps import METHODS, cayley, lowdin
from goldens import Case, cases

EXACT = ("cayley", "gram_schmidt", "householder", "lowdin")


def double(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype("float64"))


def gap(rotation: Tensor) -> float:
    """Return the largest entry of |QQᵀ − I|, computed in float64."""
    product = rotation.detach().double() @ rotation.detach().double().T
    return float((product - torch.eye(len(rotation), dtype=torch.float64)).abs().max())


@pytest.mark.parametrize("case", [case for method in EXACT for case in cases(f"opt_{method}")])
def test_golden_maps(case: Case) -> None:
    arrays, limit = case.arrays, case.tolerance
    free = double(arrays["R"]).requires_grad_()
    rotation = METHODS[case.objective.removeprefix("opt_")](free)
    weight = rotation @ double(arrays["fixed_weight"])
    weight.backward(double(arrays["grad_output"]))
    torch.testing.assert_close(rotation, double(arrays["Q"]), rtol=0, atol=limit["Q_atol"])
    torch.testing.assert_close(weight, double(arrays["weight"]), rtol=0, atol=limit["Q_atol"])
    torch.testing.assert_close(
        free.grad, double(arrays["grad_R"]), rtol=limit["grad_rtol"], atol=limit["grad_atol"]
    )
    assert float(torch.linalg.det(rotation.detach())) == pytest.approx(case.params["det"])


@pytest.mark.parametrize("case", cases("opt_ogd"))
def test_golden_descent(case: Case) -> None:
    arrays = case.arrays
    rotation = torch.eye(case.params["n"], dtype=torch.float64)
    momentum = torch.zeros_like(rotation)
    stored = 1e-6 if arrays["R_after"].dtype == np.float32 else 0.0
    for step, gradient in enumerate(arrays["grads"]):
        rotation, momentum = cayley_step(
            rotation, momentum, double(gradient), case.params["lr"], case.params["momentum"]
        )
        for found, name in ((rotation, "R_after"), (momentum, "momentum_after")):
            expected = double(arrays[name][step])
            torch.testing.assert_close(found, expected, rtol=stored, atol=case.tolerance["Q_atol"])
        assert gap(rotation) == pytest.approx(arrays["orthogonality_error"][step], rel=1e-6)


def test_descent_stays_orthogonal_where_the_published_update_drifts() -> None:
    case = next(case for case in cases("opt_ogd") if case.params["n"] == 4)
    assert case.arrays["orthogonality_error"][-1] > 0.16
    matrix = nn.Parameter(torch.eye(4))
    optimizer = orthogonal.RotationDescent([matrix], lr=case.params["lr"])
    for gradient in case.arrays["grads"]:
        matrix.grad = torch.from_numpy(np.array(gradient))
        optimizer.step()
        assert gap(matrix) < 5e-6  # what the largest step allows
    # The first update is the published one, made orthogonal.
    published = double(case.arrays["R_after"][0])
    optimizer = orthogonal.RotationDescent([alone := nn.Parameter(torch.eye(4).double())], lr=5.0)
    alone.grad = double(case.arrays["grads"][0])
    optimizer.step()
    torch.testing.assert_close(alone.detach(), lowdin(published), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", cases("opt_or"))
def test_golden_penalty(case: Case) -> None:
    arrays, limit = case.arrays, case.tolerance
    layer = orthogonal.apply(nn.Linear(case.params["n"], 3).double(), "regularised")
    (free,) = orthogonal.rotations(layer)
    with torch.no_grad():
        free.copy_(double(arrays["R"]))
    coefficient = case.params["coefficient_in_training"]
    found = orthogonal.penalty(layer, coefficient)
    found.backward()
    expected = coefficient * double(arrays["penalty"])
    torch.testing.assert_close(found, expected, rtol=limit["loss_rtol"], atol=limit["loss_atol"])
    expected = coefficient * double(arrays["grad_R"])
    torch.testing.assert_close(free.grad, expected, rtol=limit["grad_rtol"], atol=limit["grad_atol"])
    assert torch.equal(orthogonal.penalty(layer), found)


@pytest.mark.parametrize("case", cases("opt_stochastic"))
def test_golden_stochastic(case: Case) -> None:
    arrays = case.arrays
    fan_in, neurons = arrays["fixed_weight"].shape
    layer = nn.Linear(fan_in, neurons).double()
    orthogonal.apply(layer, "gram_schmidt", stochastic=case.params["subset"] / case.params["n"])
    steps = layer.parametrizations.weight
    with torch.no_grad():
        steps[0].neurons.copy_(double(arrays["fixed_weight"]).T)
        steps[0].axes.copy_(torch.from_numpy(arrays["index"].astype("int64")))
        steps.original.copy_(double(arrays["R"]))
    expected = double(arrays["weight"])
    torch.testing.assert_close(layer.weight.T, expected, rtol=0, atol=case.tolerance["Q_atol"])
    orthogonal.next_episode(layer)
    torch.testing.assert_close(layer.weight.T, expected, rtol=0, atol=case.tolerance["Q_atol"])


@pytest.mark.parametrize("case", cases("opt_ce"))
def test_the_authors_loss_is_label_smoothing_but_for_its_floor(case: Case) -> None:
    """It has log(p + 1e-4) in place of log p; PyTorch's has no floor to lose the gradient to."""
    arrays, limit, floor = case.arrays, case.tolerance, case.params["eps_softmax"]
    logits, labels = double(arrays["logits"]), torch.from_numpy(arrays["labels"].astype("int64"))
    smoothing, classes = case.params["label_smoothing"], logits.shape[1]
    target = (1 - smoothing) * F.one_hot(labels, classes).double() + smoothing / classes
    raised = (target * torch.log1p(floor * torch.exp(-F.log_softmax(logits, 1)))).sum(1).mean()
    found = F.cross_entropy(logits, labels, label_smoothing=smoothing) - raised
    torch.testing.assert_close(
        found, double(arrays["loss"]), rtol=limit["loss_rtol"], atol=limit["loss_atol"]
    )


@pytest.mark.parametrize("method", EXACT)
def test_gradients(method: str) -> None:
    free = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(METHODS[method], free.requires_grad_())


@given(st.sampled_from(EXACT), st.integers(1, 40), st.integers(0, 999), st.floats(-3, 3))
def test_orthogonal_to_rounding(method: str, size: int, seed: int, scale: float) -> None:
    free = 10**scale * torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    rotation = METHODS[method](free)
    assert gap(rotation) < 3e-6
    # A rotation for Cayley, n − 1 reflections for Householder.
    if method in ("cayley", "householder"):
        wanted = 1 if method == "cayley" else (-1) ** (size - 1)
        assert float(torch.linalg.det(rotation.double())) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("method", EXACT)
def test_orthogonal_at_the_size_of_real_layers(method: str) -> None:
    free = torch.randn(576, 576, generator=torch.Generator().manual_seed(0))
    assert gap(METHODS[method](free)) < 3e-6
    # The plain inverse is off by 5e-5 here.
    assert gap(METHODS[method](20 * free)) < 3e-6


def test_householder_next_to_an_axis() -> None:
    """Here the reflection without a choice of sign loses all digits: x − ‖x‖e1 cancels."""
    free = torch.eye(6) + 1e-6 * torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    assert gap(METHODS["householder"](free)) < 1e-6


def test_cayley_is_that_of_torch_in_other_coordinates() -> None:
    free = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    layer = nn.utils.parametrizations.orthogonal(
        nn.Linear(6, 6, bias=False).double(), orthogonal_map="cayley", use_trivialization=False
    )
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(-2 * free.T)
    torch.testing.assert_close(cayley(free), layer.weight.detach(), rtol=0, atol=1e-12)


def test_lowdin_with_repeated_singular_values() -> None:
    """The factors' own gradients are infinite here; that of the product is not."""
    free = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    turn = METHODS["gram_schmidt"](free)
    values = torch.tensor([3.0, 3.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    free = ((turn * values) @ turn.T).requires_grad_()
    assert torch.autograd.gradcheck(METHODS["lowdin"], free)
    assert torch.autograd.gradcheck(METHODS["lowdin"], torch.eye(4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_lowdin_of_a_singular_matrix(rank: int) -> None:
    free = torch.diag(torch.cat([torch.ones(rank), torch.zeros(5 - rank)])).requires_grad_()
    rotation = METHODS["lowdin"](free)
    (rotation * torch.arange(25.0).view(5, 5)).sum().backward()
    assert gap(rotation) < 1e-6
    assert free.grad is not None
    assert free.grad.isfinite().all()


def test_rotation_descent_refuses() -> None:
    with pytest.raises(ValueError, match=r"params: got a parameter of shape \(2, 3\), expected square"):
        orthogonal.RotationDescent([nn.Parameter(torch.zeros(2, 3))])
    with pytest.raises(ValueError, match="lr: got 0, expected a finite number above 0"):
        orthogonal.RotationDescent([nn.Parameter(torch.eye(2))], lr=0)
    with pytest.raises(ValueError, match="momentum: got 1, expected a share below 1"):
        orthogonal.RotationDescent([nn.Parameter(torch.eye(2))], momentum=1)


def test_rotation_descent_takes_a_closure_and_skips_what_has_no_gradient() -> None:
    used, unused = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
    optimizer = orthogonal.RotationDescent([used, unused])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (used * torch.arange(9.0).view(3, 3)).sum()
        loss.backward()
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(50)]
    assert losses[0] == 12
    assert losses[-1] < -12
    assert torch.equal(unused, torch.eye(3))


def test_energy_of_known_directions() -> None:
    square = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [0.0, -0.1]])
    # Each corner of the square sees two at √2 and one at 2.
    assert float(orthogonal.hyperspherical_energy(square)) == pytest.approx(4 * (2 / 2**0.5 + 1 / 2))
    assert float(orthogonal.hyperspherical_energy(square[:1])) == 0
    assert float(orthogonal.hyperspherical_energy(square[[0, 0]])) == float("inf")
    assert orthogonal.hyperspherical_energy(torch.zeros(2, 2)).isnan()
    filters = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(orthogonal.hyperspherical_energy, filters)
    assert orthogonal.hyperspherical_energy(square.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"weight: got shape \(3,\), expected \(neurons, ...\)"):
        orthogonal.hyperspherical_energy(torch.ones(3))
