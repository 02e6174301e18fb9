"""What an editor knows: every public name with its signature, by mypy and by pyright."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import criterium

TESTS = Path(__file__).parent
SOURCE = str(Path(criterium.__file__).parents[1])
# pyright looks for packages by the first Python in PATH.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "MYPYPATH": SOURCE, "PATH": PATH}
Found = list[tuple[str, int, str, str]]
"""File, line, "error" or "note", and the words."""


def mypy(files: Sequence[Path]) -> Found:
    options = ["--config-file", str(TESTS.parent / "pyproject.toml"), "--output", "json"]
    rows = [json.loads(line) for line in output("mypy", *options, *map(str, files)).splitlines()]
    return [(Path(row["file"]).name, row["line"], row["severity"], row["message"]) for row in rows]


def pyright(files: Sequence[Path]) -> Found:
    rows = json.loads(output("basedpyright", "--outputjson", *map(str, files)))["generalDiagnostics"]
    kinds = {"error": "error", "information": "note"}
    return [
        (Path(row["file"]).name, row["range"]["start"]["line"] + 1, kinds[row["severity"]], row["message"])
        for row in rows
        if row["severity"] in kinds
    ]


def output(tool: str, *words: str) -> str:
    command = [sys.executable, "-m", tool, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=TESTS.parent)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def revealed(words: str) -> str:
    """Return the type that a note reveals, without the modules it is from; "" if it reveals none."""
    found = re.match(r'(?:Revealed type|Type of ".*?") is "(.*)"$', words, flags=re.DOTALL)
    return "" if found is None else re.sub(r"\b[a-z_]\w*\.(?=\w)", "", found[1])


def rooms() -> Iterable[tuple[str, ModuleType]]:
    yield "criterium", criterium
    for name in criterium.__all__:
        value = getattr(criterium, name)
        if isinstance(value, ModuleType):
            yield f"criterium.{name}", value


def public() -> list[tuple[str, Any]]:
    return [(f"{room}.{name}", getattr(module, name)) for room, module in rooms() for name in module.__all__]


@pytest.fixture(scope="module")
def every_name(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that reveals every public name, and calls what can be called with a wrong keyword."""
    lines = ["from typing import reveal_type", "import criterium"]
    for name, value in public():
        if isinstance(value, ModuleType):
            continue
        lines.append(f"reveal_type({name})")
        if inspect.isroutine(value) or inspect.isclass(value):
            lines.append(f"{name}(no_such_option=1)")
    path = tmp_path_factory.mktemp("user") / "every_name.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_user_sees_every_name_with_its_signature(checker: Any, every_name: Path) -> None:
    users = TESTS / "users_file.py"
    found = checker([users, every_name])
    for path in (users, every_name):
        rows = [row[1:] for row in found if row[0] == path.name]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            place = f"{checker.__name__}, {path.name}:{number}: {line}"
            errors = [words for at, kind, words in rows if (at, kind) == (number, "error")]
            notes = [words for at, kind, words in rows if (at, kind) == (number, "note")]
            if "no_such_option" in line:
                assert any("no_such_option" in words for words in errors), (place, errors)
            else:
                assert bool(errors) == line.endswith("# error"), (place, errors)
            if line.startswith("reveal_type"):
                (shown,) = (kind for words in notes if (kind := revealed(words)))
                assert not re.search(r"\bUnknown\b|^Any$", shown), (place, shown)
                assert (line.partition("# reveals ")[2] or shown) == shown, (place, shown)


def test_no_public_name_has_an_unknown_type() -> None:
    counts = json.loads(
        output("basedpyright", "--verifytypes", "criterium", "--ignoreexternal", "--outputjson")
    )
    known = counts["typeCompleteness"]["exportedSymbolCounts"]
    assert known["withUnknownType"] == 0
    assert known["withKnownType"] > 1000


def test_rooms_and_objectives_are_complete() -> None:
    from criterium.objectives import OBJECTIVES

    for room, module in rooms():
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert not missing, (room, missing)
    exported = set(map(id, vars(criterium.objectives).values()))
    assert [name for name, kind in OBJECTIVES.items() if id(kind) not in exported] == []
    assert {kind.__name__ for kind in OBJECTIVES.values()} <= set(criterium.objectives.__all__)


def test_keywords_of_load_are_the_fields_of_a_source() -> None:
    from criterium.data.sources import Source, SourceOptions

    assert {"data", *SourceOptions.__annotations__} == {field.name for field in dataclasses.fields(Source)}
