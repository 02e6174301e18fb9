"""One training run of a comparison: what a worker process does, and what it leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from criterium._files import plain, read_json, slug, write_json
from criterium.comparison.plan import Plan
from criterium.comparison.tuning import TUNING_SEED
from criterium.data import Dataset
from criterium.engine.held import Held
from criterium.evaluation.accuracy import top1_error
from criterium.evaluation.calibration import fit_temperature, nll
from criterium.evaluation.detection import detection_score, score_threshold
from criterium.evaluation.metrics import measure
from criterium.evaluation.predictions import Predictions
from criterium.evaluation.rows import finite
from criterium.training import Diverged
from criterium.training.checkpoint import save_tensors
from criterium.training.prepare import predict_parts, prepare, sweep


@dataclass(frozen=True)
class Run:
    """One training: a setting being tried (`trial` is its number), or a run that is reported."""

    objective: str
    seed: int
    setting: dict[str, Any]
    trial: int | None = None

    @property
    def name(self) -> str:
        """What it is called where people look."""
        return f"{self.objective} " + (
            f"seed {self.seed}" if self.trial is None else f"setting {self.trial + 1}"
        )

    def place(self, root: Path) -> Path:
        """Return the folder of the run."""
        if self.trial is not None:
            return root / "tuning" / f"{slug(self.objective)}-{self.trial}"
        return root / "runs" / f"{slug(self.objective)}-seed{self.seed}"

    def result(self, root: Path) -> dict[str, Any] | None:
        """Return what the run found, or None while it is not finished.

        A file that is damaged, or that another run left, counts as none: the run is done again.
        """
        try:
            found = read_json(self.place(root) / "run.json")
        except (FileNotFoundError, ValueError):
            return None
        wanted = {"objective": self.objective, "seed": self.seed, "setting": self.setting}
        if not isinstance(found, dict) or any(found.get(key) != value for key, value in wanted.items()):
            return None
        complete = {"history", "validation_error" if self.trial is not None else "metrics"}
        return found if "diverged" in found or complete <= found.keys() else None

    def describe(self, result: Mapping[str, Any]) -> str:
        """Return one line on what was found on validation rows."""
        if "diverged" in result:
            return "diverged"
        history = result["history"]
        words = f"validation error {history['validation_error'][-1]:.1%}".replace("%", " %")
        return f"{words} in {sum(history['seconds']):.1f} s"


def trial(label: str, number: int, setting: dict[str, Any]) -> Run:
    """Return the run that tries one setting."""
    return Run(label, TUNING_SEED, setting, number)


def execute(plan: Plan, data: Held, run: Run, root: Path) -> dict[str, Any]:
    """Carry out `run`, unless it is finished, and return what it found.

    `run.json` is written last: a folder without it holds an unfinished run, which is taken up again.
    """
    finished = run.result(root)
    if finished is not None:
        return finished
    place = run.place(root)
    place.mkdir(parents=True, exist_ok=True)
    accelerator = plan.setup.begin()
    dataset = data.split()
    objective, recipe = plan.configure(run.objective, run.setting)
    ready = prepare(dataset, objective, recipe, plan.model, k=plan.k, seed=run.seed)
    result: dict[str, Any] = {
        "objective": run.objective,
        "seed": run.seed,
        "setting": run.setting,
        "backbone": ready.backbone_hash,
    }
    try:
        trained = ready.train(accelerator, place)
    except Diverged as error:
        result["diverged"] = str(error)
    else:
        result["history"] = trained.history
        inputs = [dataset.validation.inputs]
        if run.trial is None:  # test rows have no part in tuning
            inputs += [part for part in (dataset.test.inputs, dataset.ood) if part is not None]
        logits = predict_parts(trained.model, inputs, len(dataset.classes), accelerator)
        if not finite(logits[: len(dataset.validation)]).all():
            result["diverged"] = f"the logits of {run.objective} are not finite"
        elif run.trial is not None:
            result |= judge(logits, dataset)
        else:
            temperature = fit_temperature(
                logits[: len(dataset.validation)], dataset.validation.targets.numpy()
            )
            predictions = score(logits, dataset, objective.score, temperature)
            predictions.save(place / "predictions.parquet")
            save_tensors(place / "weights.safetensors", trained.model.state_dict(), {"model": plan.model})
            result["threshold"] = score_threshold(predictions.where("validation").score)
            result["metrics"] = measure(
                predictions, k=plan.k, hierarchy=dataset.hierarchy, temperature=temperature
            )
    write_json(place / "run.json", plain(result))
    sweep(place)
    return result


def judge(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Return what settings are chosen by. Test rows have no way in here."""
    target = dataset.validation.targets.numpy()
    temperature = fit_temperature(logits, target)
    return {
        "validation_error": top1_error(logits, target),
        "validation_nll": nll(logits, target, temperature),
    }


def score(logits: np.ndarray, dataset: Dataset, kind: str, temperature: float) -> Predictions:
    """Return predictions of all rows, scored at the temperature that validation rows gave.

    `logits` (N, C) are those of validation rows, test rows and OOD inputs, in this order.
    """
    parts = {"validation": dataset.validation.targets.numpy(), "test": dataset.test.targets.numpy()}
    if dataset.ood is not None:
        parts["ood"] = np.full(len(dataset.ood), -1)
    return Predictions(
        logits,
        np.concatenate(list(parts.values())),
        np.repeat(list(parts), [len(target) for target in parts.values()]),
        detection_score(logits, kind, temperature),
    )
