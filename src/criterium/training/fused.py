"""Training without the matrix of logits: a model that is told the target and returns the loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from criterium.objectives import Objective
from criterium.training.hooks import Forward


class FusedModel(nn.Module):
    """A model whose output layer is fused with the criteria of an objective.

    Called with inputs alone it returns logits, as the model does.
    """

    def __init__(self, model: nn.Module, objective: Objective, criteria: Sequence[nn.Module]) -> None:
        """Fuse the head of `model`, backbone and head, with each criterion.

        Raises:
            ValueError: a criterion, or the head, has no fused form.

        """
        super().__init__()
        self.model = model
        self.backbone, head = model.get_submodule("backbone"), model.get_submodule("head")
        self.criteria = nn.ModuleList(objective.fused(head, criterion) for criterion in criteria)

    def forward(self, inputs: Tensor, target: Tensor | None = None, update: int = 0) -> Tensor:
        """Return the loss of an update of a step, the first or the second, or logits without a target."""
        result: Tensor
        if target is None:
            result = self.model(inputs)
        else:
            result = self.criteria[update](self.backbone(inputs), target)
        return result


class FusedForward(Forward):
    """Lets the model form the loss, which then never holds all logits."""

    def __init__(self, criteria: Sequence[nn.Module], objective: Objective) -> None:
        """Take the objective, which says how its criteria are fused."""
        super().__init__(criteria)
        self.objective = objective

    def model(self, model: nn.Module) -> nn.Module:
        """Return `model` with its head fused with the criteria."""
        return FusedModel(model, self.objective, self.criteria)

    def loss(self, model: nn.Module, inputs: Tensor, target: Tensor, update: int) -> Tensor:
        """Return the loss that the model formed."""
        loss: Tensor = model(inputs, target, update)
        return loss
