"""Models named by a Python path: found, measured without a trace, and refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from criterium.models import Backbone, build

SOURCE = """
import torch
from torch import nn

number = 5

def wide(shape):
    return nn.Flatten().no_such_method()

def plain(shape):
    body = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.BatchNorm1d(12), nn.Linear(12, 7))
    body[1].eval()
    return body

def lazy(shape):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))

class Direct(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
    def forward(self, inputs):
        return inputs.flatten(1) + torch.rand(())

def no_module(shape):
    return shape

def images(shape):
    return nn.Identity()

def pair(shape):
    class Pair(nn.Module):
        def forward(self, inputs):
            return inputs, inputs
    return Pair()

def single(shape):
    class Single(nn.Module):
        def forward(self, inputs):
            return inputs.flatten(1)[:1]
    return Single()

def wrong_width(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(99, 3))

def no_arguments():
    return nn.Identity()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in a folder with a module and a package that only it holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = set(sys.modules)
    (tmp_path / "my_models.py").write_text(SOURCE)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "nets.py").write_text(SOURCE)
    (tmp_path / "my_broken.py").write_text("import a_module_that_is_not_there")
    (tmp_path / "my_typo.py").write_text("def f(:\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def make(path: str) -> Backbone:
    return build(path, (3, 2, 2), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


@pytest.mark.parametrize("module", ["my_models", "my_package.nets"])
def test_a_factory_of_the_working_folder(here: Path, module: str) -> None:
    backbone = make(f"{module}:plain")
    assert backbone.out_features == 7
    assert backbone(torch.zeros(5, 3, 2, 2, dtype=torch.uint8)).shape == (5, 7)


def test_a_module_that_can_be_imported_needs_no_other_place(here: Path) -> None:
    before = list(sys.path)
    with pytest.raises(ValueError, match=r"expected \(2, F\)"):
        make("torch.nn:Identity")
    assert sys.path == before
    make("my_models:plain")
    assert sys.path == [*before, str(here)]  # last, so that it hides nothing


def test_the_dry_run_leaves_no_trace(here: Path) -> None:
    torch.manual_seed(0)
    body = make("my_models:plain").body
    after = torch.rand(3)
    torch.manual_seed(0)
    from my_models import plain

    fresh = plain((3, 2, 2))
    assert torch.equal(after, torch.rand(3))
    assert [module.training for module in body.modules()] == [module.training for module in fresh.modules()]
    assert not body[1].training
    assert body[2].training
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, body.state_dict()[name])


def test_a_body_that_draws_random_numbers_leaves_the_generator_alone(here: Path) -> None:
    torch.manual_seed(0)
    make("my_models:Direct")
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(3))


def test_classes_and_lazy_layers_serve(here: Path) -> None:
    assert make("my_models:Direct").out_features == 12
    assert make("my_models:Direct").body.shape == (3, 2, 2)
    backbone = make("my_models:lazy")
    assert backbone.out_features == 5
    assert backbone.body[1].weight.shape == (5, 12)


def test_the_body_gets_standardised_floats(here: Path) -> None:
    backbone = build("my_models:images", (3,), torch.ones(3), torch.full((3,), 2.0))
    torch.testing.assert_close(backbone(torch.full((4, 3), 5.0)), torch.full((4, 3), 2.0))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_models:", "model: got 'my_models:', expected a Python path like 'pkg.module:factory'"),
        (":plain", "model: got ':plain', expected a Python path"),
        ("my_modles:plain", "importing my_modles raised ModuleNotFoundError: No module named 'my_modles'"),
        ("my_package.none:plain", "importing my_package.none raised ModuleNotFoundError: No module named"),
        ("my_broken:plain", "importing my_broken raised ModuleNotFoundError: No module named 'a_module_that"),
        ("my_typo:f", "importing my_typo raised SyntaxError"),
        ("..models:f", "model: got '..models:f', expected a Python path like"),
        ("my_models:plian", "model: my_models:plian: module my_models has no attribute 'plian'"),
        ("my_models:number", "model: my_models:number is a int, expected a function of a shape"),
        ("my_models:no_module", "is a tuple, expected a torch.nn.Module"),
        ("my_models:no_arguments", "raised TypeError: no_arguments() takes 0 positional arguments but 1 was"),
        ("my_models:wide", "raised AttributeError: 'Flatten' object has no attribute 'no_such_method'"),
        ("my_models:wrong_width", "on inputs of shape (2, 3, 2, 2) raised RuntimeError: mat1 and mat2"),
        ("my_models:images", "on inputs of shape (2, 3, 2, 2) gave shape (2, 3, 2, 2), expected (2, F)"),
        ("my_models:pair", "on inputs of shape (2, 3, 2, 2) gave tuple, expected (2, F)"),
        ("my_models:single", "on inputs of shape (2, 3, 2, 2) gave shape (1, 12), expected (2, F)"),
    ],
)
def test_bad_paths_get_one_line(here: Path, path: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
