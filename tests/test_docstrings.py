"""Docstrings of public names have one form: the same sections, in the same order."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import FunctionType

import pytest

import criterium

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Reference", "Deviations")
OTHER_NAMES = re.compile(
    r"^\W?(Arguments|Parameters|Examples|Usage|Papers?|References|Notes?|See also)\b[^.]{0,20}:"
    r"|^\W?Deviations?\W? ?\w*[^.\n]*:.+|^\*Deviations?\*",
    re.MULTILINE,
)
ROOMS = (
    "evaluation",
    "functional",
    "heads",
    "linear",
    "losses",
    "objectives",
    "order_statistics",
    "sorting",
    "techniques",
)


def public() -> Iterator[tuple[str, type | FunctionType]]:
    for found in pkgutil.walk_packages(criterium.__path__, "criterium."):
        if not found.name.removeprefix("criterium.").startswith(ROOMS) or "._" in found.name:
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            ours = not name.startswith("_") and getattr(value, "__module__", "") == found.name
            if ours and isinstance(value, type | FunctionType):
                yield f"{found.name}.{name}", value


def faults(docstring: str) -> list[str]:
    """Return what is not as the form has it."""
    sections = [name for name in re.findall(r"^(\w+):$", docstring, re.MULTILINE) if name in SECTIONS]
    wrong = [match[0] for match in OTHER_NAMES.finditer(docstring)]
    wrong += re.findall(rf"^(?:{'|'.join(SECTIONS)}): .*", docstring, re.MULTILINE)
    if sections != sorted(set(sections), key=SECTIONS.index):
        wrong.append(f"order: {', '.join(sections)}")
    if ">>> " in docstring and "Example" not in sections:
        wrong.append("an example without its section")
    if sections and not docstring.split("\n")[0].endswith((".", ":")):
        wrong.append("the first line is no sentence")
    return wrong


def test_sections_have_one_name_and_order() -> None:
    assert {name: wrong for name, value in public() if (wrong := faults(inspect.getdoc(value) or ""))} == {}


def test_every_loss_has_an_example_and_names_its_paper() -> None:
    for name in criterium.functional.__all__:
        text = getattr(criterium.functional, name).__doc__
        assert all(
            f"\n    {section}:\n" in text for section in ("Args", "Returns", "Example", "Reference")
        ), name


@pytest.mark.parametrize(
    "docstring",
    [
        "Do it.\n\nPaper: somebody, 2020.",
        "Do it.\n\n*Deviations*: none.",
        "Do it.\n\nDeviations from the authors' code: none.",
        "Do it.\n\nReference: somebody, 2020.",
        "Do it.\n\n>>> 1 + 1\n2",
        "Do it.\n\nReturns:\n    It.\n\nArgs:\n    x: that.",
        "Do it.\n\nExamples:\n    >>> 1 + 1\n    2",
    ],
)
def test_other_forms_are_found(docstring: str) -> None:
    assert faults(docstring)
