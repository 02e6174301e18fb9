"""One small step of every objective before the race, so that what cannot work fails at once."""

from __future__ import annotations

import torch

from criterium.comparison.plan import Plan, configure
from criterium.data import Dataset
from criterium.training.loop import build_model, task_of


def rehearse(plan: Plan, dataset: Dataset) -> None:
    """Build each model and criterion and put two training rows through them, on the CPU.

    Raises:
        ValueError: a model that does not fit the data, or an objective that does not fit the number of
            classes, in one line that names the objective.

    """
    task = task_of(dataset, plan.k)
    inputs, target = dataset.train.inputs[:2], dataset.train.targets[:2]
    for label in plan.objectives:
        objective, _ = configure(label, {}, plan.recipe)
        model = build_model(plan.model, objective, dataset, task, seed=0)
        try:
            criteria = objective.criteria(task)
            batch, wanted = objective.transform_batch(inputs, target, task)
            with torch.no_grad():
                logits = model(batch)
                for criterion in criteria:
                    criterion(logits, wanted)
        except (ValueError, TypeError) as error:
            raise ValueError(f"objective {label}: {error}") from error
