"""Settings for every test; pytest puts this folder on `sys.path`, so ``from goldens import cases`` works."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

from goldens import Case

# A comparison in a test takes one core: it may share the machine with other work.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
# Small tensors are faster on one thread, and tests may share the machine's cores with other work.
torch.set_num_threads(1)
# The time of one example says more about the machine than about the code; the same examples every time.
settings.register_profile("criterium", deadline=None, derandomize=True)
settings.load_profile("criterium")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a parametrised test after its golden case."""
    return val.id if isinstance(val, Case) else None
