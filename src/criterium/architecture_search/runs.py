"""The training of one network of a search, judged on validation rows. Test rows are not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criterium._files import plain, read_json, slug, write_json
from criterium.architecture_search.plan import OBJECTIVE, SearchPlan, model_path
from criterium.engine.folder import made_place
from criterium.engine.held import Held
from criterium.evaluation.accuracy import top1_error
from criterium.evaluation.rows import finite
from criterium.training import Diverged
from criterium.training.prepare import predict_parts, prepare, sweep


@dataclass(frozen=True)
class NetworkRun:
    """One network, trained with the recipe whose values `recipe` holds."""

    name: str
    seed: int
    recipe: dict[str, Any]

    def place(self, root: Path) -> Path:
        """Return the folder of the run."""
        return root / "trained" / slug(self.name)

    def result(self, root: Path) -> dict[str, Any] | None:
        """Return what the run found, or None while it is not finished, or was another run."""
        try:
            found = read_json(self.place(root) / "run.json")
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(found, dict) or found.get("run") != dataclasses.asdict(self):
            return None
        return found if "diverged" in found or {"history", "validation_error"} <= found.keys() else None

    def describe(self, result: Mapping[str, Any]) -> str:
        """Return one line on what was found."""
        if "diverged" in result:
            return "diverged"
        words = f"validation error {result['validation_error']:.1%}".replace("%", " %")
        return f"{words} in {sum(result['history']['seconds']):.1f} s"


def execute(plan: SearchPlan, held: Held, run: NetworkRun, root: Path) -> dict[str, Any]:
    """Train the network, unless it is trained, and return what was found. `run.json` is written last."""
    finished = run.result(root)
    if finished is not None:
        return finished
    place = run.place(root)
    made_place(root, place)
    accelerator = plan.setup.begin()
    dataset = held.split()
    ready = prepare(dataset, OBJECTIVE, plan.setup.recipe, model_path(run.name), seed=run.seed)
    result: dict[str, Any] = {"run": dataclasses.asdict(run)}
    try:
        trained = ready.train(accelerator, place)
    except Diverged as error:
        result["diverged"] = str(error)
    else:
        result["history"] = trained.history
        rows = dataset.validation
        logits = predict_parts(trained.model, [rows.inputs], len(dataset.classes), accelerator)
        if finite(logits).all():
            result["validation_error"] = top1_error(logits, rows.targets.numpy())
        else:
            result["diverged"] = f"the logits of {run.name} are not finite"
    write_json(place / "run.json", plain(result))
    sweep(place)
    return result
