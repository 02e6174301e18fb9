"""The training loop, the same for every objective.

Random numbers are drawn anew for each epoch from (seed, purpose, epoch), never from a state that runs on:
runs of different objectives with the same seed start from the same backbone and see the same batches, and
a run that is taken up again after an epoch goes on as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from criterium import models
from criterium.data import Dataset, Split
from criterium.objectives import Objective, Task
from criterium.training import augment, checkpoint
from criterium.training.recipe import Recipe

History = dict[str, list[float]]
_CHECKPOINT_SECONDS = 30.0


class Diverged(ValueError):
    """Training came to a loss that is not a number."""


@dataclass
class Trained:
    """A trained classifier, on the device, with its history by epoch."""

    model: nn.Module
    history: History = field(default_factory=dict)


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed for one purpose in one epoch, unrelated to those of other purposes and epochs."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def task_of(dataset: Dataset, k: int) -> Task:
    """Return what objectives may know of `dataset`."""
    counts = torch.bincount(dataset.train.targets, minlength=len(dataset.classes))
    return Task(len(dataset.classes), tuple(counts.tolist()), k, dataset.is_image)


def build_model(model: str, objective: Objective, dataset: Dataset, task: Task, seed: int) -> nn.Module:
    """Return backbone and head; the backbone's first weights depend on `seed` alone."""
    torch.manual_seed(derive(seed, "backbone"))
    backbone = models.build(model, tuple(dataset.train.inputs.shape[1:]), dataset.center, dataset.scale)
    torch.manual_seed(derive(seed, "head"))
    head = objective.head(backbone.out_features, task)
    return nn.Sequential(OrderedDict(backbone=backbone, head=head))


def accelerator_for(device: str = "auto", precision: str = "auto") -> Accelerator:
    """Return the Accelerator for `device` (auto, cpu, cuda, cuda:N, mps) and `precision`.

    `precision` "auto" is bfloat16 autocast where a GPU has it, else float32.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise ValueError(f"device: got {device!r}, expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise ValueError(f"device: got {device!r}, but PyTorch finds {found} CUDA devices here")
        if number:
            torch.cuda.set_device(int(number))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device: got 'mps', but PyTorch finds no such device here")
    if precision not in ("auto", "float32", "bf16"):
        raise ValueError(f"precision: got {precision!r}, expected auto, float32 or bf16")
    on_gpu = kind != "cpu" and torch.cuda.is_available()
    half = precision == "bf16" or (precision == "auto" and on_gpu and torch.cuda.is_bf16_supported())
    return Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if half else "no")


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

    The weights after the last epoch are kept: nothing is selected on the way. With `resume`, the state is
    saved there every half minute and taken up from there.

    Raises:
        Diverged: the loss of an epoch was not finite.

    """
    trainer = Trainer(model, objective, dataset, recipe, task, seed, accelerator)
    history: History = {"epoch": [], "train_loss": [], "validation_error": [], "seconds": []}
    first = 0
    if resume is not None and resume.exists():
        tensors, note = checkpoint.load_tensors(resume)
        checkpoint.unpack(tensors, trainer.modules, trainer.optimizers)
        history, first = note["history"], len(note["history"]["epoch"])
    saved = time.monotonic()
    for epoch in range(first, recipe.epochs):
        if progress is not None:
            progress(epoch, recipe.epochs)
        started = time.monotonic()
        loss = trainer.epoch(epoch)
        if not math.isfinite(loss):
            raise Diverged(f"the loss of {objective.name} became {loss} in epoch {epoch + 1}")
        history["epoch"].append(epoch + 1)
        history["train_loss"].append(loss)
        history["seconds"].append(round(time.monotonic() - started, 4))
        logits = predict(trainer.model, dataset.validation.inputs, accelerator)
        history["validation_error"].append(
            float((logits.argmax(1) != dataset.validation.targets).float().mean())
        )
        if (
            resume is not None
            and time.monotonic() - saved > _CHECKPOINT_SECONDS
            and accelerator.is_main_process
        ):
            checkpoint.save_tensors(
                resume, checkpoint.pack(trainer.modules, trainer.optimizers), {"history": history}
            )
            saved = time.monotonic()
    if progress is not None:
        progress(recipe.epochs, recipe.epochs)
    return Trained(accelerator.unwrap_model(trainer.model), history)


