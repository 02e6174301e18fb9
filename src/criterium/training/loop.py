"""The training loop, the same for every objective."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from criterium.data import Dataset
from criterium.evaluation.accuracy import top1_error
from criterium.evaluation.rows import finite
from criterium.objectives import Objective, Task
from criterium.training import checkpoint
from criterium.training.recipe import Recipe
from criterium.training.trainer import Trainer, predict

History = dict[str, list[float]]
_CHECKPOINT_SECONDS = 30.0


class OtherRun(ValueError):
    """A checkpoint holds the state of another run."""


class Diverged(ValueError):
    """Training came to a loss or to logits that are not finite."""


@dataclass
class Trained:
    """A trained classifier, on the device, with its history by epoch and what is to be said of it."""

    model: nn.Module
    history: History = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def train(
    model: nn.Module,
    objective: Objective,
    dataset: Dataset,
    recipe: Recipe,
    *,
    task: Task,
    seed: int,
    accelerator: Accelerator,
    resume: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train `model` for `objective` on the training rows; validation rows are only looked at.

    The weights after the last epoch are kept: nothing is selected on the way. PyTorch's global generators
    are left as they were found.

    Args:
        model: backbone and head, from `build_model`.
        objective: what is trained for.
        dataset: its training rows are trained on; the error on its validation rows goes into the history.
        recipe: how to train.
        task: what the objective may know of the data, from `task_of`.
        seed: decides the order of rows, augmentation and noise.
        accelerator: device, precision and processes, from `accelerator_for`.
        resume: a file in which the state is saved every half minute, and from which it is taken up;
            one of another run is set aside, with a note.
        progress: told the epochs that are done, and how many there will be.

    Returns:
        The model, on the accelerator's device, and its history by epoch: `epoch`, `train_loss` (mean of
        the first criterion), `validation_error` and `seconds` of training. A model whose layers were
        orthogonal is a copy with plain weights.

    Raises:
        Diverged: the loss of an epoch, or the logits after it, were not finite.

    """
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trainer = Trainer(model, objective, dataset, recipe, task, seed, accelerator)
        return _train(trainer, dataset, resume, progress)


def _train(
    trainer: Trainer, dataset: Dataset, resume: Path | None, progress: Callable[[int, int], None] | None
) -> Trained:
    recipe, accelerator = trainer.recipe, trainer.accelerator
    history: History = {"epoch": [], "train_loss": [], "validation_error": [], "seconds": []}
    notes: list[str] = []
    first = 0
    run = _identity(trainer, dataset)
    if resume is not None and resume.exists():
        try:
            history = _take_up(trainer, run, resume)
        except OtherRun as error:
            aside = resume.with_name(f"other-{resume.name}")
            resume.replace(aside)
            notes.append(f"{error}; it is set aside as {aside.name}")
        first = len(history["epoch"])
    saved = time.monotonic()
    for epoch in range(first, recipe.epochs):
        if progress is not None:
            progress(epoch, recipe.epochs)
        started = time.monotonic()
        loss = trainer.epoch(epoch)
        if not math.isfinite(loss):
            raise Diverged(f"the loss of {trainer.objective.name} became {loss} in epoch {epoch + 1}")
        history["epoch"].append(epoch + 1)
        history["train_loss"].append(loss)
        history["seconds"].append(round(time.monotonic() - started, 4))
        logits = predict(trainer.model, dataset.validation.inputs, accelerator)
        if not finite(logits.numpy()).all():
            raise Diverged(f"the logits of {trainer.objective.name} are not finite after epoch {epoch + 1}")
        history["validation_error"].append(top1_error(logits.numpy(), dataset.validation.targets.numpy()))
        del logits  # with very many classes the next epoch needs the room
        if (
            resume is not None
            and time.monotonic() - saved > _CHECKPOINT_SECONDS
            and accelerator.is_main_process
        ):
            state = checkpoint.pack(trainer.modules, trainer.stateful)
            checkpoint.save_tensors(resume, state, {"run": run, "history": history})
            saved = time.monotonic()
    if progress is not None:
        progress(recipe.epochs, recipe.epochs)
    return Trained(trainer.trained(), history, notes)


def _identity(trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """Return what a checkpoint must agree with to be taken up, as JSON has it."""
    found: dict[str, Any] = json.loads(
        json.dumps(
            {
                "objective": trainer.objective.name,
                "options": dataclasses.asdict(trainer.objective),
                "recipe": dataclasses.asdict(trainer.recipe),
                "seed": trainer.seed,
                "data": dataset.hashes,
            }
        )
    )
    return found


def _take_up(trainer: Trainer, run: dict[str, Any], path: Path) -> History:
    """Put the state in `path` into `trainer` and return the history that led to it."""
    tensors, note = checkpoint.load_tensors(path)
    held = note.get("run")
    for name, value in run.items():
        was = held.get(name) if isinstance(held, dict) else None
        if was != value:
            raise OtherRun(f"resume: {path} holds another run: its {name} was {was!r}, expected {value!r}")
    history: Any = note.get("history")
    if not _is_history(history):
        raise OtherRun(f"resume: {path} holds no history of a run")
    try:
        checkpoint.unpack(tensors, trainer.modules, trainer.stateful)
    except ValueError as error:
        raise OtherRun(f"resume: {path} holds another run: {error}") from error
    return {name: list(values) for name, values in history.items()}


def _is_history(history: Any) -> bool:
    if not isinstance(history, dict) or history.keys() != {
        "epoch",
        "train_loss",
        "validation_error",
        "seconds",
    }:
        return False
    columns = list(history.values())
    sound = all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns)
    return sound and all(isinstance(x, int | float) for one in columns for x in one)
