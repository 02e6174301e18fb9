"""The built-in backbones: sizes known from the literature, shortcuts, initialisation, standardisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from criterium.models import MODELS, Backbone, Standardize, build
from criterium.models.preact_resnet import PreActBlock
from criterium.models.resnet import Block

IMAGE = (3, 32, 32)


def model(name: str, shape: tuple[int, ...] = IMAGE) -> Backbone:
    size = (shape[0], 1, 1) if len(shape) == 3 else shape
    return build(name, shape, torch.full(size, 0.5), torch.full(size, 0.25))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_standardize_reads_bytes_on_the_scale_of_one() -> None:
    layer = Standardize(torch.tensor([[[0.5]], [[0.25]]]), torch.tensor([[[0.5]], [[2.0]]]))
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(4, 2, 1, 3)
    expected = torch.tensor([[-1.0, -0.6, 1.0], [-0.125, -0.025, 0.375]])
    torch.testing.assert_close(layer(images)[3, :, 0], expected)
    assert layer(images).dtype == torch.float32
    assert [name for name, _ in layer.named_buffers()] == ["center", "scale"]


def test_standardize_takes_features_as_they_are_in_its_own_type() -> None:
    layer = Standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5]))
    torch.testing.assert_close(layer(torch.tensor([[3.0, 3.0]])), torch.tensor([[1.0, 2.0]]))
    assert layer(torch.tensor([[3.0, 3.0]], dtype=torch.float16)).dtype == torch.float32
    assert layer.double()(torch.tensor([[3.0, 3.0]])).dtype == torch.float64


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 9, 14)])
def test_features_have_the_width_that_is_promised(name: str, shape: tuple[int, ...]) -> None:
    backbone = model(name, shape)
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    features = backbone(images)
    assert features.shape == (4, backbone.out_features)
    assert features.dtype == torch.float32
    assert isinstance(next(backbone.children()), Standardize)
    if name != "linear":
        features.square().sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_linear_gives_the_standardised_inputs() -> None:
    features = torch.tensor([[1.0, 2.0, 3.0]])
    backbone = model("linear", (3,))
    torch.testing.assert_close(backbone(features), (features - 0.5) / 0.25)
    assert (parameters(backbone), backbone.out_features) == (0, 3)
    assert model("linear").out_features == 3072


def test_sizes_of_the_published_networks_with_ten_classes() -> None:
    counts = {name: parameters(model(name)) + 10 * (model(name).out_features + 1) for name in MODELS}
    assert counts["resnet20"] == 269_722  # the 0.27 million of He et al. 2016, table 6
    assert counts["preact-resnet18"] == 11_171_146
    assert counts["mlp"] == 3072 * 256 + 256 + 256 * 256 + 256 + 2570
    convolutions = 9 * (3 * 32 + 32 * 64 + 64 * 128)
    assert counts["cnn"] == convolutions + 2 * (32 + 64 + 128) + 1290


def test_depth_is_as_the_names_say() -> None:
    def weighted(name: str) -> int:
        layers = [layer for layer in model(name).modules() if isinstance(layer, nn.Conv2d)]
        return sum(layer.kernel_size == (3, 3) for layer in layers) + 1  # and the output layer

    assert weighted("resnet20") == 20
    assert weighted("preact-resnet18") == 18


@pytest.mark.parametrize(
    ("name", "widths"), [("resnet20", (16, 32, 64)), ("preact-resnet18", (64, 128, 256, 512))]
)
def test_spatial_size_halves_where_channels_double(name: str, widths: tuple[int, ...]) -> None:
    shapes = []
    backbone = model(name)
    for layer in backbone.body.modules():
        if isinstance(layer, Block | PreActBlock):
            layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    backbone(torch.zeros(2, *IMAGE, dtype=torch.uint8))
    sizes = [32 * widths[0] // width for width in widths]
    assert sorted(set(shapes)) == [(width, size, size) for width, size in zip(widths, sizes, strict=True)]


def silence(block: Block | PreActBlock) -> None:
    """Make the last convolution of a block give zeros."""
    nn.init.zeros_(block.conv2.weight)


def test_the_shortcut_of_resnet20_pads_with_zeros() -> None:
    block = Block(4, 8)
    silence(block)
    images = torch.randn(2, 4, 6, 6)
    features = block(images)
    assert features.shape == (2, 8, 3, 3)
    torch.testing.assert_close(features[:, 2:6], images[:, :, ::2, ::2].relu())
    assert (features[:, :2] == 0).all()
    assert (features[:, 6:] == 0).all()
    plain = Block(4, 4)
    silence(plain)
    torch.testing.assert_close(plain(images), images.relu())


def test_the_shortcut_of_preact_resnet_is_the_identity_or_a_projection() -> None:
    images = torch.randn(2, 4, 6, 6)
    plain = PreActBlock(4, 4)
    silence(plain)
    assert torch.equal(plain(images), images)
    wide = PreActBlock(4, 8)
    silence(wide)
    assert wide.projection is not None
    active = wide.norm1(images).relu()
    weight = wide.projection.weight[:, :, 0, 0]
    torch.testing.assert_close(wide(images), torch.einsum("ncij,oc->noij", active[:, :, ::2, ::2], weight))


def test_a_block_without_shortcut_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    block = Block(4, 4).eval()
    images = torch.randn(2, 4, 6, 6)

    def convolve(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
        return nn.functional.conv2d(inputs, layer.weight, padding=1) / math.sqrt(1 + 1e-5)  # fresh batch norm

    residual = convolve(block.conv2, convolve(block.conv1, images).relu())
    torch.testing.assert_close(block(images), (images + residual).relu())


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "preact-resnet18"])
def test_weights_are_drawn_after_he(name: str) -> None:
    torch.manual_seed(0)
    for layer in model(name).modules():
        if isinstance(layer, nn.Conv2d):
            fan = layer.out_channels * layer.kernel_size[0] ** 2
        elif isinstance(layer, nn.Linear):
            fan = layer.in_features
            assert (layer.bias == 0).all()
        else:
            continue
        # The deviation of n normal numbers is known to one part in sqrt(2 n).
        tolerance = 5 / math.sqrt(2 * layer.weight.numel())
        assert abs(float(layer.weight.detach().std()) / math.sqrt(2 / fan) - 1) < tolerance


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_weights(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(model(name, (1, 8, 8)).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert name == "linear" or any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet", IMAGE, "model: got 'resnet', expected one of linear, .*did you mean 'resnet20'"),
        ("cnn", (30,), "model: cnn needs images but the data holds features, expected one of linear, mlp$"),
        ("resnet20", (30,), "model: resnet20 needs images but the data holds features"),
        ("preact-resnet18", (3, 32, 7), "got images of 7x32 pixels, expected at least 8x8"),
    ],
)
def test_models_that_do_not_fit_get_one_line(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(name, shape)


def test_features_suit_the_models_that_take_them() -> None:
    for name, width in (("linear", 30), ("mlp", 256)):
        assert model(name, (30,))(torch.randn(5, 30)).shape == (5, width)


def test_the_statistics_are_saved_with_the_weights() -> None:
    state = model("mlp", (1, 8, 8)).state_dict()
    assert state["standardize.center"].item() == 0.5
    assert state["standardize.scale"].item() == 0.25
