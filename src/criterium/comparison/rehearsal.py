"""One small step of every objective before the race, so that what cannot work fails at once."""

from __future__ import annotations

import torch

from criterium.comparison.plan import Plan, configure
from criterium.data import Dataset
from criterium.training.fused import FusedModel
from criterium.training.orthogonal import OrthogonalTraining
from criterium.training.trainer import build_model, task_of


def rehearse(plan: Plan, dataset: Dataset) -> None:
    """Build each model and criterion and put two training rows through them, on the CPU.

    Raises:
        ValueError: a model that does not fit the data, changes to images where there are none, or an
            objective that does not fit the number of classes, in one line that names the objective.

    """
    if not dataset.is_image:
        for name, unused in (("augment", "none"), ("cutmix", 0.0)):
            if (value := getattr(plan.recipe, name)) != unused:
                raise ValueError(f"{name}: got {value!r}, expected {unused!r}: the data holds no images")
    task = task_of(dataset, plan.k)
    inputs, target = dataset.train.inputs[:2], dataset.train.targets[:2]
    for label in plan.objectives:
        objective, recipe = configure(label, {}, plan.recipe)
        model = build_model(plan.model, objective, dataset, task, seed=0)
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
                OrthogonalTraining(recipe.orthogonal, model, len(criteria), torch.Generator())
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"objective {label}: {error}") from error
