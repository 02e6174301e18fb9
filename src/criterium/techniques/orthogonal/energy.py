"""How evenly the directions of a layer's neurons are spread."""

from __future__ import annotations

import torch
from torch import Tensor


def hyperspherical_energy(weight: Tensor) -> Tensor:
    """Return the energy of the neurons' directions, which repel each other like charges on a sphere.

    E = Σ_i Σ_{j≠i} 1 / ‖w_i/‖w_i‖ − w_j/‖w_j‖‖; a smaller value means more evenly spread.

    Args:
        weight: of a linear or convolutional layer, (neurons, ...): what follows is flattened.

    Returns:
        A scalar, in float32 at least: 0 for one neuron, infinite where two point the same way, NaN where
        one is zero and so points nowhere.

    Raises:
        ValueError: `weight` has fewer than two dimensions.

    Example:
        >>> import torch
        >>> hyperspherical_energy(torch.tensor([[3.0, 0.0], [-0.5, 0.0]]))
        tensor(1.)

    Reference:
        Liu et al., "Learning towards Minimum Hyperspherical Energy", NeurIPS 2018, arXiv:1805.09298,
        with s = 1.

    """
    if weight.dim() < 2:
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, expected (neurons, ...)")
    rows = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
    with torch.autocast(rows.device.type, enabled=False):
        # From the differences themselves: 2 − 2 cos loses the digits of neurons that are close.
        directions = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return 2 * torch.pdist(directions).reciprocal().sum()
