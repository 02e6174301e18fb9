"""Hierarchical complement training: even out the wrong classes within the true class's group, and outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from criterium.losses.hierarchical_complement import HierarchicalComplementEntropyLoss
from criterium.objectives.base import Objective, Setting, Task


@dataclass(frozen=True)
class HierarchicalComplement(Objective):
    """Each step: an update for cross-entropy, then one for the inner and outer complement entropies.

    The groups are those of the classes' tree; in a tree of several levels the terms of all are added.
    """

    name = "hcot"
    summary = "cross-entropy, alternating with flat wrong classes inside and outside the true group"
    paper = "Chen et al. 2019, Learning with Hierarchical Complement Objective, arXiv:1911.07257"
    # The authors' script for CIFAR-100.
    published: ClassVar[Setting] = {"learning_rate": 0.1, "weight_decay": 1e-4}

    def criteria(self, task: Task) -> tuple[nn.Module, ...]:
        """Return the two criteria that take turns."""
        if task.hierarchy is None:
            raise ValueError(
                "hierarchy: got none, expected the tree that the classes hang in: --hierarchy FILE, a .csv or"
                " .json file of classes and their parents (for the data cifar100 it is known)"
            )
        groups = torch.tensor(task.hierarchy)
        return nn.CrossEntropyLoss(), HierarchicalComplementEntropyLoss(groups=groups)
