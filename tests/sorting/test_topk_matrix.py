from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from criterium.sorting import sort_matrix, topk_matrix
from criterium.sorting.comparators import DISTRIBUTIONS
from criterium.sorting.networks import NETWORKS
from criterium.sorting.soft import SOFT_SORTS, neuralsort
from criterium.sorting.topk import RELAXATIONS, rank_probabilities
from goldens import Case, cases

KINDS = [(name, distribution) for name in NETWORKS for distribution in DISTRIBUTIONS]
KINDS += [(name, "logistic") for name in RELAXATIONS if name not in NETWORKS]


def options(case: Case) -> dict[str, Any]:
    method = case.params["method"]
    if method in SOFT_SORTS:
        return {"relaxation": method, "steepness": 1 / case.params["tau"]}
    names = ("distribution", "steepness", "art_lambda")
    relaxation = "splitter" if method == "splitter_selection" else method
    return {"relaxation": relaxation} | {name: case.params[name] for name in names}


def largest_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("case", cases("topk_matrix"))
def test_golden(case: Case) -> None:
    stored = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    matrix, grad_output = stored["P"].flip(-1), stored["grad_output"].flip(-1)
    tolerance = case.tolerance

    scores = stored["x"].double().requires_grad_()
    ours = topk_matrix(scores, matrix.shape[-1], **options(case))
    ours.backward(grad_output.double())
    torch.testing.assert_close(ours, matrix, rtol=tolerance["loss_rtol"], atol=tolerance["loss_atol"])
    torch.testing.assert_close(
        scores.grad, stored["grad_x"], rtol=tolerance["grad_rtol"], atol=tolerance["grad_atol"]
    )

    scores = stored["x"].float().requires_grad_()
    ours = topk_matrix(scores, matrix.shape[-1], **options(case))
    ours.backward(grad_output.float())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), matrix, rtol=1e-5, atol=1e-8)
    # Near ties the slope of logistic_phi turns the rounding of a small gap into one of the gradient.
    bound = 1e-4 if case.params.get("distribution") == "logistic_phi" else 1e-5
    assert largest_error(scores.grad, stored["grad_x"]) < bound


