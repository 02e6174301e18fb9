"""The candidates of each row, its strongest classes, found while the classes pass block by block."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from criterium.linear import scan
from criterium.linear.output_layer import OutputLayer
from criterium.linear.scan import Places, blocks
from criterium.losses._one_pass import usable

_IN_REGISTERS = 64  # leaders of a row, at most
_CHUNK = 128  # classes whose noise is drawn at a time
_BITS = (1 << 64) - 1


class Leaders:
    """The m largest of the scores seen so far of each row, in descending order, and their classes."""

    def __init__(self, features: Tensor, m: int) -> None:
        """Start with none."""
        self.scores = features.new_full((len(features), m), -math.inf)
        self.classes = features.new_zeros(len(features), m, dtype=torch.long)

    def see(self, scores: Tensor, first: int) -> None:
        """Take note of the scores (N, B) of the classes from `first` on."""
        m = min(self.scores.shape[1], scores.shape[1])
        if usable(scores) and m <= _IN_REGISTERS:
            from criterium.linear import kernels

            new, columns = kernels.block_leaders(scores, m)
            self.merge(new, columns + first, slice(None))
            return
        # Once some blocks have passed, few rows meet a class among their m strongest.
        rows = (scores.amax(dim=1) > self.scores[:, -1]).nonzero().squeeze(1)
        if len(rows) == 0:
            return
        new, columns = scores[rows].topk(m, dim=1)
        self.merge(new, columns + first, rows)

    def merge(self, scores: Tensor, classes: Tensor, rows: Tensor | slice) -> None:
        """Take note of the scores (R, n) of some classes (R, n) for some rows (R,)."""
        best, order = torch.cat([self.scores[rows], scores], dim=1).topk(self.scores.shape[1], dim=1)
        self.scores[rows] = best
        self.classes[rows] = torch.cat([self.classes[rows], classes], dim=1).gather(1, order)

    def of_all(self, layer: OutputLayer) -> Leaders:
        """Return the leaders of the classes of all processes."""
        if not layer.shard.group:
            return self
        everywhere = zip(*map(layer.shard.gather, (self.scores, self.classes)), strict=True)
        leaders = Leaders(self.scores, self.scores.shape[1])
        for scores, classes in everywhere:
            leaders.merge(scores, classes, slice(None))
        return leaders


def find_candidates(features: Tensor, layer: OutputLayer, index: Tensor, m: int) -> Tensor:
    """Return (N, m) classes: of each row its own, then its m - 1 strongest others in descending order."""
    classes: Tensor = _find_candidates(features.detach(), *_detached(layer), index, m, *layer.code)
    return classes


def _detached(layer: OutputLayer) -> tuple[Tensor | None, ...]:
    values = layer.weight, layer.bias, layer.scale
    return tuple(None if value is None else value.detach() for value in values)


@torch.library.custom_op("criterium::linear_candidates", mutates_args=())
def _find_candidates(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    index: Tensor,
    m: int,
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> Tensor:
    layer = OutputLayer.decode(weight, bias, scale, (distance, unit, group, first, classes))
    size = scan.block_size(features)
    leaders = Leaders(features, m - 1)
    places = Places(index.unsqueeze(1), layer, size)
    for part in blocks(layer, size):
        logits = layer.take(part, features.dtype).logits(features)
        logits[places.within(part)] = -math.inf
        leaders.see(logits, layer.first + part.start)
    return torch.cat([index.unsqueeze(1), leaders.of_all(layer).classes], dim=1)


@_find_candidates.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    index: Tensor,
    m: int,
    *code: Any,
) -> Tensor:
    return index.new_empty(index.shape[0], m)


def noised_kth_class(
    features: Tensor,
    layer: OutputLayer,
    k: int,
    epsilon: float,
    samples: int,
    seed: Tensor,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return which class (N, S) is the k-th largest under noise in each sample, and its score then.

    The noise is `noise` (N, C, S) or, without it, that of `noise_of` for `seed`, a whole number in a tensor:
    it depends neither on blocks nor on processes.
    """
    results: tuple[Tensor, Tensor] = _noised_kth_class(
        features.detach(), *_detached(layer), seed, noise, k, epsilon, samples, *layer.code
    )
    return results


@torch.library.custom_op("criterium::linear_noised_kth_class", mutates_args=())
def _noised_kth_class(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    seed: Tensor,
    given: Tensor | None,
    k: int,
    epsilon: float,
    samples: int,
    distance: bool,
    unit: bool,
    group: str,
    first: int,
    classes: int,
) -> tuple[Tensor, Tensor]:
    layer = OutputLayer.decode(weight, bias, scale, (distance, unit, group, first, classes))
    number = int(layer.shard.gather(seed.to(features.device))[0])
    leaders = [Leaders(features, k) for _ in range(samples)]
    for part in blocks(layer, scan.block_size(features)):
        logits = layer.take(part, features.dtype).logits(features)
        start, stop = first + part.start, first + part.stop
        for sample, leader in enumerate(leaders):
            if given is None:
                noise = noise_of(logits, range(start, stop), number, sample)
            else:
                noise = given[:, start:stop, sample].to(logits)
            leader.see(torch.add(logits, noise, alpha=epsilon), start)
    leaders = [leader.of_all(layer) for leader in leaders]
    return (
        torch.stack([leader.classes[:, -1] for leader in leaders], dim=1),
        torch.stack([leader.scores[:, -1] for leader in leaders], dim=1),
    )


@_noised_kth_class.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    seed: Tensor,
    given: Tensor | None,
    k: int,
    epsilon: float,
    samples: int,
    *code: Any,
) -> tuple[Tensor, Tensor]:
    scores = features.new_empty(features.shape[0], samples)
    return torch.empty_like(scores, dtype=torch.long), scores


def noise_of(like: Tensor, classes: range, seed: int, sample: int) -> Tensor:
    """Return normal noise (N, B) of some classes, in the type and on the device of `like` (N, ...).

    Classes come in chunks, and the generator is set anew for each: so the noise of a class is the same in
    whatever block it is asked for, and need not be kept.
    """
    generator = torch.Generator(like.device)
    noise = like.new_empty(len(like), len(classes))
    for chunk in range(classes.start // _CHUNK, -(-classes.stop // _CHUNK)):
        generator.manual_seed(_mixed(seed, sample, chunk))
        drawn = torch.randn(len(like), _CHUNK, generator=generator, dtype=like.dtype, device=like.device)
        start = chunk * _CHUNK
        low, high = max(start, classes.start), min(start + _CHUNK, classes.stop)
        noise[:, low - classes.start : high - classes.start] = drawn[:, low - start : high - start]
    return noise


def _mixed(*numbers: int) -> int:
    """Return 64 bits in which neighbouring numbers do not look alike (the finaliser of SplitMix64)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & _BITS
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _BITS
        mixed ^= mixed >> 31
    return mixed
