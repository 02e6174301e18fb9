"""Functions of rows as operators: one node for a compiler, which could not follow what is inside."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Pair = tuple[Tensor, Tensor]


def vectorised(operator: Any) -> None:
    """Give an operator of ``(N, C)`` numbers, and options, its rule under vmap: more rows."""

    def rule(
        info: Any, in_dims: tuple[int, ...], table: Tensor, *options: Any
    ) -> tuple[Pair, tuple[int, int]]:
        tables = table.movedim(in_dims[0], 0)
        first, second = operator(tables.flatten(0, 1), *options)
        return (first.reshape(tables.shape[:2]), second.reshape(tables.shape)), (0, 0)

    operator.register_vmap(rule)