@given(
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9),
    kind=st.sampled_from(KINDS),
    steepness=st.sampled_from([0.0625, 1.0, 10.0]),
    data=st.data(),
)
def test_each_rank_is_taken_once_and_each_element_at_most_once(
    scores: list[float], kind: tuple[str, str], steepness: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(scores)))
    relaxation, distribution = kind
    matrix = topk_matrix(
        torch.tensor(scores), k, relaxation=relaxation, distribution=distribution, steepness=steepness
    )
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(0), torch.ones(k), rtol=0, atol=1e-5)
    if relaxation not in SOFT_SORTS:
        within = 0.005 if relaxation == "sinkhorn" else 1e-5
        assert matrix.sum(1).max() <= 1 + within
        if k == len(scores):
            torch.testing.assert_close(matrix.sum(1), torch.ones(k), rtol=0, atol=within)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_steep_matrices_are_hard(relaxation: str) -> None:
    for n in range(1, 6):
        scores = torch.tensor(list(itertools.permutations(range(n))), dtype=torch.float32)
        order = scores.argsort(dim=-1, descending=True)
        for k in range(1, n + 1):
            hard = torch.nn.functional.one_hot(order[:, :k], n).mT.float()
            soft = topk_matrix(scores, k, relaxation=relaxation, steepness=1e3)
            torch.testing.assert_close(soft, hard, rtol=0, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    for n in range(6, 13):
        scores = torch.stack([torch.randperm(n, generator=generator) for _ in range(200)]).float()
        for k in range(1, n + 1):
            hard = torch.nn.functional.one_hot(scores.argsort(descending=True)[:, :k], n).mT.float()
            soft = topk_matrix(scores, k, relaxation=relaxation, steepness=1e3)
            torch.testing.assert_close(soft, hard, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("relaxation", "distribution"), KINDS)
def test_one_row_equals_that_of_the_matrix(relaxation: str, distribution: str) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 4, 9, generator=generator, dtype=torch.float64)
    index = torch.randint(9, (3, 4), generator=generator)
    weight = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    kind = {"relaxation": relaxation, "distribution": distribution, "steepness": 2.0, "art_lambda": 0.3}

    def results(values: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return row, torch.autograd.grad((row * weight).sum(), values)[0]

    first, second = (scores.clone().requires_grad_() for _ in range(2))
    whole = topk_matrix(first, 5, **kind)
    row, gradient = results(second, rank_probabilities(second, index, 5, **kind))
    expected, slope = results(first, whole.gather(2, index[..., None, None].expand(3, 4, 1, 5)).squeeze(2))
    torch.testing.assert_close(row, expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("relaxation", "distribution"), [("bitonic", d) for d in DISTRIBUTIONS])
def test_gradients_of_first_and_second_order(relaxation: str, distribution: str) -> None:
    scores = torch.tensor([[0.3, -1.2, 0.9, 2.0, 0.1]], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([2])
    kind = {"relaxation": relaxation, "distribution": distribution, "steepness": 0.7, "art_lambda": 0.3}
    assert torch.autograd.gradcheck(lambda s: topk_matrix(s, 3, **kind), scores)
    assert torch.autograd.gradcheck(lambda s: rank_probabilities(s, index, 3, **kind), scores)
    assert torch.autograd.gradgradcheck(lambda s: rank_probabilities(s, index, 3, **kind), scores)


@pytest.mark.parametrize("relaxation", [name for name in RELAXATIONS if name not in NETWORKS])
def test_gradients_without_a_network(relaxation: str) -> None:
    scores = torch.tensor([[0.3, -1.2, 0.9, 2.0, 0.1]], dtype=torch.float64, requires_grad=True)
    for k in (3, 5):
        matrix = functools.partial(topk_matrix, k=k, relaxation=relaxation, steepness=0.7)
        assert torch.autograd.gradcheck(matrix, scores)
        assert torch.autograd.gradgradcheck(matrix, scores)


@pytest.mark.parametrize("relaxation", [name for name in RELAXATIONS if name not in NETWORKS])
def test_the_order_of_elements_does_not_matter_without_a_network(relaxation: str) -> None:
    scores = 3 * torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[0, :4] = 1.5
    order = torch.tensor([3, 0, 8, 5, 1, 7, 2, 6, 4])
    matrix = topk_matrix(scores, 5, relaxation=relaxation)
    torch.testing.assert_close(topk_matrix(scores[:, order], 5, relaxation=relaxation), matrix[:, order])


@pytest.mark.parametrize(("relaxation", "distribution"), KINDS)
def test_sorting_is_top_k_of_all(relaxation: str, distribution: str) -> None:
    scores = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    kind = {"relaxation": relaxation, "distribution": distribution, "steepness": 2.0, "art_lambda": 0.5}
    matrix = sort_matrix(scores, **kind)
    assert matrix.shape == (3, 7, 7)
    assert torch.equal(matrix, topk_matrix(scores, 7, **kind))
    # The first columns are those of fewer ranks: a splitter's network is another one for other k.
    if relaxation != "splitter":
        torch.testing.assert_close(matrix[..., :2], topk_matrix(scores, 2, **kind), rtol=1e-5, atol=1e-7)
    hard = sort_matrix(scores, **kind | {"steepness": 1e4})
    descending = scores.sort(descending=True).values
    torch.testing.assert_close((hard.mT @ scores.unsqueeze(-1)).squeeze(-1), descending, rtol=0, atol=0.01)


@pytest.mark.parametrize(("relaxation", "distribution"), KINDS)
def test_hostile_scores_give_finite_matrices_and_gradients(relaxation: str, distribution: str) -> None:
    scores = torch.stack([torch.zeros(6), 1e4 * (-1.0) ** torch.arange(6), torch.linspace(-1e4, 1e4, 6)])
    for steepness in (0.1, 10.0):
        leaf = scores.clone().requires_grad_()
        matrix = sort_matrix(leaf, relaxation=relaxation, distribution=distribution, steepness=steepness)
        (matrix * torch.arange(36.0).reshape(6, 6)).sum().backward()
        assert matrix.isfinite().all()
        assert leaf.grad.isfinite().all()


def test_neuralsort_is_its_formula_and_stays_precise_with_many_elements() -> None:
    scores = 3 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    exact = scores.double()
    rank = torch.arange(1, 6).unsqueeze(-1)
    distances = (exact.unsqueeze(-1) - exact.unsqueeze(-2)).abs().sum(-1)
    logits = (1001 - 2 * rank) * exact.unsqueeze(-2) - distances.unsqueeze(-2)
    expected = torch.softmax(logits, dim=-1)
    torch.testing.assert_close(torch.softmax(neuralsort(exact, 5), -1), expected, rtol=1e-9, atol=1e-30)
    ours = topk_matrix(scores, 5, relaxation="neuralsort").mT.double()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("relaxation", NETWORKS)
def test_logistic_phi_at_ties_has_the_gradient_of_logistic(relaxation: str) -> None:
    """Its slope has no bound there: the published form gives gradients of thousands for equal scores."""
    gradients = []
    for distribution in ("logistic_phi", "logistic"):
        scores = torch.full((1, 8), 0.7, requires_grad=True)
        index = torch.tensor([3])
        kind = {"relaxation": relaxation, "distribution": distribution, "steepness": 10.0, "art_lambda": 0.5}
        rank_probabilities(scores, index, 3, **kind)[0, 1].backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() < 10


def test_any_leading_dimensions_and_types() -> None:
    scores = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    matrix = topk_matrix(scores, 2)
    assert matrix.shape == (2, 3, 7, 2)
    torch.testing.assert_close(matrix[1, 2], topk_matrix(scores[1, 2], 2), rtol=1e-6, atol=0.0)
    half = scores.bfloat16()
    assert topk_matrix(half, 2).dtype == torch.float32
    torch.testing.assert_close(topk_matrix(half, 2), topk_matrix(half.float(), 2), rtol=0, atol=0)
    assert topk_matrix(scores.new_empty(0, 7), 2).shape == (0, 7, 2)


# Dynamo itself instantiates every autograd.Function that it traces, and torch warns of that.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_transforms_and_the_compiler(relaxation: str) -> None:
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([0, 5, 2, 2])
    kind = {"relaxation": relaxation, "distribution": "logistic", "steepness": 2.0, "art_lambda": 0.25}

    def total(s: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return rank_probabilities(s, i, 3, **kind)[..., 1].sum()

    leaf = scores.clone().requires_grad_()
    total(leaf, index).backward()
    torch.testing.assert_close(torch.vmap(torch.func.grad(total))(scores, index), leaf.grad)

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    again = scores.clone().requires_grad_()
    compiled(again, index).backward()
    torch.testing.assert_close(again.grad, leaf.grad)
    matrix = torch.compile(
        lambda s: topk_matrix(s, 3, relaxation=relaxation), fullgraph=True, backend="eager"
    )
    torch.testing.assert_close(matrix(scores), topk_matrix(scores, 3, relaxation=relaxation))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: got 0, expected a whole number of at least 1"),
        ({"k": 5}, "k: got 5, expected at most n = 4"),
        ({"relaxation": "oddeven"}, "relaxation: got 'oddeven', .*did you mean 'odd_even'"),
        ({"distribution": "gauss"}, "distribution: got 'gauss', .*did you mean 'gaussian'"),
        ({"steepness": 0.0}, "steepness: got 0.0"),
        ({"art_lambda": 1.0}, r"art_lambda: got 1.0, expected a number in \[0, 1\)"),
        ({"scores": torch.tensor([1, 2, 3, 4])}, "scores: got torch.int64"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        topk_matrix(**{"scores": torch.zeros(4), "k": 2} | change)


def test_sorting_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="scores: got a single number, expected"):
        sort_matrix(torch.tensor(1.0))
