"""What accumulators and leaders do with a block of logits, in one pass over memory, by Triton.

The references are `accumulators.Softmax` and `candidates.Leaders`, which import this file for logits on a
GPU.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from criterium.losses._kernels import tiles

_BLOCK = 1 << 13  # logits read at once
_PART = 1 << 11  # logits that a program overwrites, or looks through at once

if importlib.util.find_spec("triton") is not None:
    from criterium.losses._kernels import ABSENT, accumulate, read, tl, triton

    @triton.jit(do_not_specialize=["count"])
    def _sums(
        logits,
        hidden,
        tops,
        totals,
        moments,
        count,
        classes,
        stride,
        MOMENT: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        here = row < count
        first = logits + row * stride
        own_class = tl.load(hidden + row, mask=here, other=-1)
        total = tl.zeros((ROWS, 1), dtype=tl.float32)
        top = total + ABSENT
        moment = total
        for start in range(0, classes, BLOCK):
            column = start + tl.arange(0, BLOCK)
            x, _ = read(first, first, own_class, here, column, classes, 0.0, 1.0, False)
            top, total, moment = accumulate(x, top, total, moment, MOMENT)
        tl.store(tops + row, top, mask=here)
        tl.store(totals + row, tl.where(total == 0, 1.0, total), mask=here)
        if MOMENT:
            tl.store(moments + row, moment, mask=here)

    @triton.jit(do_not_specialize=["count"])
    def _chances(
        logits,
        hidden,
        log_sum,
        u,
        entropy,
        v,
        count,
        classes,
        stride,
        MOMENT: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        here = row < count
        first = logits + row * stride
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        own_class = tl.load(hidden + row, mask=here, other=-1)
        x, _ = read(first, first, own_class, here, column, classes, 0.0, 1.0, False)
        log_chance = x - tl.load(log_sum + row, mask=here, other=0.0)
        slope = tl.exp(log_chance)
        pull = tl.load(u + row, mask=here, other=0.0)
        if MOMENT:
            excess = log_chance - tl.load(entropy + row, mask=here, other=0.0)
            excess = tl.where(x == float("-inf"), 0.0, excess)
            pull += tl.load(v + row, mask=here, other=0.0) * excess
        slope *= pull
        tl.store(first + column[None, :], slope, mask=here & (column < classes)[None, :])

    @triton.jit
    def _leaders(
        scores,
        values,
        places,
        classes,
        stride,
        m,
        SLOTS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        row = tl.program_id(0).to(tl.int64)
        slot = tl.arange(0, SLOTS)
        # In no order; slots beyond m are never the least.
        kept = tl.where(slot < m, float("-inf"), float("inf"))
        where = tl.zeros((SLOTS,), dtype=tl.int32)
        least = tl.min(kept, axis=0)
        for start in range(0, classes, BLOCK):
            column = start + tl.arange(0, BLOCK)
            x = tl.load(scores + row * stride + column, mask=column < classes, other=float("-inf"))
            x = x.to(tl.float32)
            best = tl.max(x, axis=0)
            while best > least:
                leader = tl.min(tl.where(x == best, column, classes), axis=0)
                # Of equal ones the last to be dropped is the one in the lowest column.
                dropped = tl.max(tl.where(kept == least, where * SLOTS + slot, -1), axis=0) % SLOTS
                where = tl.where(slot == dropped, leader, where)
                kept = tl.where(slot == dropped, best, kept)
                x = tl.where(column == leader, float("-inf"), x)
                least = tl.min(kept, axis=0)
                best = tl.max(x, axis=0)
        kept = tl.where(slot < m, kept, float("-inf"))
        for rank in range(m):
            best = tl.max(kept, axis=0)
            leader = tl.min(tl.where(kept == best, where, classes), axis=0)
            tl.store(values + row * m + rank, best)
            tl.store(places + row * m + rank, tl.where(best == float("-inf"), 0, leader))
            kept = tl.where((kept == best) & (where == leader), float("-inf"), kept)


def softmax_sums(logits: Tensor, hidden: Tensor, entropy: bool) -> tuple[Tensor, ...]:
    """Return the largest logit, Σ e^z and, with `entropy`, Σ e^z z of each row, z the logits less it.

    Args:
        logits: (N, B), B at least 1, whose rows are contiguous.
        hidden: (N,) column of a logit that does not count, or −1.
        entropy: whether the third is wanted.

    Returns:
        Two or three float32 tensors (N,). Where no logit counts they are a logit that is far below all
        others, 1 and 0.
    """
    count, classes = logits.shape
    parts = tuple(logits.new_empty(count, dtype=torch.float32) for _ in range(3 if entropy else 2))
    if count:
        tile = tiles(classes, at_once=_BLOCK)
        with torch.cuda.device_of(logits):
            _sums[(triton.cdiv(count, tile["ROWS"]),)](
                logits,
                hidden.contiguous(),
                parts[0],
                parts[1],
                parts[-1],
                count,
                classes,
                logits.stride(0),
                MOMENT=entropy,
                **tile,
            )
    return parts


def softmax_slope_(
    logits: Tensor,
    hidden: Tensor,
    log_sum: Tensor,
    u: Tensor,
    entropy: Tensor | None = None,
    v: Tensor | None = None,
) -> Tensor:
    """Overwrite the logits with P (u + v (log P − entropy)), P = exp(logits − log_sum); 0 at the hidden one.

    That is the derivative of u log Σ exp s + v Σ P log P by each s; without `entropy` and `v`, of the first.
    """
    count, classes = logits.shape
    if logits.numel():
        tile = tiles(classes, at_once=_PART, block=_PART)
        grid = triton.cdiv(count, tile["ROWS"]), triton.cdiv(classes, tile["BLOCK"])
        with torch.cuda.device_of(logits):
            _chances[grid](
                logits,
                hidden.contiguous(),
                log_sum.contiguous(),
                u.contiguous(),
                u if entropy is None else entropy.contiguous(),
                u if v is None else v.contiguous(),
                count,
                classes,
                logits.stride(0),
                MOMENT=entropy is not None and v is not None,
                **tile,
            )
    return logits


def block_leaders(scores: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Return the m largest scores of each row in descending order, and their columns, the lower first.

    Scores of minus infinity do not lead; where fewer than m do, the rest is minus infinity in column 0.

    Args:
        scores: (N, B), whose rows are contiguous.
        m: from 1 to B.

    Returns:
        (N, m) values of the type of the scores, and (N, m) int64 columns.
    """
    count, classes = scores.shape
    values = scores.new_empty(count, m)
    columns = scores.new_empty(count, m, dtype=torch.long)
    if values.numel():
        block = min(_PART, max(16, 1 << (classes - 1).bit_length()))
        with torch.cuda.device_of(scores):
            _leaders[(count,)](
                scores,
                values,
                columns,
                classes,
                scores.stride(0),
                m,
                SLOTS=1 << (m - 1).bit_length(),
                BLOCK=block,
                num_warps=4,
            )
    return values, columns
