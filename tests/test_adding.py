"""What docs/adding.md tells one to write works as it stands there."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import criterium
from criterium.comparison import race, study
from criterium.linear import forms

PAGE = (Path(__file__).parents[1] / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ModuleType]]:
    """Return the page's complete files as modules, in a folder where Python finds them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ["my_objectives", "my_losses"]
    for name, block in zip(names, (block for block in BLOCKS if "import" in block), strict=True):
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    yield [importlib.import_module(name) for name in names]
    for name in names:
        sys.modules.pop(name)


def test_the_objective_is_raced(modules: list[ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 1.0))
    named = re.search(r"^criterium compare (.*) --data", PAGE, re.MULTILINE)
    assert named is not None
    labels = named[1].split()
    settings = {"model": "linear", "seeds": 1, "tune": 0, "jobs": 1, "device": "cpu"}
    recipe = criterium.Recipe(epochs=2)
    objects = [labels[0], modules[0].Sharp(), modules[0].Sharp(gamma=4)]
    found = criterium.compare(objectives=objects, recipe=recipe, out="race", **settings)
    assert found.table.objectives == tuple(labels)
    assert criterium.resume("race", objectives=[labels[1]]).table.objectives == tuple(labels)


def test_the_loss_keeps_the_contract(modules: list[ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    function, module = modules[1].generalized_cross_entropy, modules[1].GeneralizedCrossEntropyLoss
    logits, target = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.arange(6) % 4
    probability = logits.softmax(1)[torch.arange(6), target]
    torch.testing.assert_close(function(logits, target, reduction="none"), (1 - probability**0.7) / 0.7)
    torch.testing.assert_close(module(q=0.5)(logits, target), ((1 - probability**0.5) / 0.5).mean())
    assert torch.autograd.gradcheck(lambda x: function(x, target), logits)
    soft = torch.nn.functional.one_hot(target, 4).double()
    torch.testing.assert_close(function(logits, soft), function(logits, target))
    torch.testing.assert_close(
        function(logits, target, ignore_index=3), function(logits[[0, 1, 2, 4, 5]], target[[0, 1, 2, 4, 5]])
    )
    with pytest.raises(ValueError, match="q: got 0"):
        module(q=0)
    monkeypatch.setitem(forms.FORMS, function, forms.of_probability(function))
    features, weight = torch.randn(6, 5), torch.randn(4, 5)
    fused = criterium.linear.linear_loss(module(), features, weight, target)
    torch.testing.assert_close(fused, function(features @ weight.T, target))
