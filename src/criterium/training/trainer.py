"""One epoch of training, and the model, optimisers and batches that it takes.

Random numbers are drawn anew for each epoch from (seed, purpose, epoch), never from a state that runs on:
runs of different objectives with the same seed start from the same backbone and see the same batches, and
a run that is taken up again after an epoch goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from criterium import models
from criterium.data import Dataset, Split
from criterium.data.hierarchy import levels
from criterium.evaluation.rows import rows_at_once
from criterium.objectives import GradientTransform, Objective, Task
from criterium.training import augment
from criterium.training.compression import CompressedForward
from criterium.training.fused import FusedForward
from criterium.training.gradients import ClipNorm, Keep
from criterium.training.hooks import Forward, Weights
from criterium.training.optimizers import optimizer_for
from criterium.training.orthogonal import OrthogonalTraining
from criterium.training.recipe import Recipe
from criterium.training.seeds import derive, generator, seed_globals


def task_of(dataset: Dataset, k: int) -> Task:
    """Return what objectives may know of `dataset`."""
    tree = None if dataset.hierarchy is None else levels(dataset.hierarchy)
    return Task(len(dataset.classes), dataset.class_counts, k, dataset.is_image, tree)


def build_model(model: str, objective: Objective, dataset: Dataset, task: Task, seed: int) -> nn.Module:
    """Return backbone and head; the backbone's first weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "backbone"))
        backbone = models.build(model, tuple(dataset.train.inputs.shape[1:]), dataset.center, dataset.scale)
        torch.default_generator.manual_seed(derive(seed, "head"))
        head = objective.head(backbone.out_features, task)
    built = nn.Sequential(OrderedDict(backbone=backbone, head=head))
    # Convolutions are faster with channels last: by half on a CPU, and more in bfloat16 on a GPU.
    if task.is_image:
        built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stubs lack it
    return built


