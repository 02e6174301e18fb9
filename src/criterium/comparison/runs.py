"""The two kinds of work of a comparison, as a worker process does them, and what they leave on disk.

A trial trains one setting and is judged on validation rows; its weights are kept. The run of a repeat is the
trial that was judged best: its weights predict the test rows. So nothing is trained twice, and no test row is
seen while anything is still to be chosen.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from criterium._files import plain, slug
from criterium._sealed import check_described, described, read_sealed, write_sealed
from criterium.comparison.made import code_of, made
from criterium.comparison.plan import Plan
from criterium.comparison.tuning import searched
from criterium.data import Dataset
from criterium.engine.folder import made_place
from criterium.engine.held import Held
from criterium.evaluation.calibration import fit_temperature
from criterium.evaluation.commonest import commonest
from criterium.evaluation.detection import detection_score, score_threshold
from criterium.evaluation.measures import measure
from criterium.evaluation.metrics import metric as meaning
from criterium.evaluation.predictions import Predictions
from criterium.evaluation.rows import finite
from criterium.training import Diverged
from criterium.training.checkpoint import load_tensors, save_tensors
from criterium.training.prepare import Prepared, predict_parts, prepare, sweep

WEIGHTS = "weights.safetensors"
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Trial:
    """The training of one setting of an objective in a repeat; `seed` is the number of the repeat."""

    objective: str
    seed: int
    number: int
    setting: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is called where people look."""
        return f"{self.objective} repeat {self.seed} setting {self.number + 1}"

    def place(self, root: Path) -> Path:
        """Return the folder of the trial."""
        return root / "tuning" / f"{slug(self.objective)}-seed{self.seed}-{self.number}"

    def result(self, root: Path) -> dict[str, Any] | None:
        """Return what the trial found, or None while it is not finished.

        A file that is damaged, or that another trial left, counts as none: the trial is done again.
        """
        try:
            return _known(self.place(root), objective=self.objective, seed=self.seed, setting=self.setting)
        except (FileNotFoundError, ValueError):
            return None

    def describe(self, result: Mapping[str, Any]) -> str:
        """Return one line on what was found on validation rows."""
        if "diverged" in result:
            return "diverged"
        history = result["history"]
        words = f"validation error {history['validation_error'][-1]:.1%}".replace("%", " %")
        notes = "".join(f"; {note}" for note in result.get("notes", ()))
        return f"{words} in {sum(history['seconds']):.1f} s{notes}"


@dataclass(frozen=True)
class Run:
    """The run of an objective in a repeat that is reported: its best trial, with predictions of test rows."""

    objective: str
    seed: int
    setting: dict[str, Any]
    number: int = 0

    @property
    def name(self) -> str:
        """What it is called where people look."""
        return f"{self.objective} repeat {self.seed}"

    @property
    def trial(self) -> Trial:
        """The trial that it is."""
        return Trial(self.objective, self.seed, self.number, self.setting)

    def place(self, root: Path) -> Path:
        """Return the folder of the run."""
        return root / "runs" / f"{slug(self.objective)}-seed{self.seed}"

    def result(self, root: Path) -> dict[str, Any] | None:
        """Return what the run found, or None while it is not finished, or where a file of it is damaged."""
        try:
            return self.found(root)
        except (FileNotFoundError, ValueError):
            return None

    def found(self, root: Path) -> dict[str, Any]:
        """Return what the run found.

        Raises:
            FileNotFoundError: it is not finished.
            ValueError: a file of it is not what the run wrote.

        """
        place = self.place(root)
        found = _known(place, objective=self.objective, seed=self.seed, setting=self.setting)
        check_described(place, found["files"])
        return found

    def describe(self, result: Mapping[str, Any]) -> str:
        """Return one line: test rows are not spoken of before all are there."""
        return "diverged" if "diverged" in result else f"setting {self.number + 1} predicted"


def _known(place: Path, **wanted: Any) -> dict[str, Any]:
    path = place / "run.json"
    found = read_sealed(path)
    if any(found.get(key) != value for key, value in wanted.items()) or "files" not in found:
        raise ValueError(f"{path}: another run left it")
    return found


def carry_out(plan: Plan, data: Held, work: Trial | Run, root: Path) -> dict[str, Any]:
    """Carry out a trial or a run, unless it is finished, and return what it found.

    `run.json` is written last: a folder without it holds unfinished work, which is taken up again.
    """
    finished = work.result(root)
    if finished is not None:
        return finished
    for name in ("run.json", PREDICTIONS, WEIGHTS):  # what is damaged
        (made_place(root, work.place(root)) / name).unlink(missing_ok=True)
    result = _try(plan, data, work, root) if isinstance(work, Trial) else _predict(plan, data, work, root)
    place = work.place(root)
    result["files"] = described(*(place / name for name in (PREDICTIONS, WEIGHTS) if (place / name).exists()))
    result["made"], result["code"] = made(plan.to_dict()), code_of(plan, work.objective)
    write_sealed(place / "run.json", plain(result))
    sweep(work.place(root))
    return result


