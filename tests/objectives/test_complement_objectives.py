"""Complement training: one update or two, guided, and along a tree of classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from criterium.functional import complement_entropy, hierarchical_complement_entropy
from criterium.objectives import Task, build

TASK = Task(num_classes=4, class_counts=(5, 5, 5, 5), k=1, is_image=False)
LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 3, 0, 1])


def test_the_paper_takes_two_updates_a_step() -> None:
    first, second = build("cot").criteria(TASK)
    torch.testing.assert_close(first(LOGITS, TARGET), nn.functional.cross_entropy(LOGITS, TARGET))
    torch.testing.assert_close(second(LOGITS, TARGET), complement_entropy(LOGITS, TARGET))
    _, scaled = build("cot", {"beta": 0.5}).criteria(TASK)
    torch.testing.assert_close(scaled(LOGITS, TARGET), complement_entropy(LOGITS, TARGET) / 2)


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_one_update_takes_the_sum(beta: float) -> None:
    (criterion,) = build("cot", {"updates": 1, "beta": beta}).criteria(TASK)
    expected = nn.functional.cross_entropy(LOGITS, TARGET) + beta * complement_entropy(LOGITS, TARGET)
    torch.testing.assert_close(criterion(LOGITS, TARGET), expected)


def test_hcot_takes_the_groups_of_every_level() -> None:
    tree = ((0, 0, 0, 1), (0, 0, 1, 2))
    first, second = build("hcot").criteria(dataclasses.replace(TASK, hierarchy=tree))
    torch.testing.assert_close(first(LOGITS, TARGET), nn.functional.cross_entropy(LOGITS, TARGET))
    terms = [hierarchical_complement_entropy(LOGITS, TARGET, groups=torch.tensor(row)) for row in tree]
    torch.testing.assert_close(second(LOGITS, TARGET), terms[0] + terms[1])


def test_hcot_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"hierarchy: got none, expected .*--hierarchy FILE"):
        build("hcot").criteria(TASK)
