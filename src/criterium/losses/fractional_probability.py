"""Fractional probability regularisation: DisMax's mixing of image quadrants, and the loss of a mixed batch.

In a batch of B the first B // 2 images stay as they are. Each of the others gets three of its quadrants
from three other images of its half, and its target gives each of the four classes that quadrant's share of
the pixels. A batch is to be shuffled before it is mixed.

Reference:
    Macêdo et al., "Distinction Maximization Loss", arXiv:2205.05874.

"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium._checks import at_least, non_negative
from criterium.losses.isomax import isomax_loss


def mix_quadrants(images: Tensor) -> Tensor:
    """Exchange quadrants among the images in the second half of a batch.

    The quadrant at the bottom left comes from the image before in the half, the one at the top right from
    two before, the one at the bottom right from three before, cyclically.

    Args:
        images: (B, ..., H, W).

    Returns:
        A new tensor of the same shape.

    Raises:
        ValueError: fewer than three dimensions.

    Example:
        >>> import torch
        >>> mix_quadrants(torch.arange(8.0).reshape(8, 1, 1).expand(8, 2, 2))[4]
        tensor([[4., 6.],
                [7., 5.]])

    Reference:
        Macêdo et al., "Distinction Maximization Loss", arXiv:2205.05874.

    """
    if images.dim() < 3:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected (B, ..., H, W)")
    plain, mixed = images[: len(images) // 2], images[len(images) // 2 :]
    height, width = images.shape[-2] // 2, images.shape[-1] // 2
    top = torch.cat([mixed[..., :height, :width], mixed.roll(2, 0)[..., :height, width:]], dim=-1)
    bottom = torch.cat(
        [mixed.roll(1, 0)[..., height:, :width], mixed.roll(3, 0)[..., height:, width:]], dim=-1
    )
    return torch.cat([plain, torch.cat([top, bottom], dim=-2)])


def mixed_targets(target: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Class probabilities of the images that `mix_quadrants` returns: each class's share of the pixels.

    Args:
        target: (B,) class indices, in the order of the images.
        num_classes: number of classes C.
        size: height and width of the images, in pixels.

    Returns:
        (B, C) class probabilities, float32; one-hot in the first half.

    Raises:
        ValueError: a target that is not (B,); a size below 1.

    Example:
        >>> import torch
        >>> mixed_targets(torch.tensor([0, 0, 0, 1]), 2, size=(4, 4))
        tensor([[1.0000, 0.0000],
                [1.0000, 0.0000],
                [0.5000, 0.5000],
                [0.5000, 0.5000]])

    Reference:
        Macêdo et al., "Distinction Maximization Loss", arXiv:2205.05874.

    Deviations:
        Quadrants of images with an odd side are not of equal size, and count by their pixels; the authors
        give each a weight of 1/4.

    """
    if target.dim() != 1:
        raise ValueError(f"target: got shape {tuple(target.shape)}, expected (B,)")
    height, width = (at_least("size", side, 1) for side in size)
    one_hot = F.one_hot(target.long(), num_classes).float()
    plain, mixed = one_hot[: len(target) // 2], one_hot[len(target) // 2 :]
    top, left = height // 2 / height, width // 2 / width
    shares = (top * left, (1 - top) * left, top * (1 - left), (1 - top) * (1 - left))
    mixture = torch.stack([share * mixed.roll(i, 0) for i, share in enumerate(shares)]).sum(dim=0)
    return torch.cat([plain, mixture])


def fractional_probability_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 1.0, entropic_scale: float = 10.0
) -> Tensor:
    """Mean of the loss of the plain half and `alpha` times that of the mixed half of a batch.

    ½ [mean_{i < B//2} −log p_i,y + α mean_{i ≥ B//2} KL(t_i ‖ p_i)], p = softmax(E s), E = `entropic_scale`.
    A batch of one is all mixed half (mixed with itself), and the loss is α KL(t ‖ p).

    Args:
        logits: (B, C), of `criterium.heads.DisMaxHead` for images that `mix_quadrants` returned.
        target: (B, C) class probabilities, of `mixed_targets`.
        alpha: weight of the mixed half, at least 0.
        entropic_scale: E, above 0.

    Returns:
        The loss, a scalar, float32 (float64 for float64 logits); 0 for an empty batch.

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> target = mixed_targets(torch.tensor([0, 0, 0, 1]), 2, size=(4, 4))
        >>> fractional_probability_loss(torch.zeros(4, 2), target)  # ½ [log 2 + 0]
        tensor(0.3466)

    Reference:
        Macêdo et al., "Distinction Maximization Loss", arXiv:2205.05874.

    Deviations:
        Log-softmax, as in `isomax_loss`; the authors' loss of a batch of one is NaN.

    """
    non_negative("alpha", alpha)
    if logits.dim() != 2 or not target.is_floating_point():
        raise ValueError(
            f"logits, target: got shape {tuple(logits.shape)} and dtype {target.dtype},"
            " expected (B, C) logits and (B, C) class probabilities"
        )
    losses = isomax_loss(logits, target, entropic_scale=entropic_scale, reduction="none")
    return mean_of_halves(losses, target, alpha)


def mean_of_halves(losses: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Return `fractional_probability_loss` of the cross-entropies (B,) of each row with its target (B, C)."""
    half = len(losses) // 2
    # KL(t ‖ p) = cross-entropy − entropy of t.
    entropy: Tensor = torch.special.entr(target[half:].to(losses.dtype)).sum(dim=1)
    mixed = losses[half:] - entropy
    if half == 0:
        return alpha * mixed.sum()
    return (losses[:half].mean() + alpha * mixed.mean()) / 2
