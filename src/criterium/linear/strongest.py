"""The classes that lead each row, found while the classes pass block by block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from criterium.linear import scan
from criterium.linear.layer import Layer
from criterium.linear.scan import Places, blocks


class Leaders:
    """The m largest of the scores seen so far of each row, in descending order, and their classes."""

    def __init__(self, features: Tensor, m: int) -> None:
        """Start with none."""
        self.scores = features.new_full((len(features), m), -math.inf)
        self.classes = features.new_zeros(len(features), m, dtype=torch.long)

    def see(self, scores: Tensor, first: int) -> None:
        """Take note of the scores (N, B) of the classes from `first` on."""
        # Once some blocks have passed, few rows meet a class among their m strongest.
        rows = (scores.amax(dim=1) > self.scores[:, -1]).nonzero().squeeze(1)
        if len(rows) == 0:
            return
        new, columns = scores[rows].topk(min(self.scores.shape[1], scores.shape[1]), dim=1)
        self.merge(new, columns + first, rows)

    def merge(self, scores: Tensor, classes: Tensor, rows: Tensor) -> None:
        """Take note of the scores (R, n) of some classes (R, n) for some rows (R,)."""
        best, order = torch.cat([self.scores[rows], scores], dim=1).topk(self.scores.shape[1], dim=1)
        self.scores[rows] = best
        self.classes[rows] = torch.cat([self.classes[rows], classes], dim=1).gather(1, order)


@torch.no_grad()
def strongest(features: Tensor, layer: Layer, index: Tensor, m: int) -> Tensor:
    """Return (N, m) classes: of each row its own, then its m - 1 strongest others in descending order."""
    size = scan.block_size(len(features))
    leaders = Leaders(features, m - 1)
    places = Places(index, layer, size)
    for part in blocks(layer, size):
        logits = layer.take(part, features.dtype).logits(features)
        logits[places.within(part)] = -math.inf
        leaders.see(logits, layer.first + part.start)
    if layer.shard is not None:
        everywhere = zip(*map(layer.shard.gather, (leaders.scores, leaders.classes)), strict=True)
        leaders = Leaders(features, m - 1)
        for scores, classes in everywhere:
            leaders.merge(scores, classes, torch.arange(len(index), device=index.device))
    return torch.cat([index.unsqueeze(1), leaders.classes], dim=1)


@torch.no_grad()
def noised_kth(
    features: Tensor,
    layer: Layer,
    k: int,
    epsilon: float,
    samples: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Return which class (N, S) is the k-th largest under noise in each sample, and its score then."""
    size = scan.block_size(len(features))
    leaders = [Leaders(features, k) for _ in range(samples)]
    for part in blocks(layer, size):
        logits = layer.take(part, features.dtype).logits(features)
        for leader in leaders:
            noise = torch.randn(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)
            leader.see(torch.add(logits, noise, alpha=epsilon), part.start)
    return (
        torch.stack([leader.classes[:, -1] for leader in leaders], dim=1),
        torch.stack([leader.scores[:, -1] for leader in leaders], dim=1),
    )
