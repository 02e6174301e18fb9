"""What each paper changes about training."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr
from torch import nn

from criterium import objectives
from criterium.data import Dataset, load
from criterium.objectives import OBJECTIVES, Choice, Objective, Range, Task, build
from criterium.training import Recipe, accelerator_for, predict, train
from criterium.training.trainer import build_model, task_of
from goldens import Case, cases

TASK = Task(num_classes=5, class_counts=(1, 2, 3, 4, 5), k=2, is_image=True, hierarchy=((0, 0, 1, 1, 1),))


@functools.cache
def digits() -> Dataset:
    tree = tuple(("even" if digit in "02468" else "odd", digit) for digit in "0123456789")
    return dataclasses.replace(load("digits", ood="none"), hierarchy=tree)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_trains(name: str) -> None:
    data, objective, accelerator = digits(), build(name), accelerator_for("cpu")
    task = task_of(data, 3)
    recipe = Recipe(epochs=3, learning_rate=0.1)
    model = build_model("mlp", objective, data, task, 0)
    trained = train(model, objective, data, recipe, task=task, seed=0, accelerator=accelerator)
    logits = predict(trained.model, data.test.inputs, accelerator)
    assert logits.isfinite().all()
    assert logits.shape == (len(data.test), 10)
    # The hard top-k hinge does not order the first k classes; it is judged on what it is for.
    k = task.k if name == "topk-svm" else 1
    found = logits.topk(k, dim=1).indices == data.test.targets.unsqueeze(1)
    assert 1 - found.any(1).float().mean() < 0.15 / k  # chance is 0.9, 0.7


RECIPE = {field.name for field in dataclasses.fields(Recipe)}


def settings(name: str) -> list[dict[str, Any]]:
    """Return settings with every value of the search space and the ends of its ranges, and the published."""
    space = OBJECTIVES[name].search
    values = {key: s.values if isinstance(s, Choice) else (s.low, s.high) for key, s in space.items()}
    drawn = [{key: value} for key, found in values.items() for value in found]
    return [*drawn, dict(OBJECTIVES[name].published), {}]


def own(setting: dict[str, Any]) -> dict[str, Any]:
    """Return what is the objective's and not the recipe's."""
    return {key: value for key, value in setting.items() if key not in RECIPE}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_search_space_is_accepted(name: str) -> None:
    for kind in OBJECTIVES[name].search.values():
        assert isinstance(kind, Range | Choice)
    torch.manual_seed(0)
    features, target = torch.randn(6, 7), torch.tensor([0, 1, 2, 3, 4, 0])
    for setting in settings(name):
        Recipe(**{key: value for key, value in setting.items() if key in RECIPE})
        objective = build(name, own(setting))
        for criterion in objective.criteria(TASK):
            head = objective.head(7, TASK)
            loss = criterion(head(features), target)
            loss.backward()
            assert loss.isfinite()
            assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_options_survive_json(name: str) -> None:
    for setting in settings(name):
        objective = build(name, own(setting))
        written = json.loads(json.dumps(dataclasses.asdict(objective)))
        assert build(name, written) == objective


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("exat", {}, "objective: got 'exat', expected one of cot, .*did you mean 'exact'"),
        ("exact", {"margn": 1}, "objective exact: got option 'margn', but .*did you mean 'margin'"),
        ("cot", {"margin": 1}, "objective cot: got option 'margin', but it has the options updates, beta"),
        ("exact", {"end": 0}, "end: got 0, expected a finite number above 0"),
        ("exact", {"start": "x"}, "start: got 'x', expected a finite number above 0"),
        ("cross-entropy", {"label_smoothing": 2}, "label_smoothing: got 2, expected a number from 0 to 1"),
        ("noised-topk-imbalanced", {"max_margin": -1}, "max_margin: got -1"),
        ("hcot", {"margin": 1}, "objective hcot: got option 'margin', but it has no options"),
        ("cot", {"updates": 3}, "updates: got 3, expected 1 or 2"),
        ("cot", {"beta": -1.0}, "beta: got -1.0, expected a finite number of at least 0"),
        ("gce", {"alpha": -1.0}, "alpha: got -1.0, expected a finite number of at least 0"),
        ("ldam", {"beta": 1.0}, "beta: got 1.0, expected a number from 0 to below 1"),
        ("ldam", {"defer": 160}, "defer: got 160, expected a share from 0 to 1"),
        ("maxsup", {"end": -0.1}, "end: got -0.1"),
        ("zero-one", {"kind": "sigmoyd"}, "kind: got 'sigmoyd', .*did you mean 'sigmoid'"),
    ],
)
def test_build_refuses(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, options)


def test_a_file_in_the_folder_is_an_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    text = (
        "from criterium.objectives.base import Objective\n"
        "class _Base(Objective):\n    pass\n"
        "class Added(_Base):\n    name = 'added'\n"
    )
    (tmp_path / "added_in_test.py").write_text(text)
    found = objectives._discover()
    assert found.keys() - OBJECTIVES.keys() == {"added"}
    assert issubclass(found["added"], Objective)
    (tmp_path / "added_twice_in_test.py").write_text(text.replace("'added'", "'exact'"))
    with pytest.raises(ValueError, match="objective: 'exact' is the name of two classes"):
        objectives._discover()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_says_what_it_is(name: str) -> None:
    kind = OBJECTIVES[name]
    assert name == kind.name
    assert 10 < len(kind.summary) < 100
    assert any(year in kind.paper for year in map(str, range(1950, 2030)))
    known = RECIPE | {field.name for field in dataclasses.fields(kind)}
    assert kind.search.keys() | kind.published.keys() <= known


def test_exact_temperature_falls_as_published() -> None:
    """SPEC: log v_e = log v_0 + (log v_min - log v_0) e / E, for the variance v = T^2 from 100 to 1."""
    objective = build("exact")
    criteria = objective.criteria(TASK)
    assert criteria[0].standardize
    for epoch in range(10):
        objective.schedule(criteria, epoch / 10)
        variance = math.exp(math.log(100) + (math.log(1) - math.log(100)) * epoch / 10)
        assert criteria[0].temperature == pytest.approx(math.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 50, 51, 100, 150, 1000, 100_000])
def test_exact_starts_where_perfect_logits_are_rewarded(classes: int) -> None:
    """Giving up half of the classes at the same variance must not pay, as it does for 150 classes at 10."""
    criterion = build("exact").criteria(dataclasses.replace(TASK, num_classes=classes))[0]
    lead = classes / math.sqrt(classes - 1)
    noise = np.linspace(-9, 13, 8001)

    def expected(lead: float) -> float:
        won = np.exp((classes - 1) * log_ndtr(noise + lead / criterion.temperature) - noise**2 / 2)
        return float(np.trapezoid(won, noise) / math.sqrt(2 * math.pi))

    assert expected(lead) > 0.5 * expected(math.sqrt(2) * lead) + 0.5 / classes
    if classes > 50:
        assert criterion.temperature == 10 or expected(lead) == pytest.approx(0.9, abs=1e-4)
    else:
        assert criterion.temperature == 10


@pytest.mark.parametrize("case", cases("grad_normalizer"))
def test_gradient_normalizer(case: Case) -> None:
    normalizer = build("exact").gradient_transform().double()
    stored = case.arrays
    a, b = (
        nn.Parameter(torch.zeros(stored[key].shape[1:], dtype=torch.float64))
        for key in ("grads_a", "grads_b")
    )
    frozen = nn.Parameter(torch.zeros(2))  # a parameter without gradient does not count
    for step in range(case.params["steps"]):
        a.grad, b.grad = (
            torch.from_numpy(stored[key][step].astype(np.float64)) for key in ("grads_a", "grads_b")
        )
        normalizer([a, frozen, b])
        assert float(normalizer.average) == pytest.approx(stored["moving_norm"][step], rel=1e-9)
        np.testing.assert_allclose(a.grad, stored["out_a"][step], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(b.grad, stored["out_b"][step], rtol=1e-9, atol=1e-12)


def test_noised_topk_margins() -> None:
    task = dataclasses.replace(TASK, class_counts=(1, 16, 81, 256, 0))
    (criterion,) = build("noised-topk-imbalanced", {"max_margin": 0.6}).criteria(task)
    torch.testing.assert_close(criterion.margin, torch.tensor([0.6, 0.3, 0.2, 0.15, 0.6]))
    assert (criterion.k, criterion.scale, criterion.samples) == (2, 50.0, 5)


LONG_TAIL = dataclasses.replace(TASK, class_counts=(1000, 100, 10, 1, 0))


@pytest.mark.parametrize("name", ["ldam", "logit-adjusted"])
def test_losses_for_imbalanced_classes_are_told_the_counts(name: str) -> None:
    (criterion,) = build(name).criteria(LONG_TAIL)
    assert criterion.class_counts.tolist() == [1000, 100, 10, 1, 1]


def test_ldam_weights_the_classes_at_the_end() -> None:
    """As the authors do from epoch 160 of 200: (1 - b) / (1 - b^n), summing to the number of classes."""
    objective = build("ldam", {"scale": 40.0})
    criteria = objective.criteria(LONG_TAIL)
    (criterion,) = criteria
    assert (criterion.max_margin, criterion.scale) == (0.5, 40.0)
    for epoch in range(160):
        objective.schedule(criteria, epoch / 200)
        assert criterion.weight is None
    expected = (1 - 0.9999) / (1 - 0.9999 ** np.array([1000, 100, 10, 1, 1]))
    for epoch in range(160, 200):
        objective.schedule(criteria, epoch / 200)
        np.testing.assert_allclose(criterion.weight, 5 * expected / expected.sum(), rtol=1e-6)
    # A run that is taken up again, or made anew, starts without them.
    objective.schedule(criteria, 0.0)
    assert criterion.weight is None
    never = build("ldam", {"defer": 1.0})
    never.schedule(criteria, 0.999)
    assert criterion.weight is None


def test_ldam_learns_cosines() -> None:
    head = build("ldam").head(7, TASK)
    assert head(100 * torch.randn(20, 7, generator=torch.Generator().manual_seed(0))).abs().max() <= 1 + 1e-6


def test_maxsup_penalty_rises_as_in_the_authors_code() -> None:
    """Theirs: 0.1 + epoch * (0.2 - 0.1) / epochs."""
    objective = build("maxsup")
    criteria = objective.criteria(TASK)
    for epoch in range(90):
        objective.schedule(criteria, epoch / 90)
        assert criteria[0].alpha == pytest.approx(0.1 + epoch * 0.1 / 90, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_topk_weights(k: int) -> None:
    task = dataclasses.replace(TASK, k=k)
    (criterion,) = build("topk", {"first": 0.25}).criteria(task)
    assert sum(criterion.p_k) == pytest.approx(1)
    assert criterion.p_k[0] == (1.0 if k == 1 else 0.25)
    assert len(criterion.p_k) == k
    assert criterion.candidates == "all"  # 16 candidates of 5 classes
    (many,) = build("topk").criteria(dataclasses.replace(TASK, num_classes=100))
    assert many.candidates == 16


def test_dismax_mixes_images_only_and_scales_in_training_only() -> None:
    objective = build("dismax")
    pixels = torch.arange(8 * 3 * 4 * 4).reshape(8, 3, 4, 4) % 251
    target = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    mixed, shares = objective.transform_batch(pixels, target, TASK)
    assert not torch.equal(mixed, pixels)
    torch.testing.assert_close(shares[4:].sum(0), torch.bincount(target[4:], minlength=5).float())
    same, labels = objective.transform_batch(pixels, target, dataclasses.replace(TASK, is_image=False))
    assert same is pixels
    assert labels is target

    torch.manual_seed(0)
    head, (criterion,) = objective.head(3, TASK), objective.criteria(TASK)
    features = torch.randn(8, 3)
    logits = head(features)
    log_p = (10 * logits).log_softmax(1)
    torch.testing.assert_close(criterion(logits, target), nn.functional.nll_loss(log_p, target))
    first = nn.functional.nll_loss(log_p[:4], target[:4])
    second = nn.functional.kl_div(log_p[4:], shares[4:], reduction="batchmean")
    torch.testing.assert_close(criterion(logits, shares), (first + second) / 2)
    # Evaluation knows no entropic scale: the head gives the same logits.
    assert torch.equal(head.eval()(features), logits)


@pytest.mark.parametrize(
    ("name", "score", "rate"),
    [
        ("cross-entropy", "mps", 0.1),
        ("cot", "mps", 0.1),
        ("exact", "mps", 0.5),
        ("noised-topk", "mps", 0.1),
        ("isomax", "es", 0.1),
        ("isomax-plus", "mds", 0.1),
        ("dismax", "mmles", 0.1),
    ],
)
def test_published_defaults(name: str, score: str, rate: float) -> None:
    assert (OBJECTIVES[name].score, OBJECTIVES[name].learning_rate) == (score, rate)
