"""What a user writes: `test_types.py` has mypy and pyright look at it.

They must find an error in each line that ends in ``# error``, in no other, and reveal the type that is noted.
"""

from __future__ import annotations

from typing import reveal_type

import torch

import criterium

logits, target = torch.zeros(2, 4), torch.tensor([0, 3])
criterion = criterium.ExactLoss(temperature=1.0)
reveal_type(criterion)  # reveals ExactLoss
reveal_type(criterium.functional.exact_loss(logits, target, k=2))  # reveals Tensor
criterium.ExactLoss(temprature=1.0)  # error
criterium.functional.exact_loss(logits, target, temprature=1.0)  # error
criterium.ExatLoss()  # error

exact = criterium.objectives.Exact(start=1.0)
reveal_type(exact.end)  # reveals float
criterium.objectives.Exact(strat=1.0)  # error
criterium.objectives.Exact(start="cold")  # error

recipe = criterium.Recipe(epochs=2)
reveal_type(recipe.epochs)  # reveals int
criterium.training.Recipe(epoch=2)  # error

study = criterium.compare(data="digits", seeds=2, recipe=recipe)
reveal_type(study.table)  # reveals Table
criterium.compare(objective="exact")  # error
reveal_type(criterium.resume("runs/digits"))  # reveals Study

dataset = criterium.data.load("digits")
reveal_type(dataset.train.targets)  # reveals Tensor
criterium.data.load("digits", lable="y")  # error
backbone = criterium.models.build("mlp", (4,), torch.zeros(4), torch.ones(4))
reveal_type(backbone.out_features)  # reveals int
criterium.heads.IsoMaxHead(8, 4, scale=2)  # error
reveal_type(criterium.sorting.topk_matrix(logits, 2))  # reveals Tensor
reveal_type(criterium.statistics.holm([0.1, 0.2]))  # reveals list[float]
reveal_type(criterium.evaluation.top1_error(logits.numpy(), target.numpy()))  # reveals float
