"""A room imports only from lower ones, and nothing imports in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"

ROOMS = (
    (
        "_checks.py",
        "_values.py",
        "_files.py",
        "_code.py",
        "_lazy.py",
        "_version.py",
        "_signals.py",
        "_sealed.py",
    ),
    ("order_statistics/",),
    ("sorting/",),
    ("losses/",),
    ("heads.py",),
    ("functional.py",),
    ("linear/",),
    ("objectives/",),
    ("techniques/",),
    ("data/",),
    ("models/",),
    ("evaluation/",),
    ("training/",),
    ("statistics/",),
    ("report/",),
    ("judging/",),
    ("engine/",),
    ("comparison/",),
    ("architecture_search/",),
    ("__init__.py", "_messages.py", "_visible.py", "_data_options.py", "terminal.py", "cli.py"),
)
"""From the ground up; the table of docs/architecture.md says the same."""


def modules(src: Path) -> dict[str, Path]:
    """Return the file of each module by its name."""
    return {
        ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(src.rglob("*.py"))
    }


def imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import, in functions too, but for those that only type checkers see.

    Names that are imported when asked for are values of a dictionary, or handed to `import_module`.
    """
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for child in node.orelse:
            yield from imports(child)
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports are not used"
        yield from ((node.module or "", alias.name) for alias in node.names)
    elif isinstance(node, ast.Dict) or (isinstance(node, ast.Call) and "import_module" in ast.unparse(node)):
        parts = node.values if isinstance(node, ast.Dict) else node.args
        strings = (part.value for part in parts if isinstance(part, ast.Constant))
        yield from ((string, "") for string in strings if isinstance(string, str))
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def graph(src: Path) -> dict[str, set[str]]:
    """Return which modules of ours each module imports."""
    files = modules(src)
    edges: dict[str, set[str]] = {}
    for module, path in files.items():
        pairs = imports(ast.parse(path.read_text(encoding="utf-8")))
        named = {f"{home}.{name}" if f"{home}.{name}" in files else home for home, name in pairs}
        edges[module] = {name for name in named if name in files} - {module}
    return edges


def room(module: str) -> str:
    """Return the room that a module is in, as `ROOMS` writes it."""
    _, _, inside = module.partition(".")
    name = inside.split(".")[0] or "__init__"
    return f"{name}/" if (SRC / "criterium" / name).is_dir() else f"{name}.py"


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Return the imports that lead to a higher room."""
    floor = {name: number for number, row in enumerate(ROOMS) for name in row}
    return [
        f"{module} imports {other}"
        for module, others in edges.items()
        for other in sorted(others)
        if floor[room(other)] > floor[room(module)]
    ]


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in modules(SRC)} == {name for row in ROOMS for name in row}


def test_a_room_imports_only_from_lower_ones() -> None:
    assert upward(graph(SRC)) == []


def test_nothing_imports_in_a_circle() -> None:
    TopologicalSorter(graph(SRC)).prepare()  # raises, and names the circle


def test_the_page_shows_the_same_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (table,) = (part for part in page.split("\n\n") if part.startswith("| room |"))
    rows = (line.split("|")[1] for line in table.splitlines()[2:])
    assert tuple(tuple(re.findall(r"`([^`]+)`", row)) for row in rows) == ROOMS


@pytest.mark.parametrize(
    "line",
    [
        "import criterium.comparison.race",
        "from criterium.comparison import race",
        "def later():\n    from criterium.comparison.race import compare",
        "_HOMES = {'race': 'criterium.comparison.race'}",
        "import importlib\nrace = importlib.import_module('criterium.comparison.race')",
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, line: str) -> None:
    for name, text in (("losses/focal.py", line), ("comparison/race.py", "import criterium.losses.focal")):
        path = tmp_path / "criterium" / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    edges = graph(tmp_path)
    assert upward(edges) == ["criterium.losses.focal imports criterium.comparison.race"]
    with pytest.raises(ValueError, match="cycle"):
        TopologicalSorter(edges).prepare()


def test_what_only_type_checkers_import_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "criterium" / "losses"
    path.mkdir(parents=True)
    (path / "focal.py").write_text("if TYPE_CHECKING:\n    import criterium.losses.hinge\n", encoding="utf-8")
    (path / "hinge.py").write_text("", encoding="utf-8")
    assert graph(tmp_path)["criterium.losses.focal"] == set()
