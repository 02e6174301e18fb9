"""Spaces of networks: their names, what they draw, and what a name builds."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from criterium.models import build
from criterium.techniques import architecture
from criterium.techniques.architecture import body, draw

IMAGE = (3, 12, 10)


@pytest.mark.parametrize("space", ["mlp", "resnet"])
def test_a_larger_budget_begins_with_the_networks_of_a_smaller_one(space: str) -> None:
    names = draw(space, 40, 0, IMAGE)
    assert len(set(names)) == 40
    assert draw(space, 15, 0, IMAGE) == names[:15]
    assert draw(space, 40, 1, IMAGE) != names
    everything = draw(space, 10**6, 0, IMAGE)
    assert len(set(everything)) == len(everything) == {"mlp": 1554, "resnet": 3285}[space]


@pytest.mark.parametrize("space", ["mlp", "resnet"])
def test_networks_have_the_layers_that_their_names_say(space: str) -> None:
    for name in draw(space, 12, 0, IMAGE):
        network = body(name, IMAGE)
        widths = [int(part.split("x")[0]) for part in name.split("-")[1 if space == "mlp" else 2 :]]
        assert network(torch.randn(2, *IMAGE)).shape == (2, widths[-1])
        blocks = [module for module in network if isinstance(module, architecture.spaces.Residual)]
        if space == "mlp":
            assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == widths
        else:
            assert len(blocks) == sum(int(part.split("x")[1]) for part in name.split("-")[2:])


@pytest.mark.parametrize(("kind", "convolutions"), [("basic", 2), ("bottleneck", 3), ("depthwise", 3)])
def test_blocks_are_of_the_kind_and_halve_the_size_between_stages(kind: str, convolutions: int) -> None:
    network = body(f"resnet-{kind}-8x1-16x2", (1, 8, 8))
    sizes: list[Any] = []
    first, second, third = (module for module in network if isinstance(module, architecture.spaces.Residual))
    for block in (first, second, third):
        block.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.randn(1, 1, 8, 8))
    assert sizes == [(8, 8, 8), (16, 4, 4), (16, 4, 4)]
    assert [len(list(block.shortcut)) for block in (first, second, third)] == [0, 2, 0]
    layers = [layer for layer in third.layers if isinstance(layer, nn.Conv2d)]
    assert len(layers) == convolutions
    assert (layers[1].groups == layers[1].in_channels) == (kind == "depthwise")


def test_a_network_of_a_space_is_a_model_by_its_python_path() -> None:
    model = build(
        "criterium.techniques.architecture:resnet-basic-4x1",
        (1, 8, 8),
        torch.zeros(1, 1, 1),
        torch.ones(1, 1, 1),
    )
    assert model.out_features == 4
    with pytest.raises(ValueError, match=r"has no attribute '?resnet-cubic-4x1"):
        build("criterium.techniques.architecture:resnet-cubic-4x1", (1, 8, 8), torch.zeros(1), torch.ones(1))
    assert not hasattr(architecture, "nothing")


@pytest.mark.parametrize(
    ("space", "budget", "shape", "words"),
    [
        (
            "resnett",
            3,
            IMAGE,
            "space: got 'resnett', expected one of resnet, mlp, timm:PATTERN; did you mean",
        ),
        ("timm:", 3, IMAGE, "space: got 'timm:', expected one of"),
        ("mlp", 0, IMAGE, "budget: got 0, expected a whole number of at least 1"),
        ("resnet", 3, (64,), r"space: resnet needs images, but inputs have the shape \(64,\); expected mlp"),
        ("timm:*", 3, (64,), r"space: timm:\* needs images"),
    ],
)
def test_what_cannot_be_drawn_is_named(space: str, budget: int, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw(space, budget, 0, shape)


@pytest.mark.parametrize(
    "name", ["mlp", "mlp-0", "resnet-basic-4", "resnet-basic-0x1", "resnet-odd-4x1", "timm:"]
)
def test_names_of_no_network(name: str) -> None:
    with pytest.raises(ValueError, match="network: got"):
        architecture.spaces.factory(name)


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stand in for timm: a convolutional network of images of any size, a transformer of a fixed one."""
    module = types.ModuleType("timm")

    class Patches(nn.Module):
        def __init__(self, channels: int, size: Any) -> None:
            super().__init__()
            self.size = tuple(size)
            self.layer = nn.Conv2d(channels, 7, 2, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            assert inputs.shape[2:] == self.size
            return self.layer(inputs).relu().mean((2, 3))

    def create_model(
        name: str, *, pretrained: bool, num_classes: int, in_chans: int, **more: Any
    ) -> nn.Module:
        assert (pretrained, num_classes) == (False, 0)
        if name == "vit":
            return Patches(in_chans, more.get("img_size", (224, 224)))
        if more:
            raise TypeError("unexpected keyword argument 'img_size'")
        return nn.Sequential(nn.Conv2d(in_chans, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    module.create_model = create_model  # type: ignore[attr-defined]
    module.list_models = lambda pattern: ["vit", "net"] if pattern == "*" else []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_timm_models_are_made_for_the_shape_of_the_inputs(timm: types.ModuleType) -> None:
    assert sorted(draw("timm:*", 5, 0, IMAGE)) == ["timm:net", "timm:vit"]
    inputs = torch.randn(2, *IMAGE)
    assert body("timm:net", IMAGE)(inputs).shape == (2, 5)
    assert body("timm:vit", IMAGE)(inputs).shape == (2, 7)
    with pytest.raises(ValueError, match="space: got 'timm:x', but timm has no model of such a name"):
        draw("timm:x", 5, 0, IMAGE)


def test_without_timm_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="space: timm is not installed here"):
        draw("timm:resnet18", 1, 0, IMAGE)


def test_a_timm_that_does_not_load_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(architecture.spaces.importlib, "import_module", fail)
    with pytest.raises(ValueError, match=r"timm cannot be imported \(RuntimeError: operator torchvision"):
        draw("timm:resnet18", 1, 0, IMAGE)


def test_real_timm_models_can_be_scored() -> None:
    try:
        import timm  # noqa: F401
    except Exception as error:
        pytest.skip(f"timm does not load here: {error}")
    names = draw("timm:resnet10t", 1, 0, (3, 32, 32))
    found = architecture.score_architecture(body(names[0], (3, 32, 32)), torch.randn(8, 3, 32, 32))
    assert found.rectifiers > 5
    assert found.rank == 8
