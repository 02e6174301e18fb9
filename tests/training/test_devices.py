"""Device and precision can change from one comparison to the next in the same process."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from criterium.training import Recipe, accelerator_for, predict
from small import dropout_net, features, run


def test_settings_change_in_one_process() -> None:
    recipe = Recipe(epochs=2, batch_size=16)
    for precision in ("float32", "bf16", "float32"):
        accelerator = accelerator_for("cpu", precision)
        assert accelerator.device.type == "cpu"
        assert accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")
        half = run("exact", dropout_net(), features(), recipe, precision=precision)
        assert all(p.dtype == torch.float32 for p in half.model.parameters())
    assert accelerator_for("cpu", "auto").mixed_precision == "no"


def test_bfloat16_trains_and_differs() -> None:
    recipe = Recipe(epochs=6, batch_size=16)
    whole, half = (
        run("cross-entropy", dropout_net(), features(), recipe, precision=p) for p in ("float32", "bf16")
    )
    assert half.history["train_loss"][-1] == pytest.approx(whole.history["train_loss"][-1], rel=0.05)
    assert half.history["train_loss"] != whole.history["train_loss"]
    assert half.history["validation_error"][-1] < 0.4


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cpu:0", ""])
def test_unknown_device(device: str) -> None:
    with pytest.raises(ValueError, match=f"device: got '{device}', expected auto, cpu, cuda, cuda:N or mps"):
        accelerator_for(device)


def test_missing_device() -> None:
    with pytest.raises(ValueError, match="device: got 'cuda:99', but PyTorch finds"):
        accelerator_for("cuda:99")


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match=r"precision: got 'bf61'.*did you mean 'bf16'"):
        accelerator_for("cpu", "bf61")


def test_what_was_trained_in_bfloat16_is_evaluated_in_float32() -> None:
    """Logits of bfloat16 tie at the top, and ties count as errors."""
    data = features(rows=400, classes=100)
    accelerator = accelerator_for("cpu", "bf16")
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 100))
    prepared = accelerator.prepare_model(copy.deepcopy(model))
    with torch.inference_mode():
        expected, rounded = model(data.train.inputs), prepared(data.train.inputs)
        assert not torch.equal(rounded, expected)
        torch.testing.assert_close(predict(prepared, data.train.inputs, accelerator), expected)
        assert torch.equal(prepared(data.train.inputs), rounded)  # training goes on as it was
