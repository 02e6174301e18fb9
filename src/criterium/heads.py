"""Output layers that objectives bring: logits from distances to, or angles with, one prototype a class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from criterium._checks import at_least
from criterium._values import looked_at

__all__ = ["DisMaxHead", "IsoMaxHead", "IsoMaxPlusHead", "NormalizedLinear"]


class _PrototypeHead(nn.Module):
    """An output layer with one prototype a class, used in place of `torch.nn.Linear`.

    `temperature` divides the logits. It is a buffer, 1 unless a fit on held-out rows sets it.
    """

    temperature: Tensor

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = at_least("in_features", in_features, 1)
        self.num_classes = at_least("num_classes", num_classes, 1)
        self.prototypes = nn.Parameter(torch.empty(self.num_classes, self.in_features))
        self.register_buffer("temperature", torch.empty(()))
        self._add_parameters()
        self.reset_parameters()

    def _add_parameters(self) -> None:
        """Register what a head has besides its prototypes, unfilled."""

    def reset_parameters(self) -> None:
        """Draw the prototypes as the paper does, and set all else to what it is in a new head."""
        with torch.no_grad():
            self.temperature.fill_(1.0)
            self._reset()

    def _reset(self) -> None:
        """Fill the parameters."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(..., num_classes)``, in float32 at least, of features ``(..., in_features)``."""
        if features.dim() == 0 or features.shape[-1] != self.in_features:
            raise ValueError(
                f"features: got shape {tuple(features.shape)}, expected (..., {self.in_features})"
            )
        # A distance is a small difference of large numbers: half precision has too few digits for it.
        dtype = torch.promote_types(torch.promote_types(features.dtype, self.prototypes.dtype), torch.float32)
        rows = features.reshape(-1, self.in_features).to(dtype)
        with torch.autocast(features.device.type, enabled=False):
            logits = self._scores(rows, self.prototypes.to(dtype)) / self.temperature.to(dtype)
        return logits.reshape(*features.shape[:-1], self.num_classes)

    def _scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Return the logits ``(N, C)`` at temperature 1 of features ``(N, F)``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the sizes that a printed module shows."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}"


class IsoMaxHead(_PrototypeHead):
    """Minus the Euclidean distance between a feature vector and each class's prototype.

    logits_c = −‖f − w_c‖ / T, with the prototypes w (C, F) learned from zero; train it with
    `criterium.IsoMaxLoss`.

    Args:
        in_features: length F of a feature vector.
        num_classes: number of classes C.

    Raises:
        ValueError: a size below 1; features whose last dimension is not `in_features`.

    Example:
        >>> import torch
        >>> head = IsoMaxHead(2, 3)
        >>> head(torch.tensor([[3.0, 4.0]])).detach()
        tensor([[-5., -5., -5.]])

    Reference:
        Macêdo et al., "Entropic Out-of-Distribution Detection", IJCNN 2021, arXiv:1908.05569: the first part
        of the IsoMax loss.

    Deviations:
        The distances come from one matrix product, and that to the nearest prototype from the difference
        itself; the authors take all from the N C F differences, at many times the cost.

    """

    def _reset(self) -> None:
        nn.init.zeros_(self.prototypes)

    def _scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        return -distances(features, prototypes)


class IsoMaxPlusHead(_PrototypeHead):
    """Minus the scaled distance between the directions of a feature vector and of each prototype.

    logits_c = −|d| ‖f/‖f‖ − w_c/‖w_c‖‖ / T, with the prototypes w (C, F) learned from N(0, 1) and the
    `distance_scale` d (1,) from 1; train it with `criterium.IsoMaxLoss`.

    Args:
        in_features: length F of a feature vector.
        num_classes: number of classes C.

    Raises:
        ValueError: a size below 1; features whose last dimension is not `in_features`.

    Example:
        >>> import torch
        >>> head = IsoMaxPlusHead(2, 1)
        >>> _ = torch.nn.init.eye_(head.prototypes)
        >>> head(torch.tensor([[-3.0, 0.0]])).detach()
        tensor([[-2.]])

    Reference:
        Macêdo and Ludermir, "Enhanced Isotropy Maximization Loss", arXiv:2105.14399: the first part of the
        IsoMax+ loss.

    Deviations:
        Distances as in `IsoMaxHead`; a vector shorter than 1e-12 is left as it is, where the authors divide
        it by 1e-12, so that its gradient stays of the order of one.

    """

    def _add_parameters(self) -> None:
        self.distance_scale = nn.Parameter(torch.empty(1))

    def _reset(self) -> None:
        nn.init.normal_(self.prototypes)
        nn.init.ones_(self.distance_scale)

    def _scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        apart = distances(directions(features), directions(prototypes))
        return apart * -self.distance_scale.to(apart.dtype).abs()


