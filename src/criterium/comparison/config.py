"""What `config.json` of a comparison holds, read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from criterium._files import read_json, write_json
from criterium._sealed import hash_of
from criterium._version import __version__
from criterium.comparison.made import check_made
from criterium.comparison.plan import Plan

_DATA = {"name", "classes", "rows", "hashes", "notes"}


def write_config(root: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json`, sealed but for where the data lie and how many runs there are at a time."""
    write_json(root / "config.json", {**config, "seal": _seal(config)})


def _seal(config: Mapping[str, Any]) -> str:
    free = {"source", "jobs", "threads"}  # the data are known by their hashes
    setup = {name: value for name, value in config["plan"]["setup"].items() if name not in free}
    plan = {**config["plan"], "setup": setup}
    return hash_of({**config, "plan": plan, "seal": None})


def read_config(root: Path) -> tuple[dict[str, Any], Plan]:
    """Return what `config.json` holds, and the plan in it.

    Raises:
        ValueError: there is no such file, or it is not what this version of criterium writes.

    """
    path = root / "config.json"
    if not path.is_file():
        raise ValueError(f"{root}: no comparison there (no config.json)")
    config = read_json(path)
    seal = config.pop("seal", None) if isinstance(config, dict) else None
    parts = {"plan", "data", "machine"}
    if not isinstance(config, dict) or not all(isinstance(config.get(part), dict) for part in parts):
        raise ValueError(f"{path}: got other contents than the settings of a comparison")
    with blamed(root, config):
        if missing := _DATA - config["data"].keys():
            raise ValueError(f"data: {', '.join(sorted(missing))} is missing")
        plan = Plan.from_dict(config["plan"])
        if seal != _seal(config):
            check_made(root, plan, config)  # which says what differs
            raise ValueError("was changed since it was written: its seal does not fit")
        return config, plan


@contextmanager
def blamed(root: Path, config: dict[str, Any]) -> Iterator[None]:
    """Name the file with the settings, and the version that wrote it, where they are found wrong."""
    try:
        yield
    except ValueError as error:
        writer = config["machine"].get("criterium")
        raise ValueError(
            f"{root / 'config.json'}: {error}; criterium {writer} wrote it, this is {__version__}"
        ) from error
