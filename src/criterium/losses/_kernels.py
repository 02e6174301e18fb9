"""Losses of rows of logits and their derivative in one pass over memory, by Triton.

What is computed is said by the loss files, which choose by device through `_one_pass.py`. That imports this
file, and it Triton, only when the first logits on a GPU arrive.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import Any

import torch
from torch import Tensor

_AT_ONCE = 1 << 14  # classes up to which a row is kept in registers, and read once
_BLOCK = 1 << 13  # classes of a longer row that are read at once
SKIPPED_INDEX = -(1 << 62)
"""The index of a row that does not count, whatever its logits hold."""
_TILE = 1 << 9  # logits that a program has at least: of short rows it takes several

if importlib.util.find_spec("triton") is not None:
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")

    # Where the largest logit starts: as `complement.absent`, far below all but with a finite square.
    SKIPPED = tl.constexpr(SKIPPED_INDEX)
    ABSENT = tl.constexpr(-math.sqrt(torch.finfo(torch.float32).max))

    @triton.jit
    def read(first, shift, own_class, here, column, classes, base, scale, SHIFT: tl.constexpr):
        """Return a block of the wrong classes' logits less `base`, −inf elsewhere, and where they are."""
        inside = here & (column < classes)[None, :]
        x = tl.load(first + column[None, :], mask=inside, other=float("-inf")).to(tl.float32)
        x = (x - base) * scale
        if SHIFT:
            x += tl.load(shift + column, mask=column < classes, other=0.0)[None, :]
        wrong = inside & (column[None, :] != own_class)
        return tl.where(wrong, x, float("-inf")), wrong

    @triton.jit
    def accumulate(x, top, total, moment, MOMENT: tl.constexpr):
        """Bring a block into the largest logit, Σ e^z and Σ e^z z of each row, z the logits less it."""
        new = tl.maximum(top, tl.max(x, axis=1, keep_dims=True))
        shift = top - new
        factor = tl.exp(shift)
        z = x - new
        e = tl.exp(z)
        if MOMENT:
            # Where e is zero z may be infinite.
            product = e * tl.where(z == float("-inf"), 0.0, z)
            moment = (moment + total * shift) * factor + tl.sum(product, axis=1, keep_dims=True)
        total = total * factor + tl.sum(e, axis=1, keep_dims=True)
        return new, total, moment

    @triton.jit
    def _see(x, wrong, own, top, total, moment, spread, ties, MOMENT: tl.constexpr, SPREAD: tl.constexpr):
        """Do as `accumulate`, and bring the block into Σ (s_j − s_y) and the number of largest logits."""
        new, total, moment = accumulate(x, top, total, moment, MOMENT)
        if SPREAD:
            spread += tl.sum(tl.where(wrong, x - own, 0.0), axis=1, keep_dims=True)
            largest = tl.sum((x == new).to(tl.float32), axis=1, keep_dims=True)
            ties = tl.where(new == top, ties, 0.0) + largest
        return new, total, moment, spread, ties

    @triton.jit
    def _finish(own, top, total, moment, spread, ties, option, share, LOSS: tl.constexpr):
        """Return the loss, its derivative by the own logit, and what gives that by each wrong one.

        With P the softmax of the wrong classes: slope · P_j, or slope · P_j (z_j − centre) of a loss with a
        moment; and for one with a spread flat on top, and peak where a logit is the largest.
        """
        # log of (1 − p_y) / p_y; nothing is formed by subtraction from one.
        odds = (top - own) + tl.log(total)
        tail = tl.exp(-tl.abs(odds))
        missed = tl.where(odds < 0, tail, 1.0) / (1 + tail)
        hit = tl.where(odds < 0, 1.0, tail) / (1 + tail)
        # log(1 + tail), with the digits that 1 + tail has lost.
        more = 1 + tail
        kept = tl.where(more == 1, 1.0, more - 1)
        bend = tl.where(more == 1, tail, tl.log(more) * (tail / kept))
        nll = tl.maximum(odds, 0.0) + bend

        loss = nll
        own_slope = -missed
        slope = missed
        centre = tl.zeros_like(nll)
        flat = tl.zeros_like(nll)
        peak = tl.zeros_like(nll)
        if LOSS == "focal":
            power = tl.exp(option * (tl.minimum(odds, 0.0) - bend))
            loss = power * nll
            slope = power * (missed + option * hit * nll)
            own_slope = -slope
        elif LOSS == "poly1":
            loss = nll + option * missed
            slope = missed * (1 + option * hit)
            own_slope = -slope
        elif LOSS == "label_smoothing":
            loss = nll - option * share * spread
            own_slope = option * (1 - share) - missed
            flat -= option * share
        elif LOSS == "maxsup":
            number = tl.where(own > top, 0.0, ties) + tl.where(own < top, 0.0, 1.0)
            loss = nll + option * (tl.maximum(top - own, 0.0) - share * spread)
            own_slope = tl.where(own < top, 0.0, option / number) - missed - option * share
            flat -= option * share
            peak = tl.where(own > top, 0.0, option / number)
        elif LOSS == "complement":
            centre = moment / total
            loss = share * (centre - tl.log(total))
            own_slope = tl.zeros_like(nll)
            slope = tl.zeros_like(nll) + share
        elif LOSS == "guided_complement":
            mean = moment / total
            entropy = tl.log(total) - mean
            slope = share * tl.exp(-option * nll)
            pull = -option * missed * entropy
            loss = -slope * entropy
            own_slope = slope * pull
            centre = mean + pull
        return loss, own_slope, slope, centre, flat, peak

    @triton.jit
    def _slope(
        x,
        own_class,
        column,
        top,
        chance,
        centre,
        flat,
        peak,
        own_slope,
        MOMENT: tl.constexpr,
        SPREAD: tl.constexpr,
    ):
        z = x - top
        slope = tl.exp(z) * chance
        if MOMENT:
            slope *= tl.where(z == float("-inf"), 0.0, z - centre)
        if SPREAD:
            slope += flat + tl.where(z == 0, peak, 0.0)
        return tl.where(column[None, :] == own_class, own_slope, slope)

    @triton.jit(do_not_specialize=["count"])
    def _losses(
        logits,
        target,
        shift,
        margin,
        losses,
        slopes,
        count,
        option,
        share,
        scale,
        CLASSES: tl.constexpr,
        LOSS: tl.constexpr,
        SHIFT: tl.constexpr,
        MARGIN: tl.constexpr,
        SLOPE: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        MOMENT: tl.constexpr = (LOSS == "complement") or (LOSS == "guided_complement")
        SPREAD: tl.constexpr = (LOSS == "label_smoothing") or (LOSS == "maxsup")
        row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        here = row < count
        first = logits + row * CLASSES
        own_class = tl.load(target + row, mask=here, other=0)
        # An index that is no class makes its row NaN, but for the one of rows that do not count.
        skipped = own_class == SKIPPED
        known = here & (own_class >= 0) & (own_class < CLASSES)
        own = tl.load(first + own_class, mask=known, other=float("nan")).to(tl.float32)
        column = tl.arange(0, BLOCK)
        # The first block stays in registers until its derivative is written.
        x, wrong = read(first, shift, own_class, here, column, CLASSES, 0.0, 1.0, False)
        # Differences to the largest logit, if it is there, keep the digits of logits that are far from 0.
        # Infinity less itself is NaN, and so is the row.
        base = tl.maximum(tl.max(x, axis=1, keep_dims=True), own)
        base = tl.where(base == float("-inf"), 0.0, base)
        own = (own - base) * scale
        x = (x - base) * scale
        if SHIFT:
            own += tl.load(shift + own_class, mask=known, other=0.0)
            x += tl.load(shift + column, mask=column < CLASSES, other=0.0)[None, :]
        if MARGIN:
            own -= tl.load(margin + own_class, mask=known, other=0.0)

        total = tl.zeros((ROWS, 1), dtype=tl.float32)
        top, total, moment, spread, ties = _see(
            x, wrong, own, total + ABSENT, total, total, total, total, MOMENT, SPREAD
        )
        for start in range(BLOCK, CLASSES, BLOCK):
            later, wrong = read(first, shift, own_class, here, column + start, CLASSES, base, scale, SHIFT)
            top, total, moment, spread, ties = _see(
                later, wrong, own, top, total, moment, spread, ties, MOMENT, SPREAD
            )
        # Without a wrong class that counts, as with one that is absent.
        total = tl.where(total == 0, 1.0, total)

        loss, own_slope, slope, centre, flat, peak = _finish(
            own, top, total, moment, spread, ties, option, share, LOSS
        )
        # Not each loss looks at the own logit.
        factor = tl.where(own != own, float("nan"), 1.0)
        own_slope *= factor
        slope *= factor
        tl.store(losses + row, tl.where(skipped, 0.0, loss * factor), mask=here)
        if SLOPE:
            chance = slope / total * scale
            own_slope *= scale
            place = slopes + row * CLASSES
            block_slope = _slope(
                x, own_class, column, top, chance, centre, flat, peak, own_slope, MOMENT, SPREAD
            )
            block_slope = tl.where(skipped, 0.0, block_slope)
            tl.store(place + column[None, :], block_slope, mask=here & (column < CLASSES)[None, :])
            for start in range(BLOCK, CLASSES, BLOCK):
                more = column + start
                later, _ = read(first, shift, own_class, here, more, CLASSES, base, scale, SHIFT)
                block_slope = _slope(
                    later, own_class, more, top, chance, centre, flat, peak, own_slope, MOMENT, SPREAD
                )
                block_slope = tl.where(skipped, 0.0, block_slope)
                tl.store(place + more[None, :], block_slope, mask=here & (more < CLASSES)[None, :])


def tiles(classes: int, at_once: int = _AT_ONCE, block: int = _BLOCK) -> dict[str, int]:
    """Return rows and classes of a program, and its warps."""
    size = max(16, 1 << (classes - 1).bit_length()) if classes <= at_once else block
    rows = max(1, _TILE // size)
    return {"ROWS": rows, "BLOCK": size, "num_warps": min(16, max(4, rows * size // 512))}


def losses(
    logits: Tensor,
    target: Tensor,
    loss: str,
    option: float,
    *,
    scale: float = 1.0,
    shift: Tensor | None = None,
    margin: Tensor | None = None,
    slope: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the float32 (M,) losses, and their (M, C) derivative in the type of `logits`.

    Args:
        logits: (M, C), float32, bfloat16 or float16.
        target: (M,) int64 class indices; a row whose index is no class is NaN, one of `SKIPPED_INDEX` 0.
        loss: "cross_entropy", "focal", "poly1", "label_smoothing", "maxsup", "complement" or
            "guided_complement".
        option: the loss's own γ, ε or α.
        scale: above 0; the loss is that of the logits scale · s_j + shift_j, with margin_y taken off the own.
        shift: (C,) float32.
        margin: (C,) float32.
        slope: without, the second result is empty and not to be used.
    """
    logits, target = logits.contiguous(), target.contiguous()
    count, classes = logits.shape
    values = logits.new_empty(count, dtype=torch.float32)
    slopes = torch.empty_like(logits) if slope else logits.new_empty(0)
    share = 1 / math.log(max(classes, 2)) if loss == "guided_complement" else 1 / classes
    if count:
        tile = tiles(classes)
        with torch.cuda.device_of(logits):
            _losses[(triton.cdiv(count, tile["ROWS"]),)](
                logits,
                target,
                logits if shift is None else shift.contiguous(),
                logits if margin is None else margin.contiguous(),
                values,
                slopes,
                count,
                float(option),
                share,
                float(scale),
                CLASSES=classes,
                LOSS=loss,
                SHIFT=shift is not None,
                MARGIN=margin is not None,
                SLOPE=slope,
                **tile,
            )
    return values, slopes
