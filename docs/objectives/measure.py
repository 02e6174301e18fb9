"""Print the numbers that the pages of this folder name: `python docs/objectives/measure.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import criterium
from criterium.objectives import Task, build

WRONG = tuple(-0.5 * step for step in range(9))
"""The wrong logits of the pictures: 0, -0.5, ..., -4."""


def rows(margins: Tensor, wrong: tuple[float, ...] = WRONG, target: int = 0) -> Tensor:
    """Return logits (len(margins), 1 + len(wrong)) whose class `target` leads the others by the margins."""
    others = torch.tensor(wrong, dtype=torch.float64).expand(len(margins), -1)
    return torch.cat([others[:, :target], margins[:, None], others[:, target:]], dim=1)


def pull(criterion: nn.Module, margins: Tensor, wrong: tuple[float, ...] = WRONG) -> Tensor:
    """Return how hard each row pushes its true logit up: minus the derivative."""

    def loss(margin: Tensor) -> Tensor:
        found: Tensor = criterion(rows(margin[None], wrong), torch.zeros(1, dtype=torch.long))
        return found

    slope: Tensor = torch.func.vmap(torch.func.grad(loss))(margins)
    return -slope


def exact() -> None:
    """Print where the pull of EXACT is largest, if all wrong logits are equal."""
    margins = torch.linspace(-2, 5, 701, dtype=torch.float64)
    for classes in (2, 10, 150, 1000):
        force = pull(criterium.ExactLoss(temperature=1.0), margins, (0.0,) * (classes - 1))
        print(
            f"exact, {classes} classes: pull largest at {margins[force.argmax()]:.2f} T,"
            f" at 0 {force[margins.abs().argmin()] / force.max():.1%} of that"
        )


def focal() -> None:
    """Print the largest pull of the focal loss; that of cross-entropy is 1."""
    margins = torch.linspace(-12, 6, 1801, dtype=torch.float64)
    for gamma in (0.5, 1.0, 2.0, 5.0):
        largest = pull(criterium.FocalLoss(gamma=gamma), margins).max()
        print(f"focal, gamma={gamma:g}: largest pull {largest:.2f}")


def gce() -> None:
    """Print the pull of guided complement entropy as a share of cross-entropy's."""
    margins = torch.tensor([-6.0, -3.0, 0.0, 3.0, 6.0], dtype=torch.float64)
    shares = pull(criterium.GuidedComplementEntropyLoss(), margins) / pull(nn.CrossEntropyLoss(), margins)
    for margin, share in zip(margins, shares, strict=True):
        print(f"gce, margin {margin:g}: {share:.1%} of cross-entropy's pull")


def topk() -> None:
    """Print the loss of the race's topk for a margin: it goes by the number of the true class."""
    for relaxation in ("odd_even", "bitonic", "lapsum"):
        (criterion,) = build("topk", {"relaxation": relaxation}).criteria(Task(10, (50,) * 10, 3, False))
        for margin in (6.0, 2.0):
            losses = [
                float(criterion(rows(torch.tensor([margin]), target=y), torch.tensor([y]))) for y in range(10)
            ]
            print(
                f"topk, {relaxation}, margin {margin:g}: {min(losses):.3f} to {max(losses):.3f} by true class"
            )


def smooth_topk_svm() -> None:
    """Print the smooth top-k SVM of all classes, and its fused form, which looks at the 64 largest logits."""
    torch.manual_seed(0)
    criterion = criterium.SmoothTopKSVMLoss(k=5)
    for classes in (1000, 20_000):
        features, weight = torch.randn(64, 32), torch.randn(classes, 32) / 32**0.5
        target = torch.randint(classes, (64,))
        plain = criterion(features @ weight.T, target)
        fused = criterium.linear.linear_loss(criterion, features, weight, target, candidates=64)
        print(f"smooth-topk-svm, {classes} classes: {plain:.2f}, fused {fused:.2f}")


if __name__ == "__main__":
    exact()
    focal()
    gce()
    topk()
    smooth_topk_svm()