class DisMaxHead(IsoMaxPlusHead):
    """Minus the distance to each prototype and minus the mean distance to all: "enhanced logits".

    With D_c = |d| ‖f/‖f‖ − w_c/‖w_c‖‖ / √2, logits_c = −(D_c + mean_k D_k) / T. The mean changes no
    probability; it makes the largest logit tell how far an input is from every class. Train it with
    `criterium.IsoMaxLoss`.

    Args:
        in_features: length F of a feature vector.
        num_classes: number of classes C.

    Raises:
        ValueError: a size below 1; features whose last dimension is not `in_features`.

    Example:
        >>> import torch
        >>> head = DisMaxHead(2, 1)
        >>> _ = torch.nn.init.eye_(head.prototypes)
        >>> head(torch.tensor([[0.0, 3.0]])).detach()
        tensor([[-2.]])

    Reference:
        Macêdo et al., "Distinction Maximization Loss", arXiv:2205.05874: the first part of the loss.

    Deviations:
        Those of `IsoMaxPlusHead`.

    """

    def _scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        scores = super()._scores(features, prototypes) / math.sqrt(2)
        return scores + scores.mean(dim=-1, keepdim=True)


class NormalizedLinear(_PrototypeHead):
    """The cosine of the angle between a feature vector and each class's prototype.

    logits_c = f·w_c / (‖f‖ ‖w_c‖ T), with the prototypes w (C, F) learned from U(−1, 1), set to length 1.
    The losses that ask for it (`criterium.NoisedTopKHingeLoss` with margins a class) scale it themselves.

    Args:
        in_features: length F of a feature vector.
        num_classes: number of classes C.

    Raises:
        ValueError: a size below 1; features whose last dimension is not `in_features`.

    Example:
        >>> import torch
        >>> head = NormalizedLinear(2, 2)
        >>> _ = torch.nn.init.eye_(head.prototypes)
        >>> head(torch.tensor([[0.0, -3.0]])).detach()
        tensor([[ 0., -1.]])

    Reference:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        arXiv:1906.07413; used by Garcin et al., "Stochastic Smoothing of the Top-K Calibrated Hinge Loss for
        Deep Imbalanced Classification", ICML 2022, arXiv:2202.02193.

    Deviations:
        The weight is (C, F) as in `torch.nn.Linear`, the authors' is (F, C); short vectors as in
        `IsoMaxPlusHead`.

    """

    def _reset(self) -> None:
        nn.init.uniform_(self.prototypes, -1.0, 1.0)
        self.prototypes.copy_(directions(self.prototypes))

    def _scores(self, features: Tensor, prototypes: Tensor) -> Tensor:
        return F.linear(directions(features), directions(prototypes))


def directions(vectors: Tensor) -> Tensor:
    """Return vectors ``(..., F)`` brought to length 1; those of length 0 stay."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    # Zeros have no direction and stay zeros; dividing them by an epsilon would multiply the gradient by
    # its inverse, and one empty feature vector would then move the whole network.
    return vectors / length.where(length > 1e-12, 1.0)


def distances(points: Tensor, centres: Tensor) -> Tensor:
    """Return the Euclidean distances ``(N, C)`` between ``(N, F)`` points and ``(C, F)`` centres."""
    squared = torch.addmm(centres.square().sum(dim=1), points, centres.T, alpha=-2)
    squared = squared + points.square().sum(dim=1, keepdim=True)
    # ‖p‖² + ‖c‖² − 2 p·c loses its digits where p is close to c, which is where training drives each row's
    # nearest centre (and where TF32 would leave three digits), so that one is taken from p − c.
    with torch.no_grad():
        nearest = squared.argmin(dim=1, keepdim=True)
        exact = (points - centres[nearest.squeeze(1)]).square().sum(dim=1, keepdim=True)
        correction = torch.zeros_like(squared).scatter(1, nearest, exact - squared.gather(1, nearest))
        if looked_at(squared):
            _correct_close(correction, squared, points, centres)
    # The slope of the root at zero is infinite. Below the least normal number, and so for the small
    # negative values that rounding can leave, the clamp gives zero slope: a subgradient.
    return (squared + correction).clamp_min(torch.finfo(squared.dtype).tiny).sqrt()


_CLOSE = 1e-3
"""Squared distances below so much of the squared lengths have lost three digits of seven."""
_AT_ONCE = 1 << 20  # numbers held while such distances are taken again


def _correct_close(correction: Tensor, squared: Tensor, points: Tensor, centres: Tensor) -> None:
    """Correct the distances of all centres that are close to a point, of which there are few.

    Where that many cannot be counted without a cost, on a GPU or in a graph, only the nearest is corrected.
    """
    rows, columns = (squared < _CLOSE * points.square().sum(dim=1, keepdim=True)).nonzero(as_tuple=True)
    size = max(1, _AT_ONCE // points.shape[1])
    for row, column in zip(torch.split(rows, size), torch.split(columns, size), strict=True):
        exact = (points[row] - centres[column]).square().sum(dim=1)
        correction[row, column] = exact - squared[row, column]
