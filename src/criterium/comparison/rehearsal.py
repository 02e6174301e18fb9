"""One small step of every objective before the race, so that what cannot work fails at once."""

from __future__ import annotations

import os

import torch

from criterium._code import first_line
from criterium.comparison.labels import parse
from criterium.comparison.plan import Plan
from criterium.data import Dataset
from criterium.training.fused import FusedModel
from criterium.training.orthogonal import OrthogonalTraining
from criterium.training.prepare import check_images, prepare


def rehearse(plan: Plan, dataset: Dataset) -> None:
    """Build each model and criterion and put two training rows through them, on the CPU.

    Raises:
        ValueError: a model that does not fit the data, changes to images where there are none, predictions
            that do not fit into memory, or an objective that does not fit the number of classes, in one
            line that names the objective.

    """
    check_images(plan.setup.recipe, dataset)
    _check_room(dataset)
    inputs, target = dataset.train.inputs[:2], dataset.train.targets[:2]
    for label in plan.objectives:
        objective, recipe = plan.configure(label, {})
        if objective.mixes and parse(label)[1].get("cutmix"):
            raise ValueError(
                f"objective {label}: cutmix does nothing here: it brings its own mixing of images"
            )
        ready = prepare(dataset, objective, recipe, plan.model, k=plan.k, seed=0)
        task, model = ready.task, ready.model
        try:
            criteria = objective.criteria(task)
            objective.schedule(criteria, 0.0)
            batch, wanted = objective.transform_batch(inputs, target, task)
            with torch.no_grad():
                if recipe.fused:
                    fused = FusedModel(model, objective, criteria)
                    for update in range(len(criteria)):
                        fused(batch, wanted, update)
                else:
                    logits = model(batch)
                    for criterion in criteria:
                        criterion(logits, wanted)
            if recipe.orthogonal is not None:
                OrthogonalTraining(recipe.orthogonal, model, len(criteria), seed=0)
        except (Exception, SystemExit) as error:
            plain = isinstance(error, ValueError | TypeError | RuntimeError)
            words = error if plain else first_line(error)
            raise ValueError(f"objective {label}: {words}") from error


def _check_room(dataset: Dataset) -> None:
    """Raise a `ValueError` if one table of all predictions is larger than the machine's memory."""
    if not hasattr(os, "sysconf"):  # on Windows
        return
    rows = len(dataset.validation) + len(dataset.test) + (0 if dataset.ood is None else len(dataset.ood))
    needed = 4 * rows * len(dataset.classes)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"data: got {rows} rows to predict and {len(dataset.classes)} classes, whose logits take"
            f" {needed / 2**30:.3g} GiB, expected less than this machine's {there / 2**30:.3g}:"
            " give fewer rows as x_val and x_test"
        )
