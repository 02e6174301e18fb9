from __future__ import annotations

import numpy as np
import pytest
import torch

from criterium.heads import DisMaxHead
from criterium.losses.fractional_probability import (
    fractional_probability_loss,
    mix_quadrants,
    mixed_targets,
)
from criterium.losses.isomax import isomax_loss
from goldens import Case, cases

GOLDENS = cases("fpr")


@pytest.mark.parametrize("case", GOLDENS)
def test_authors_images(case: Case) -> None:
    images, order = (torch.from_numpy(case.arrays[name]) for name in ("images", "permutation"))
    shuffled = images[order.long()]
    before = shuffled.clone()
    np.testing.assert_array_equal(mix_quadrants(shuffled).numpy(), case.arrays["images_out"])
    assert torch.equal(shuffled, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", GOLDENS)
def test_authors_loss(case: Case, dtype: torch.dtype) -> None:
    params, arrays = case.params, {name: torch.from_numpy(value) for name, value in case.arrays.items()}
    head = DisMaxHead(params["features"], params["classes"])
    with torch.no_grad():
        head.prototypes.copy_(arrays["prototypes"])
    head.to(dtype)
    features = arrays["features"].to(dtype).requires_grad_()
    logits = head(features)
    logits.retain_grad()
    # The authors give every quadrant a weight of 1/4, as in images with even sides.
    target = mixed_targets(arrays["labels_out"], params["classes"], size=(2, 2))
    loss = fractional_probability_loss(
        logits, target, alpha=params["alpha"], entropic_scale=params["entropic_scale"]
    )
    loss.backward()
    exact = dtype == torch.float64
    found = {
        "loss": loss.detach(),
        "grad_logits": logits.grad,
        "grad_features": features.grad,
        "grad_prototypes": head.prototypes.grad,
        "grad_distance_scale": head.distance_scale.grad,
    }
    for name, value in found.items():
        stored = case.arrays[name]
        kind = "loss" if name == "loss" else "grad"
        rtol = case.tolerance[f"{kind}_rtol"] if exact else 1e-5 * (name == "loss")
        atol = case.tolerance[f"{kind}_atol"] if exact else 1e-5 * np.abs(stored).max() * (name != "loss")
        np.testing.assert_allclose(value.numpy(), stored, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 7), (4, 6)])
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 8, 9])
def test_targets_are_the_shares_of_pixels(batch: int, size: tuple[int, int]) -> None:
    target = torch.arange(batch)
    # Every pixel holds the class of its image, so a mixed image says whose pixels it has.
    images = target[:, None, None, None].expand(batch, 1, *size)
    mixed = mix_quadrants(images).flatten(1)
    counted = torch.stack([(mixed == k).float().mean(dim=1) for k in range(10)], dim=1)
    torch.testing.assert_close(mixed_targets(target, 10, size), counted.reshape(batch, 10))
    assert torch.equal(mixed[: batch // 2], images.flatten(1)[: batch // 2])


def test_classes_that_meet_add_up() -> None:
    found = mixed_targets(torch.tensor([2, 2, 0, 0, 0, 1, 1, 2]), 3, size=(3, 3))
    assert found[:4].tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    # Row 4: 1/9 top left its own, 2/9 bottom left of row 7, 2/9 top right of row 6, 4/9 of row 5.
    torch.testing.assert_close(found[4], torch.tensor([1 / 9, 6 / 9, 2 / 9]))


def test_a_batch_of_one_is_a_plain_example() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3), torch.tensor([2])
    assert torch.equal(mix_quadrants(torch.ones(1, 3, 4, 4)), torch.ones(1, 3, 4, 4))
    found = fractional_probability_loss(logits, mixed_targets(target, 3, (4, 4)))
    torch.testing.assert_close(found, isomax_loss(logits, target))


def test_an_empty_batch_has_no_loss() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = fractional_probability_loss(logits, mixed_targets(torch.zeros(0), 3, (4, 4)))
    loss.backward()
    assert loss.item() == 0.0


def test_the_true_distribution_has_no_loss_in_the_mixed_half() -> None:
    target = mixed_targets(torch.tensor([0, 0, 0, 1]), 2, (4, 4))
    logits = torch.tensor([[0.0, -100.0], [0.0, -100.0], [0.0, 0.0], [0.0, 0.0]])
    assert fractional_probability_loss(logits, target).item() == pytest.approx(0.0, abs=1e-7)


def test_bad_input() -> None:
    target = mixed_targets(torch.tensor([0, 1]), 2, (4, 4))
    with pytest.raises(ValueError, match=r"images: got shape \(4, 5\), expected \(B, \.\.\., H, W\)"):
        mix_quadrants(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"target: got shape \(2, 2\), expected \(B,\)"):
        mixed_targets(target, 2, (4, 4))
    with pytest.raises(ValueError, match=r"size: got 0, expected a whole number of at least 1"):
        mixed_targets(torch.tensor([0]), 2, (0, 4))
    with pytest.raises(ValueError, match=r"alpha: got -1, expected a finite number of at least 0"):
        fractional_probability_loss(torch.zeros(2, 2), target, alpha=-1)
    with pytest.raises(ValueError, match=r"expected \(B, C\) logits and \(B, C\) class probabilities"):
        fractional_probability_loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"target: got class probabilities of shape \(2, 2\)"):
        fractional_probability_loss(torch.zeros(3, 2), target)
