"""What an import of losses brings along."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys, torch, criterium
logits, target = torch.randn(3, 12, requires_grad=True), torch.tensor([0, 3, 11])
for name in ("ExactLoss", "TopKCrossEntropyLoss", "NoisedTopKHingeLoss", "SmoothTopKSVMLoss", "FocalLoss"):
    getattr(criterium, name)()(logits, target).backward()
criterium.NoisedTopKHingeLoss(samples=None)(logits, target).backward()
criterium.TopKCrossEntropyLoss(relaxation="bitonic")(logits.detach(), target)
criterium.sorting.topk_matrix(logits, 2).sum().backward()
print(*(name for name in sys.modules if name.startswith("torch._dynamo")))
"""


def test_no_compiler_is_imported_for_eager_losses() -> None:
    # It costs over a second and 70 MB.
    run = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []
