"""One training run of a comparison: what a worker process does, and what it leaves on disk."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from criterium._files import read_json, write_json
from criterium.comparison.labels import slug
from criterium.comparison.plan import Plan
from criterium.comparison.tuning import TUNING_SEED
from criterium.data import Dataset
from criterium.evaluation.accuracy import top1_error
from criterium.evaluation.calibration import fit_temperature, nll
from criterium.evaluation.detection import detection_score, score_threshold
from criterium.evaluation.metrics import measure
from criterium.evaluation.predictions import Predictions
from criterium.evaluation.rows import finite
from criterium.training import Diverged, predict, train
from criterium.training.checkpoint import load_tensors, save_tensors
from criterium.training.devices import accelerator_for
from criterium.training.trainer import build_model, task_of


@dataclass(frozen=True)
class Run:
    """One training: a setting being tried (`trial` is its number), or a run that is reported.

    `model` is the backbone where it is not that of the plan.
    """

    objective: str
    seed: int
    setting: dict[str, Any]
    trial: int | None = None
    model: str | None = None

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


def trial(label: str, number: int, setting: dict[str, Any]) -> Run:
    """Return the run that tries one setting."""
    return Run(label, TUNING_SEED, setting, number)


def execute(plan: Plan, run: Run, root: Path) -> dict[str, Any]:
    """Carry out `run`, unless it is finished, and return what it found.

    `run.json` is written last: a folder without it holds an unfinished run, which is taken up again.
    """
    finished = run.result(root)
    if finished is not None:
        return finished
    torch.set_num_threads(plan.threads)
    place = run.place(root)
    place.mkdir(parents=True, exist_ok=True)
    dataset = known_data(plan, root)
    accelerator = accelerator_for(plan.device, plan.precision)
    objective, recipe = plan.configure(run.objective, run.setting)
    task = task_of(dataset, plan.k)
    model = build_model(run.model or plan.model, objective, dataset, task, run.seed)
    result: dict[str, Any] = {
        "objective": run.objective,
        "seed": run.seed,
        "setting": run.setting,
        "backbone": _hash(model.get_submodule("backbone")),
    }
    checkpoint = place / "checkpoint.safetensors"
    _drop_damaged(checkpoint)
    try:
        trained = train(
            model,
            objective,
            dataset,
            recipe,
            task=task,
            seed=run.seed,
            accelerator=accelerator,
            resume=checkpoint,
            progress=_progress(place / "progress"),
        )
    except Diverged as error:
        result["diverged"] = str(error)
    else:
        result["history"] = trained.history
        inputs = [dataset.validation.inputs]
        if run.trial is None:  # test rows have no part in tuning
            inputs += [part for part in (dataset.test.inputs, dataset.ood) if part is not None]
        logits = _predict(trained.model, inputs, task.num_classes, accelerator)
        if not finite(logits[: len(dataset.validation)]).all():
            result["diverged"] = f"the logits of {run.objective} are not finite"
        elif run.trial is not None:
            result |= judge(logits, dataset)
        else:
            predictions = score(logits, dataset, objective.score)
            predictions.save(place / "predictions.parquet")
            save_tensors(place / "weights.safetensors", trained.model.state_dict(), {"model": plan.model})
            result["threshold"] = score_threshold(predictions.where("validation").score)
            result["metrics"] = measure(predictions, k=plan.k, hierarchy=dataset.hierarchy)
    write_json(place / "run.json", _plain(result))
    for leftover in (checkpoint, place / "progress"):
        leftover.unlink(missing_ok=True)
    return result


def known_data(plan: Plan, root: Path) -> Dataset:
    """Return the data of the comparison in `root`; raise a `ValueError` if it is no longer what it was."""
    hashes: dict[str, str] = read_json(root / "config.json")["data"]["hashes"]
    return plan.source.load_known(hashes)


def _drop_damaged(checkpoint: Path) -> None:
    """Remove a checkpoint that cannot be read: a kill leaves none such, but a disk may."""
    if checkpoint.exists():
        try:
            load_tensors(checkpoint)
        except ValueError:
            checkpoint.unlink()


def judge(logits: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Return what settings are chosen by. Test rows have no way in here."""
    target = dataset.validation.targets.numpy()
    temperature = fit_temperature(logits, target)
    return {
        "validation_error": top1_error(logits, target),
        "validation_nll": nll(logits, target, temperature),
    }


def score(logits: np.ndarray, dataset: Dataset, kind: str) -> Predictions:
    """Return predictions of all rows, scored at the temperature that validation rows gave.

    `logits` (N, C) are those of validation rows, test rows and inputs from elsewhere, in this order.
    """
    parts = {"validation": dataset.validation.targets.numpy(), "test": dataset.test.targets.numpy()}
    if dataset.ood is not None:
        parts["ood"] = np.full(len(dataset.ood), -1)
    temperature = fit_temperature(logits[: len(dataset.validation)], parts["validation"])
    return Predictions(
        logits,
        np.concatenate(list(parts.values())),
        np.repeat(list(parts), [len(target) for target in parts.values()]),
        detection_score(logits, kind, temperature),
    )


def _predict(
    model: nn.Module, inputs: Sequence[torch.Tensor], classes: int, accelerator: Accelerator
) -> np.ndarray:
    """Return the logits of all `inputs`, one below the other, without a second table of any of them."""
    sizes = [len(part) for part in inputs]
    table = torch.empty(sum(sizes), classes)
    for part, rows in zip(inputs, torch.split(table, sizes), strict=True):
        predict(model, part, accelerator, out=rows)
    return table.numpy()


def _hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _progress(path: Path) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        path.write_text(f"{done} {total}", encoding="ascii")

    return report


def read_progress(path: Path) -> float:
    """Return the share of a run that is done; 0 where it cannot be told."""
    try:
        done, total = path.read_text(encoding="ascii").split()
        return int(done) / int(total)
    except (OSError, ValueError):
        return 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def machine(plan: Plan) -> dict[str, str]:
    """Return what runs are carried out on, and with which versions."""
    import accelerate
    import sklearn

    import criterium

    device = accelerator_for(plan.device, plan.precision).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "criterium": criterium.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "platform": platform.platform(),
        "device": f"{device} {name}".strip(),
    }
