"""The loss of IsoMax, IsoMax+ and DisMax: cross-entropy of logits times an entropic scale."""

from __future__ import annotations

from torch import Tensor

from criterium._checks import positive
from criterium.losses._contract import Criterion, cross_entropy_of, per_example_loss
from criterium.losses._logits import below_top
from criterium.losses._one_pass import in_one_pass


def isomax_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    entropic_scale: float = 10.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the logits times `entropic_scale`, for the heads that measure distances.

    loss(s, y) = −log softmax(E s)_y, E = `entropic_scale`. The scale is for training only: predictions
    and scores come from the logits as they are, whose softmax then has a high entropy.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK), of `criterium.heads.IsoMaxHead`, `IsoMaxPlusHead`
            or `DisMaxHead`.
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        entropic_scale: E, above 0.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits).

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> isomax_loss(torch.tensor([[-0.1, -0.3]]), torch.tensor([0]))
        tensor(0.1269)

    Reference:
        Macêdo et al., "Entropic Out-of-Distribution Detection", IJCNN 2021, arXiv:1908.05569: the second part
        of the IsoMax loss; the same in arXiv:2105.14399 (IsoMax+) and arXiv:2205.05874 (DisMax).

    Deviations:
        Log-softmax, where the authors take the logarithm of a softmax that underflows, and the loss is
        infinite, once E times a gap of logits exceeds about 104.

    """
    scale = positive("entropic_scale", entropic_scale)

    dense = cross_entropy_of(lambda logits, _: below_top(logits).mul_(scale))
    rows = in_one_pass(dense, "cross_entropy", scale=scale)
    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction, dense=dense
    )


class IsoMaxLoss(Criterion):
    """The module of `isomax_loss`, with the same options.

    Example:
        >>> import torch
        >>> IsoMaxLoss(entropic_scale=1.0)(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]))
        tensor(0.6931)

    """

    entropic_scale: float

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        entropic_scale: float = 10.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        super().__init__(
            isomax_loss,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            entropic_scale=positive("entropic_scale", entropic_scale),
        )
