"""What a training step costs, relative to the baseline's, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from criterium.comparison.plan import Plan
from criterium.data import Dataset
from criterium.training.prepare import prepare
from criterium.training.trainer import Trainer

_ROUNDS = 9
_SECONDS = 0.06
_MOST_SECONDS = 5.0
"""No round begins later."""


def measure_cost(plan: Plan, dataset: Dataset, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the time of a training step of each objective, in units of the baseline's.

    Objectives take turns in short rounds, one process alone, so that whatever else the machine does falls
    on all of them; the median over rounds of the ratio within a round is returned; where steps are slow,
    of fewer rounds. One objective alone takes its own time.
    """
    if len(plan.objectives) == 1:
        return {plan.baseline: 1.0}
    accelerator = plan.setup.begin()
    steppers = {}
    for label in plan.objectives:
        objective, recipe = plan.configure(label, settings[label])
        ready = prepare(dataset, objective, recipe, plan.model, k=plan.k, seed=plan.seeds[0])
        steppers[label] = Stepper(ready.trainer(accelerator))
    for stepper in steppers.values():
        stepper.steps(2)  # first calls allocate
    begun = time.monotonic()
    count = max(1, int(_SECONDS / steppers[plan.baseline].seconds_per_step(2)))
    ratios: dict[str, list[float]] = {label: [] for label in steppers}
    for done in range(_ROUNDS):
        if done and time.monotonic() - begun > _MOST_SECONDS:
            break
        taken = {label: stepper.seconds_per_step(count) for label, stepper in steppers.items()}
        for label, seconds in taken.items():
            ratios[label].append(seconds / taken[plan.baseline])
    return {label: statistics.median(values) for label, values in ratios.items()}


class Stepper:
    """Makes training steps without end, batch after batch."""

    def __init__(self, trainer: Trainer) -> None:
        """Begin with the first epoch."""
        self.trainer = trainer
        self.epoch = 0
        self.batches = trainer.batches(0)

    def steps(self, count: int) -> None:
        """Make `count` steps."""
        self.trainer.model.train()
        for _ in range(count):
            batch = next(self.batches, None)
            if batch is None:
                self.epoch += 1
                self.batches = self.trainer.batches(self.epoch)
                batch = next(self.batches)
            self.trainer.update(*batch, rate=1e-6)

    def seconds_per_step(self, count: int) -> float:
        """Make `count` steps and return the time each took."""
        self._wait()
        started = time.perf_counter()
        self.steps(count)
        self._wait()
        return (time.perf_counter() - started) / count

    def _wait(self) -> None:
        device = self.trainer.accelerator.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