class Trainer:
    """Model, criteria and optimisers on their device, and what one epoch does with them."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        dataset: Dataset,
        recipe: Recipe,
        task: Task,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        """Move everything to the accelerator's device."""
        self.objective, self.recipe, self.task, self.seed = objective, recipe, task, seed
        self.accelerator = accelerator
        self.criteria = [criterion.to(accelerator.device) for criterion in objective.criteria(task)]
        self.rate = recipe.learning_rate or (1e-3 if recipe.optimizer == "adamw" else objective.learning_rate)
        model = model.to(accelerator.device)
        self.model, *self.optimizers = accelerator.prepare(
            model, *(recipe.optimizer_for(model, self.rate) for _ in self.criteria)
        )
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        transform = objective.gradient_transform()
        self.transform = None if transform is None else transform.to(accelerator.device)
        self.modules: dict[str, nn.Module] = {"model": accelerator.unwrap_model(self.model)}
        if self.transform is not None:
            self.modules["gradients"] = self.transform
        self.data = resident(dataset.train, accelerator.device)
        self.steps = math.ceil(len(self.data) / recipe.batch_size)

    def epoch(self, epoch: int) -> float:
        """Make one pass over the training rows and return the mean loss of its first criterion."""
        self.model.train()
        self.objective.schedule(self.criteria, epoch / self.recipe.epochs)
        # Noise that a criterion or dropout draws comes from the global generators.
        torch.manual_seed(derive(self.seed, "noise", epoch))
        total = torch.zeros((), device=self.accelerator.device)
        for step, (inputs, target) in enumerate(self.batches(epoch)):
            rate = self.rate * self.recipe.factor((epoch + step / self.steps) / self.recipe.epochs)
            total += self.update(inputs, target, rate)
        return float(total) / self.steps

    def update(self, inputs: Tensor, target: Tensor, rate: float) -> Tensor:
        """Make one update for each criterion, and return the loss of the first."""
        losses: list[Tensor] = []
        for criterion, optimizer in zip(self.criteria, self.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = criterion(self.model(inputs), target)
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            if self.transform is not None:
                self.transform(self.parameters)
            elif self.recipe.clip is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
            optimizer.step()
            losses.append(loss.detach())
        return losses[0]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch; sizes differ by at most one row."""
        device, recipe = self.accelerator.device, self.recipe
        order = torch.randperm(len(self.data), generator=_generator(self.seed, "order", epoch))
        changes = _generator(self.seed, "augment", epoch, device)
        boxes = _generator(self.seed, "cutmix", epoch)
        for rows in order.to(self.data.inputs.device).tensor_split(self.steps):
            if self.accelerator.num_processes > 1:
                rows = rows[self.accelerator.process_index :: self.accelerator.num_processes]
            inputs, target = self.data.inputs[rows].to(device), self.data.targets[rows].to(device)
            if self.task.is_image:
                if recipe.augment == "crop-flip":
                    inputs = augment.crop_flip(inputs, changes)
                if recipe.cutmix and not self.objective.mixes:
                    inputs, target = augment.cutmix(
                        inputs, target, self.task.num_classes, recipe.cutmix, boxes
                    )
            yield self.objective.transform_batch(inputs, target, self.task)


def resident(split: Split, device: torch.device) -> Split:
    """Return `split` on `device`, unless it would take more than half of the memory that is free there."""
    if device.type == "cuda":
        size = split.inputs.numel() * split.inputs.element_size()
        if size > torch.cuda.mem_get_info(device)[0] / 2:
            return split
    return Split(split.inputs.to(device), split.targets.to(device))


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor, accelerator: Accelerator, batch_size: int = 1024) -> Tensor:
    """Return the logits (N, C) of `inputs`, float32, on the CPU."""
    model.eval()
    parts = [model(part.to(accelerator.device)).float().cpu() for part in torch.split(inputs, batch_size)]
    return torch.cat(parts)


def _generator(seed: int, purpose: str, epoch: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(derive(seed, purpose, epoch))
