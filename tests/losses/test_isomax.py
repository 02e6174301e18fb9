from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from criterium.losses.isomax import IsoMaxLoss, isomax_loss

# The authors' numbers for this loss are tests of the heads: see tests/test_heads.py.


def test_is_the_cross_entropy_of_scaled_logits() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(6, 5, dtype=torch.float64), torch.randint(5, (6,))
    torch.testing.assert_close(
        isomax_loss(logits, target, entropic_scale=3.0), F.cross_entropy(3 * logits, target)
    )
    soft = torch.rand(6, 5, dtype=torch.float64).softmax(dim=1)
    torch.testing.assert_close(isomax_loss(logits, soft), F.cross_entropy(10 * logits, soft))


def test_a_gap_at_which_the_authors_softmax_underflows() -> None:
    logits = torch.tensor([[0.0, -50.0]], requires_grad=True)
    loss = isomax_loss(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 500.0
    assert logits.grad.tolist() == [[10.0, -10.0]]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scale(scale: float) -> None:
    with pytest.raises(ValueError, match=r"entropic_scale: got .*, expected a finite number above 0"):
        isomax_loss(torch.zeros(1, 2), torch.tensor([0]), entropic_scale=scale)
    with pytest.raises(ValueError, match=r"entropic_scale: got .*, expected a finite number above 0"):
        IsoMaxLoss(entropic_scale=scale)
