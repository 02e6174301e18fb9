"""Numbers from the papers' own code: `tests/golden/index-*.json` says what is in the `.npz` beside it.

An index is ``{"cases": [{"id", "objective", "file", "params", "tolerance", "notes"}, ...]}``; the arrays
of a case lie in its file under ``"<case id>/<array name>"``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    """One stored case; `arrays` reads its file when first asked for."""

    id: str
    objective: str
    file: str
    params: dict[str, Any]
    tolerance: dict[str, Any]
    notes: str = ""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return _arrays(self.file)[self.id]


def cases(objective: str) -> list[Case]:
    """Return the cases of one objective in all index files, in their order; at least one."""
    found = [Case(**row) for row in _rows() if row["objective"] == objective]
    if not found:
        raise ValueError(f"objective: got {objective!r}, which no tests/golden/index-*.json holds")
    return found


def value_and_gradient(
    call: Callable[[Tensor], Tensor], logits: Tensor, upstream: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `call` makes of logits, and the gradient in them."""
    leaf = logits.detach().clone().requires_grad_()
    loss = call(leaf)
    loss.backward(torch.ones_like(loss) if upstream is None else upstream.to(loss))
    return loss.detach(), leaf.grad


def assert_stored(case: Case, name: str, found: Tensor, share: float = 1e-5, floor: float = 0.0) -> None:
    """Hold `found` to the array `name`: in float64 within the case's own tolerance.

    In float32 values have a relative error of 1e-5, gradients one of `share` of the largest; and `floor`.
    """
    stored, kind = case.arrays[name], "grad" if name.startswith("grad") else "loss"
    if found.dtype == torch.float64:
        rounding = 1e-6 if stored.dtype == np.float32 else 0.0
        relative, absolute = case.tolerance[f"{kind}_rtol"] + rounding, case.tolerance[f"{kind}_atol"]
    elif kind == "grad":
        relative, absolute = 0.0, share * np.abs(stored).max() + floor
    else:
        relative, absolute = 1e-5, floor
    np.testing.assert_allclose(found.detach().numpy(), stored, relative, absolute, err_msg=name)


@functools.cache
def _rows() -> list[dict[str, Any]]:
    indices = sorted(FOLDER.glob("index-*.json"))
    return [row for index in indices for row in json.loads(index.read_text(encoding="utf-8"))["cases"]]


@functools.cache
def _arrays(file: str) -> dict[str, dict[str, np.ndarray]]:
    by_case: dict[str, dict[str, np.ndarray]] = {}
    with np.load(FOLDER / file, allow_pickle=False) as stored:
        for key in stored.files:
            case, _, name = key.rpartition("/")
            by_case.setdefault(case, {})[name] = stored[key]
    return by_case
