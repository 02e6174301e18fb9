"""Every example in the documentation runs and says what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import criterium

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(criterium.__path__, "criterium.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["criterium", *MODULES])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_the_loop_in_the_readme_runs() -> None:
    loop, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert 8 <= len(loop.strip().splitlines()) <= 12
    scope: dict[str, object] = {}
    exec(compile(loop, "README.md", "exec"), scope)
    assert torch.isfinite(scope["model"].weight).all()  # type: ignore[attr-defined]


def test_every_public_function_has_its_module_and_its_examples() -> None:
    for name in criterium.functional.__all__:
        function = getattr(criterium.functional, name)
        assert ">>> " in function.__doc__, name
    modules = {name.lower() for name in criterium.__all__ if name.endswith("Loss")}
    # A probability, class weights, and DisMax: a loss of the halves of a batch, and what mixes a batch.
    others = {"expected_accuracy", "effective_number_weight", "fractional_probability_loss"}
    others |= {"mix_quadrants", "mixed_targets"}
    for name in set(criterium.functional.__all__) - others:
        assert f"{name.removesuffix('_loss').replace('_', '')}loss" in modules, name


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
