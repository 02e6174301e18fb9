"""Orthogonal over-parameterised training: neurons stay fixed relative to one another and turn together.

The weight of a layer, one neuron a row, is W = V Qᵀ: Gaussian neurons V that are never trained, and an
orthogonal matrix Q that is. Angles between neurons, and so their hyperspherical energy, stay what they were
at the start. `apply` puts it on a model, `fold` takes it off again.

>>> import torch
>>> from criterium.techniques import orthogonal
>>> model = orthogonal.apply(torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.ReLU()), "cayley")
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # then train as ever
>>> inputs = torch.randn(3, 8)
>>> plain = orthogonal.fold(model)
>>> torch.equal(plain(inputs), model(inputs)), list(plain.state_dict())
(True, ['0.bias', '0.weight'])

Paper: Liu, Lin, Liu, Rehg, Paull, Xiong, Song and Weller, "Orthogonal Over-Parameterized Training", CVPR
2021, arXiv:2004.04690.

*Deviations* from the authors' code. Gram-Schmidt and Householder reflections are LAPACK's QR with the signs
that theirs give, so that a column close to an axis loses no digits; the gradient of Löwdin's method is that
of the polar factor, which repeated singular values do not disturb; Cayley's transform is polished to the
last digit; after gradient descent on rotations the matrix is made orthogonal again (theirs is off by 0.17
after five updates of a 4x4 matrix at their largest step); stochastic training takes any method, keeps the
weights where an episode ends, Householder's start included, and runs (theirs asks for more indices than its
matrix has). `torch.nn.utils.parametrizations.orthogonal` offers Cayley's transform with other
coordinates, and none of the other maps; so it serves as a check in the tests only.
"""

from __future__ import annotations

from criterium.techniques.orthogonal.descent import RotationDescent
from criterium.techniques.orthogonal.energy import hyperspherical_energy
from criterium.techniques.orthogonal.maps import METHODS
from criterium.techniques.orthogonal.model import (
    apply,
    fold,
    next_episode,
    orthogonality_error,
    penalty,
    rotations,
)

__all__ = [
    "METHODS",
    "RotationDescent",
    "apply",
    "fold",
    "hyperspherical_energy",
    "next_episode",
    "orthogonality_error",
    "penalty",
    "rotations",
]
