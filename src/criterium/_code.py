"""Code of the user's own, named by a Python path and imported; code that lies in a run folder never is."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from criterium._files import run_folder_of


def imported(argument: str, path: str, like: str) -> Any:
    """Return what ``"pkg.module:name"`` names; `like` is an example for who writes it otherwise.

    Modules are looked for where Python does, and then in the current folder.

    Raises:
        ValueError: there is no such thing, importing it fails, or it lies in a run folder: those are passed
            around, and looking at one must not run what somebody put there.

    """
    name, _, attribute = path.partition(":")
    if not attribute or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{argument}: got {path!r}, expected a Python path like {like!r}")
    module = _module(argument, path, name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        try:
            return functools.reduce(getattr, attribute.split("."), module)
        except AttributeError:
            raise ValueError(f"{argument}: {path}: module {name} has no attribute {attribute!r}") from None


def _module(argument: str, path: str, name: str) -> ModuleType:
    importlib.invalidate_caches()  # a notebook may have written the file a moment ago
    parts = name.split(".")
    try:
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            there = sys.modules.get(part)
            if part == "__main__" or (there is not None and there.__spec__ is None):
                raise _Refused(
                    "was made in a notebook or a script, where no name leads: give the object itself"
                )
            if there is None:
                _refuse_run_folders(_spec(part))
            module = importlib.import_module(part)
    except _Refused as error:
        raise ValueError(f"{argument}: {path}: {error}") from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"{argument}: {path}: importing {name} raised {first_line(error)}") from error
    return module


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module is; an installed command does not look in the folder where it is run."""
    spec, here = importlib.util.find_spec(name), str(Path.cwd())
    if spec is None and here not in sys.path:
        sys.path.append(here)
        spec = importlib.util.find_spec(name)
    return spec


class _Refused(Exception):
    pass


def _refuse_run_folders(spec: ModuleSpec | None) -> None:
    """Raise if the module would come from a run folder."""
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    for place in filter(None, places):
        if (folder := run_folder_of(place)) is not None:
            raise _Refused(f"lies in the run folder {folder}, from which nothing is imported")


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its words."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
