from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from criterium.heads import DisMaxHead, IsoMaxHead, IsoMaxPlusHead, NormalizedLinear
from criterium.losses.isomax import isomax_loss
from goldens import Case, assert_stored, cases

HEADS = (IsoMaxHead, IsoMaxPlusHead, DisMaxHead, NormalizedLinear)
DISTANCE_HEADS = {"isomax": IsoMaxHead, "isomaxplus": IsoMaxPlusHead, "dismax": DisMaxHead}
GOLDENS = [case for objective in DISTANCE_HEADS for case in cases(objective)]


def _trained(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """Logits, loss and gradients of a golden case, named as its arrays."""
    params, arrays = case.params, case.arrays
    head = DISTANCE_HEADS[case.objective](params["features"], params["classes"]).to(dtype)
    state = {"prototypes": torch.from_numpy(arrays["prototypes"])}
    state["temperature"] = torch.tensor(params["temperature"], dtype=torch.float64)
    if case.objective != "isomax":
        state["distance_scale"] = torch.tensor([params["distance_scale"]], dtype=torch.float64)
    head.load_state_dict(state)
    features = torch.from_numpy(arrays["features"]).to(dtype).requires_grad_()
    logits = head(features)
    logits.retain_grad()
    loss = isomax_loss(
        logits, torch.from_numpy(arrays["labels"]).long(), entropic_scale=params["entropic_scale"]
    )
    loss.backward()
    named = {"logits": logits, "loss": loss, "grad_logits": logits.grad, "grad_features": features.grad}
    named |= {f"grad_{name}": parameter.grad for name, parameter in head.named_parameters()}
    return {name: value.detach() for name, value in named.items() if name in arrays}


@pytest.mark.parametrize("case", GOLDENS)
def test_authors_numbers_in_float64(case: Case) -> None:
    found = _trained(case, torch.float64)
    assert {"logits", "loss", "grad_logits", "grad_features"} <= found.keys()
    for name, value in found.items():
        assert_stored(case, name, value)


@pytest.mark.parametrize("case", GOLDENS)
def test_authors_numbers_in_float32(case: Case) -> None:
    scaled = np.abs(case.arrays["logits"]).max() * case.params["entropic_scale"]
    # A logit in float32 is known to eps/2 of its size, and its probability to that times the scale.
    relative = max(1e-5, scaled * torch.finfo(torch.float32).eps)
    for name, value in _trained(case, torch.float32).items():
        assert value.dtype == torch.float32
        assert_stored(case, name, value, share=relative)


def test_normalized_linear_is_the_cosine() -> None:
    torch.manual_seed(0)
    head, features = NormalizedLinear(6, 4).double(), torch.randn(5, 6, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(features[:, None], head.prototypes[None], dim=2)
    torch.testing.assert_close(head(features), expected)


def test_prototypes_start_as_the_papers_say() -> None:
    torch.manual_seed(0)
    assert not IsoMaxHead(400, 50).prototypes.any()
    for head in (IsoMaxPlusHead(400, 50), DisMaxHead(400, 50)):
        assert abs(head.prototypes.mean()) < 0.03
        assert abs(head.prototypes.std() - 1) < 0.03
        assert head.distance_scale.tolist() == [1.0]
    prototypes = NormalizedLinear(400, 50).prototypes
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(50))
    # U(−1, 1) before it was set to length 1: variance 1/3, so a bound of √3 standard deviations.
    assert prototypes.abs().max() < 1.1 * math.sqrt(3 / 400)


@pytest.mark.parametrize("kind", HEADS)
def test_temperature_divides_the_logits(kind: type) -> None:
    torch.manual_seed(0)
    head, features = kind(6, 4), torch.randn(5, 6)
    plain = head(features)
    head.temperature.fill_(4.0)
    assert torch.equal(head(features), plain / 4)
    assert "temperature" in head.state_dict()
    assert "temperature" not in dict(head.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", DISTANCE_HEADS.values())
def test_gradients_at_zero_distance_are_finite(kind: type, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = kind(6, 4).to(dtype)
    features = head.prototypes.detach().clone().requires_grad_()
    logits = head(features)
    isomax_loss(logits, torch.arange(4)).backward()
    for gradient in (features.grad, *(parameter.grad for parameter in head.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 100


@pytest.mark.parametrize("kind", HEADS)
def test_features_of_zeros_get_a_bounded_gradient(kind: type) -> None:
    torch.manual_seed(0)
    features = torch.zeros(3, 6, requires_grad=True)
    logits = kind(6, 4)(features)
    isomax_loss(logits, torch.tensor([0, 1, 2])).backward()
    assert logits.isfinite().all()
    assert features.grad.isfinite().all()
    assert features.grad.abs().max() < 100


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-4])
def test_the_distance_to_a_close_prototype_keeps_its_digits(gap: float) -> None:
    torch.manual_seed(0)
    head = IsoMaxHead(64, 10)
    torch.nn.init.normal_(head.prototypes)
    features = (head.prototypes[[3, 7]] + gap * torch.randn(2, 64)).detach()
    found = head(features)
    exact = copy.deepcopy(head).double()(features.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)
    # ‖f‖² + ‖w‖² − 2 f·w alone would not do: it must be visibly wrong at the smallest gap.
    if gap == 1e-4:
        squares = features.square().sum(1, keepdim=True) + head.prototypes.square().sum(1)
        naive = (squares - 2 * features @ head.prototypes.T).clamp_min(0).sqrt()
        assert (naive[0, 3] + exact[0, 3]).abs() > 1e-2 * exact[0, 3].abs()


@pytest.mark.parametrize("kind", HEADS)
def test_gradcheck(kind: type) -> None:
    torch.manual_seed(0)
    head = kind(3, 4).double()
    torch.nn.init.normal_(head.prototypes)
    head.temperature.fill_(0.7)
    parameters = {name: value.detach().requires_grad_() for name, value in head.named_parameters()}
    features = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def logits(features: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(head, dict(zip(parameters, values, strict=True)), (features,))

    assert torch.autograd.gradcheck(logits, (features, *parameters.values()))


@pytest.mark.parametrize("kind", HEADS)
def test_leading_dimensions(kind: type) -> None:
    torch.manual_seed(0)
    head, features = kind(6, 4), torch.randn(2, 3, 6)
    logits = head(features)
    assert logits.shape == (2, 3, 4)
    torch.testing.assert_close(head(features[1]), logits[1])
    torch.testing.assert_close(head(features[1, 2]), logits[1, 2])
    torch.testing.assert_close(head(features.transpose(0, 1)), logits.transpose(0, 1))
    assert head(features[:, :0]).shape == (2, 0, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_is_computed_in_float32(kind: type, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, features = kind(6, 4), torch.randn(5, 6).to(dtype)
    logits = head(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(features.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(features), logits)
    low = copy.deepcopy(head).to(dtype)
    for parameter in head.parameters():
        parameter.data = parameter.data.to(dtype).float()
    assert torch.equal(low(features), head(features))


@pytest.mark.parametrize("kind", HEADS)
def test_compile_vmap_and_copies(kind: type) -> None:
    torch.manual_seed(0)
    head, features = kind(6, 4), torch.randn(5, 6)
    logits = head(features)
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), logits)
    torch.testing.assert_close(torch.func.vmap(head)(features), logits)
    assert torch.equal(copy.deepcopy(head)(features), logits)
    assert torch.equal(pickle.loads(pickle.dumps(head))(features), logits)
    other = kind(6, 4)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features), logits)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"in_features: got 0, expected a whole number of at least 1"):
        DisMaxHead(0, 3)
    with pytest.raises(ValueError, match=r"num_classes: got -1, expected a whole number of at least 1"):
        IsoMaxHead(4, -1)
    with pytest.raises(ValueError, match=r"features: got shape \(2, 5\), expected \(\.\.\., 4\)"):
        NormalizedLinear(4, 3)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"features: got shape \(\), expected \(\.\.\., 4\)"):
        NormalizedLinear(4, 3)(torch.tensor(0.0))