class Trainer:
    """Model, criteria and optimisers on their device, and what one epoch does with them.

    Accelerate places the model: device, autocast, a replica in each process. Its wrappers around the
    optimiser and the backward pass serve scaled float16, DeepSpeed and TPUs, and look for packages at every
    step, which takes a quarter of the time of a small model's; so optimiser and loss are plain PyTorch.
    """

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
        """Move everything to the accelerator's device.

        Raises:
            ValueError: batches have fewer rows than there are processes; layers that were to be orthogonal
                cannot be; a criterion that was to be fused has no such form.

        """
        self.objective, self.recipe, self.task, self.seed = objective, recipe, task, seed
        self.accelerator = accelerator
        self.criteria = [criterion.to(accelerator.device) for criterion in objective.criteria(task)]
        self.rate = recipe.learning_rate or (1e-3 if recipe.optimizer == "adamw" else objective.learning_rate)
        self.weights = self._weights(model)
        model = model.to(accelerator.device)
        self.optimizers = [
            optimizer_for(recipe, model, self.rate, without=self.weights.own) for _ in self.criteria
        ]
        self.forward = self._forward()
        self.model: nn.Module = accelerator.prepare_model(self.forward.model(model))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.gradients = (objective.gradient_transform() or self._gradients()).to(accelerator.device)
        self.modules: dict[str, nn.Module] = {"model": model, "gradients": self.gradients}
        self.data = resident(dataset.train, accelerator.device)
        self.steps = math.ceil(len(self.data) / recipe.batch_size)
        if len(self.data) // self.steps < accelerator.num_processes:
            raise ValueError(
                f"batch_size: got {recipe.batch_size}, expected at least {accelerator.num_processes} rows:"
                " one for each process"
            )

    def epoch(self, epoch: int) -> float:
        """Make one pass over the training rows and return the mean loss of the first criterion."""
        self.model.train()
        # Noise that a criterion or dropout draws comes from the global generators; processes, which see
        # different rows, draw different noise.
        noise = derive(self.seed, "noise", epoch) + self.accelerator.process_index
        seed_globals(noise, self.accelerator.device)
        self.forward.begin_epoch(epoch)
        total = torch.zeros((), device=self.accelerator.device)
        steps = self.steps * self.recipe.epochs
        for step, (inputs, target) in enumerate(self.batches(epoch)):
            self.weights.begin_step(epoch * self.steps + step, steps, self.optimizers)
            progress = (epoch + step / self.steps) / self.recipe.epochs
            self.objective.schedule(self.criteria, progress)
            rate = self.rate * self.recipe.factor(progress)
            total += self.update(inputs, target, rate)
        # One answer for all processes, so that all of them stop where one diverges.
        return float(self.accelerator.reduce(total, "mean")) / self.steps

    def update(self, inputs: Tensor, target: Tensor, rate: float) -> Tensor:
        """Make one update for each criterion, and return the loss of the first."""
        losses: list[Tensor] = []
        for number, optimizer in enumerate(self.optimizers):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss = self.forward.loss(self.model, inputs, target, number)
            self.weights.loss(loss).backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it so
            self.gradients(self.parameters)
            optimizer.step()
            self.weights.end_update(number, rate / self.rate)
            losses.append(loss.detach())
        return losses[0]

    def _weights(self, model: nn.Module) -> Weights:
        if self.recipe.orthogonal is None:
            return Weights()
        return OrthogonalTraining(self.recipe.orthogonal, model, len(self.criteria), self.seed)

    def _forward(self) -> Forward:
        if self.recipe.fused:
            return FusedForward(self.criteria, self.objective)
        if self.recipe.compress_activations is None:
            return Forward(self.criteria)
        level, accelerator = self.recipe.compress_activations, self.accelerator
        return CompressedForward(
            self.criteria, level, self.seed, accelerator.process_index, accelerator.device
        )

    def _gradients(self) -> GradientTransform:
        return Keep() if self.recipe.clip is None else ClipNorm(self.recipe.clip)

    @property
    def stateful(self) -> list[torch.optim.Optimizer]:
        """All optimisers, whose state a checkpoint holds."""
        return [*self.optimizers, *self.weights.optimizers]

    def trained(self) -> nn.Module:
        """Return the model with plain weights."""
        return self.weights.trained(self.modules["model"])

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch; sizes differ by at most one row."""
        device, recipe = self.accelerator.device, self.recipe
        order = torch.randperm(len(self.data), generator=generator(derive(self.seed, "order", epoch)))
        boxes = generator(derive(self.seed, "cutmix", epoch))
        changes = generator(derive(self.seed, "augment", epoch) + self.accelerator.process_index, device)
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


@contextmanager
def _full_precision(model: nn.Module) -> Iterator[None]:
    """Call `model` without the autocast that Accelerate puts around its `forward`."""
    wrapped = vars(model).pop("forward") if "_original_forward" in vars(model) else None
    try:
        yield
    finally:
        if wrapped is not None:
            vars(model)["forward"] = wrapped


@torch.inference_mode()
def predict(
    model: nn.Module,
    inputs: Tensor,
    accelerator: Accelerator,
    batch_size: int = 1024,
    out: Tensor | None = None,
) -> Tensor:
    """Return the logits (N, C) of raw `inputs`, float32, on the CPU; the model is left in evaluation mode.

    They are written into `out` where it is given. With many classes batches are smaller than `batch_size`, so
    that hardly any memory is needed for more than the logits. All arithmetic is in float32, whatever the
    precision of training: in bfloat16, with 200 classes, the two largest logits of one row in a hundred tie.
    """
    model = accelerator.unwrap_model(model)
    model.eval()
    # The cache: an orthogonal weight is computed once, not for each part.
    with parametrize.cached(), _full_precision(model):
        if out is None:
            out = torch.empty(len(inputs), model(inputs[:1].to(accelerator.device)).shape[1])
        rows = min(batch_size, rows_at_once(out.shape[1]))
        for logits, part in zip(torch.split(out, rows), torch.split(inputs, rows), strict=True):
            logits.copy_(model(part.to(accelerator.device)))
    return out