def _try(plan: Plan, data: Held, trial: Trial, root: Path) -> dict[str, Any]:
    """Train a setting, judge it on validation rows, and keep its weights."""
    place = trial.place(root)
    accelerator = plan.setup.begin()
    dataset = data.split(trial.seed)
    ready = _prepared(plan, dataset, trial)
    result: dict[str, Any] = {
        "objective": trial.objective,
        "seed": trial.seed,
        "setting": trial.setting,
        "backbone": ready.backbone_hash,
        "data": dataset.hashes,
        "searched": searched(ready.objective, ready.recipe, plan.given(trial.objective, ready.objective)),
        "prototypes": not isinstance(ready.model.get_submodule("head"), nn.Linear),
        "raw": not any(p.requires_grad for p in ready.model.get_submodule("backbone").parameters()),
    }
    try:
        trained = ready.train(accelerator, place)
    except Diverged as error:
        return {**result, "diverged": str(error)}
    logits = predict_parts(trained.model, [dataset.validation.inputs], len(dataset.classes), accelerator)
    if not finite(logits).all():
        return {**result, "diverged": f"the logits of {trial.objective} are not finite"}
    save_tensors(place / WEIGHTS, trained.model.state_dict(), {"model": plan.model})
    return {
        **result,
        "history": trained.history,
        "notes": trained.notes,
        **judge(logits, dataset, metric=plan.metric, k=plan.k),
    }


def judge(logits: np.ndarray, dataset: Dataset, *, metric: str, k: int) -> dict[str, float]:
    """Return what settings are chosen by, on validation rows. Test rows have no way in here.

    `validation` is the primary metric, or the top-1 error where that needs OOD inputs; `validation_loss`
    the same so that less is better.
    """
    target = dataset.validation.targets.numpy()
    temperature = fit_temperature(logits, target)
    rows = Predictions(logits, target, np.full(len(target), "test"), logits.max(axis=1))
    found = measure(
        rows,
        k=k,
        hierarchy=dataset.hierarchy,
        class_counts=dataset.class_counts,
        temperature=temperature,
    )
    told = np.isfinite(found.get(metric, np.nan))
    value = found[metric] if told else found["top1_error"]
    higher = told and meaning(metric).better == "higher"
    return {
        "validation": value,
        "validation_loss": -value if higher else value,
        "validation_error": found["top1_error"],
        "validation_nll": found["nll"],
    }


def _predict(plan: Plan, data: Held, run: Run, root: Path) -> dict[str, Any]:
    """Predict validation rows, test rows and OOD inputs by the weights of the best trial."""
    trial, place = run.trial, run.place(root)
    tried = carry_out(plan, data, trial, root)
    if "diverged" not in tried and not _has_weights(trial.place(root), tried):
        # They were moved on by an earlier run whose results are gone: the same ones come from training again.
        (trial.place(root) / "run.json").unlink()
        tried = carry_out(plan, data, trial, root)
    accelerator = plan.setup.begin()
    dataset = data.split(run.seed)
    ready = _prepared(plan, dataset, trial)
    result = {key: value for key, value in tried.items() if key != "metrics"} | {"trial": trial.number}
    if "diverged" in tried:
        predictions = _as_commonest(dataset)
        temperature = 1.0
    else:
        tensors, _ = load_tensors(trial.place(root) / WEIGHTS)
        ready.model.load_state_dict(tensors)
        model = ready.model.to(accelerator.device)
        parts = [dataset.validation.inputs, dataset.test.inputs]
        parts += [] if dataset.ood is None else [dataset.ood]
        logits = predict_parts(model, parts, len(dataset.classes), accelerator)
        temperature = fit_temperature(logits[: len(dataset.validation)], dataset.validation.targets.numpy())
        at = 1.0 if ready.objective.score_at_one else temperature
        predictions = score(logits, dataset, ready.objective.score, at)
        shutil.copyfile(trial.place(root) / WEIGHTS, place / WEIGHTS)
        result["threshold"] = score_threshold(predictions.where("validation").score)
    predictions.save(place / PREDICTIONS)
    result["metrics"] = measure(
        predictions,
        k=plan.k,
        hierarchy=dataset.hierarchy,
        class_counts=dataset.class_counts,
        temperature=temperature,
    )
    return result


def _has_weights(place: Path, tried: Mapping[str, Any]) -> bool:
    try:
        check_described(place, tried["files"])
    except ValueError:
        return False
    return True


def _prepared(plan: Plan, dataset: Dataset, trial: Trial) -> Prepared:
    objective, recipe = plan.configure(trial.objective, trial.setting)
    return prepare(dataset, objective, recipe, plan.model, k=plan.k, seed=plan.seed_of(trial.seed))


def _as_commonest(dataset: Dataset) -> Predictions:
    """Return what a repeat counts as in which every setting diverged."""
    rows = sum(len(part) for part in (dataset.validation, dataset.test)) + (
        0 if dataset.ood is None else len(dataset.ood)
    )
    blank = score(np.zeros((rows, len(dataset.classes)), np.float32), dataset, "mps", 1.0)
    return commonest(blank, dataset.class_counts)


def score(logits: np.ndarray, dataset: Dataset, kind: str, temperature: float) -> Predictions:
    """Return predictions of all rows, scored at a temperature that validation rows gave, or at 1.

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


def drop_weights(root: Path, trials: Sequence[Trial]) -> None:
    """Remove the weights of trials whose repeat is reported."""
    for trial in trials:
        (trial.place(root) / WEIGHTS).unlink(missing_ok=True)
