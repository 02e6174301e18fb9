"""Names that are imported when they are first asked for: `criterium --help` need not wait for torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of `package`: a name is in the module ``homes[name]``, or is that module.

    Type checkers and editors must not see it, since every misspelt name would be right to them: they are
    shown real imports under ``if TYPE_CHECKING``, and ``__getattr__`` is set in the branch that they skip.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = importlib.import_module(homes[name])
        return home if homes[name].endswith(f".{name}") else getattr(home, name)

    return attribute
