"""Everything a run of training takes, made in one place: task, objective, recipe and model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from criterium._files import whole
from criterium.data import Dataset
from criterium.objectives import Objective, Task
from criterium.training.checkpoint import load_tensors
from criterium.training.loop import Trained, train
from criterium.training.recipe import Recipe
from criterium.training.trainer import Trainer, build_model, predict, task_of

CHECKPOINT = "checkpoint.safetensors"
PROGRESS = "progress"


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be trained on a dataset."""

    dataset: Dataset
    objective: Objective
    recipe: Recipe
    task: Task
    model: nn.Module
    seed: int

    @property
    def backbone_hash(self) -> str:
        """The sha256 of the backbone's weights: the same for all objectives that are paired."""
        digest = hashlib.sha256()
        for name, value in self.model.get_submodule("backbone").state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def trainer(self, accelerator: Accelerator) -> Trainer:
        """Return what makes single steps."""
        return Trainer(
            self.model, self.objective, self.dataset, self.recipe, self.task, self.seed, accelerator
        )

    def train(self, accelerator: Accelerator, place: Path) -> Trained:
        """Train the model, or go on from the checkpoint that an earlier process left in `place`.

        Raises:
            Diverged: the loss or the logits were not finite.

        """
        checkpoint = place / CHECKPOINT
        _drop_damaged(checkpoint)
        return train(
            self.model,
            self.objective,
            self.dataset,
            self.recipe,
            task=self.task,
            seed=self.seed,
            accelerator=accelerator,
            resume=checkpoint,
            progress=_progress(place / PROGRESS),
        )


def prepare(
    dataset: Dataset, objective: Objective, recipe: Recipe, model: str, *, k: int = 1, seed: int
) -> Prepared:
    """Return `objective` and the model of that name, made ready for `dataset`.

    The backbone's first weights depend on `seed` alone, so that objectives can be paired.

    Raises:
        ValueError: the model does not fit the data, or changes to images are asked for where there are none.

    """
    check_images(recipe, dataset)
    task = task_of(dataset, k)
    built = build_model(model, objective, dataset, task, seed)
    return Prepared(dataset, objective, recipe, task, built, seed)


def check_images(recipe: Recipe, dataset: Dataset) -> None:
    """Raise a `ValueError` if the recipe changes images and the data holds none."""
    if not dataset.is_image:
        for name, unused in (("augment", "none"), ("cutmix", 0.0)):
            if (value := getattr(recipe, name)) != unused:
                raise ValueError(f"{name}: got {value!r}, expected {unused!r}: the data holds no images")


def predict_parts(
    model: nn.Module, parts: Sequence[Tensor], classes: int, accelerator: Accelerator
) -> np.ndarray:
    """Return the logits of all `parts`, one below the other, without a second table of any of them."""
    sizes = [len(part) for part in parts]
    table = torch.empty(sum(sizes), classes)
    for part, rows in zip(parts, torch.split(table, sizes), strict=True):
        predict(model, part, accelerator, out=rows)
    return table.numpy()


def sweep(place: Path) -> None:
    """Remove from `place` what only an unfinished run needs."""
    for name in (CHECKPOINT, PROGRESS):
        (place / name).unlink(missing_ok=True)


def _drop_damaged(checkpoint: Path) -> None:
    """Remove a checkpoint that cannot be read: a kill leaves none such, but a disk may."""
    if checkpoint.exists():
        try:
            load_tensors(checkpoint)
        except ValueError:
            checkpoint.unlink()


def _progress(path: Path) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        with whole(path) as partial:
            partial.write_text(f"{done} {total}", encoding="ascii")

    return report
