"""criterium: published ways of training a classifier, and a fair race between them.

Example:
    >>> import criterium, torch
    >>> criterion = criterium.ExactLoss(temperature=1.0)  # in place of torch.nn.CrossEntropyLoss()
    >>> criterion(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(0.7500)

"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from criterium import functional, heads, sorting
    from criterium.comparison import Study, compare, open_study, resume
    from criterium.losses.complement import ComplementEntropyLoss
    from criterium.losses.exact import ExactLoss
    from criterium.losses.isomax import IsoMaxLoss
    from criterium.losses.noised_topk import NoisedTopKHingeLoss
    from criterium.losses.topk_cross_entropy import TopKCrossEntropyLoss
    from criterium.training import Recipe

__version__ = "0.1.0"

# Imported when first asked for: `criterium --help` need not wait for torch.
_HOMES = {
    "ComplementEntropyLoss": "criterium.losses.complement",
    "ExactLoss": "criterium.losses.exact",
    "IsoMaxLoss": "criterium.losses.isomax",
    "NoisedTopKHingeLoss": "criterium.losses.noised_topk",
    "Recipe": "criterium.training",
    "Study": "criterium.comparison",
    "TopKCrossEntropyLoss": "criterium.losses.topk_cross_entropy",
    "compare": "criterium.comparison",
    "functional": "",
    "heads": "",
    "open_study": "criterium.comparison",
    "resume": "criterium.comparison",
    "sorting": "",
}

__all__ = [
    "ComplementEntropyLoss",
    "ExactLoss",
    "IsoMaxLoss",
    "NoisedTopKHingeLoss",
    "Recipe",
    "Study",
    "TopKCrossEntropyLoss",
    "__version__",
    "compare",
    "functional",
    "heads",
    "open_study",
    "resume",
    "sorting",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    return (
        getattr(importlib.import_module(home), name) if home else importlib.import_module(f"criterium.{name}")
    )


def __dir__() -> list[str]:
    return sorted(__all__)
