"""What made a run: what must be the same for its results to stand beside others."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from criterium._sealed import read_sealed
from criterium.comparison.labels import is_path, parse
from criterium.comparison.plan import Plan

_ELSEWHERE = ("objectives", "seeds", "handed", "margin", "adaptive", "setup")
"""What of a plan says which runs there are and how they are judged, and what is taken apart below."""
_NO_MATTER = ("jobs", "threads", "source", "recipe", "device")


def made(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a plan, as `Plan.to_dict` gives it, makes its runs; its data are known by hashes."""
    setup = values["setup"]
    kept = {name: value for name, value in values.items() if name not in _ELSEWHERE}
    kept |= {name: value for name, value in setup.items() if name not in _NO_MATTER}
    recipe = {f"recipe.{name}": value for name, value in setup["recipe"].items()}
    return {**kept, **recipe, "device": str(setup["device"]).partition(":")[0]}


def code_of(plan: Plan, label: str) -> dict[str, str]:
    """Return the hash of each file of code of the user's own that a run of `label` runs."""
    paths = [plan.model] if ":" in plan.model else []
    paths += [parse(label)[0]] if is_path(label) else []
    found = {}
    for path in paths:
        file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
        if file is not None and Path(file).is_file():
            found[path] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found


def check_made(root: Path, plan: Plan, config: Mapping[str, Any], *, code: bool = False) -> None:
    """Raise a `ValueError` that says what differs if another plan, or other code, made runs in `root`."""
    wanted = made(config["plan"])
    for path in sorted(root.glob("runs/*/run.json")) + sorted(root.glob("tuning/*/run.json")):
        try:
            found = read_sealed(path)
        except (OSError, ValueError):
            continue  # it counts as none
        was = found.get("made", {})
        for name in sorted(wanted.keys() | was.keys()):
            if wanted.get(name) != was.get(name):
                raise ValueError(
                    f"{root / 'config.json'}: {name} is {wanted.get(name)!r}, and {path} was made with"
                    f" {was.get(name)!r}: that is another plan"
                )
        if code and found.get("objective") in plan.objectives:
            now = code_of(plan, found["objective"])
            changed = [name for name, digest in found.get("code", {}).items() if now.get(name) != digest]
            if changed:
                raise ValueError(
                    f"{changed[0]}: its code changed since {path} was made with it: put the old code back, or"
                    " begin a comparison in another folder"
                )
