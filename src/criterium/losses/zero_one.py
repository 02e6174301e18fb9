"""Relaxed zero-one losses: the number of wrong classes that beat the true one, made smooth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from criterium._checks import choice, positive
from criterium.losses._contract import Criterion, Rows, forming_gradient, per_example_loss
from criterium.losses._logits import bounded, flaw, put

KINDS = ("sigmoid", "polynomial", "beta_bernoulli")


def zero_one_relaxation(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    kind: str = "sigmoid",
    temperature: float = 1.0,
    a: float | Tensor = 0.0,
    b: float | Tensor = 0.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
) -> Tensor:
    """Sum over the wrong classes of a smooth step that falls where the true class overtakes them.

    loss(s, y) = Σ_{j≠y} h((s_y − s_j) / T), with the step h(d) by `kind`:

    - "sigmoid": 1 / (1 + e^d);
    - "polynomial": 1/2 − 3c/4 + c³/4, c = d clipped to ±1: no slope outside;
    - "beta_bernoulli": −log(w θ + (1 − w) σ(d)), w = σ(a), θ = σ(b): the log-loss of a label that is drawn
      from σ(d), or with probability w is true with probability θ whatever d. It is bounded by −log(w θ).

    As T approaches 0, the first two count the wrong classes that beat the true one.

    Args:
        logits: (N, C), (C,) or (N, C, d1, ..., dK).
        target: class indices, or class probabilities of the shape of `logits`.
        weight: (C,) weight of each class.
        kind: "sigmoid", "polynomial" or "beta_bernoulli".
        temperature: T, above 0.
        a: logit of w, for "beta_bernoulli": a number or a scalar tensor. It has a gradient, so it may be
            learned: keep a `torch.nn.Parameter` in the model and hand it to this function. The module
            holds no parameters; there a tensor is a buffer.
        b: logit of θ, likewise.
        ignore_index: class index of the rows that do not count; None: all rows count.
        reduction: "none", "mean" (sum(w_i l_i) / sum(w_i)) or "sum".

    Returns:
        The loss, float32 (float64 for float64 logits); from 0 to C − 1 before weighting for the first two.

    Raises:
        ValueError: an argument that does not fit.

    Example:
        >>> import torch
        >>> logits, target = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
        >>> zero_one_relaxation(logits, target)  # 2 / (1 + e)
        tensor(0.5379)
        >>> zero_one_relaxation(logits, target, kind="polynomial")
        tensor(0.)

    Reference:
        Karpukhin et al., "EXACT: How to Train Your Accuracy", arXiv:2205.09615, who compare with all three;
        Hasan and Pal, "A New Smooth Approximation to the Zero One Loss with a Probabilistic Interpretation",
        arXiv:1511.05643: the Beta-Bernoulli loss.

    Deviations:
        A and b are arguments, not parameters of the module, which the authors' training script leaves out of
        the optimiser; the logarithm is formed in log-space, so it is finite for any a and b.

    """
    check_options(kind, temperature, a, b)
    rows = {
        "sigmoid": _sigmoid(temperature),
        "polynomial": _polynomial(temperature),
        "beta_bernoulli": _beta_bernoulli(temperature, a, b),
    }[kind]
    return per_example_loss(
        rows, logits, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )


def _sigmoid(temperature: float) -> Rows:
    def rows(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        own = index.unsqueeze(1)
        beaten_by = table - (table.gather(1, own) + flaw(table))
        step = beaten_by.div_(temperature).sigmoid_().scatter(1, own, 0.0)
        slope = torch.addcmul(step, step, step, value=-1).div_(temperature)
        return step.sum(dim=1), put(slope, own, -slope.sum(dim=1, keepdim=True))

    return forming_gradient(rows)


def _polynomial(temperature: float) -> Rows:
    def rows(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        own = index.unsqueeze(1)
        beaten_by = table - (table.gather(1, own) + flaw(table))
        # With u = 1 − c the polynomial is u² (3 − u) / 4, of which nothing cancels as u approaches 0, and
        # its slope −(3/4) u (2 − u). The true class is given u = 0, where both are 0.
        u = torch.add(table.new_ones(()), beaten_by, alpha=1 / temperature).clamp(0, 2).scatter(1, own, 0.0)
        square = u * u
        loss = 0.75 * square.sum(dim=1) - 0.25 * (square * u).sum(dim=1)
        slope = torch.add(u * (1.5 / temperature), square, alpha=-0.75 / temperature)
        return loss, slope.scatter(1, own, -slope.sum(dim=1, keepdim=True))

    return forming_gradient(rows)


def _beta_bernoulli(temperature: float, a: float | Tensor, b: float | Tensor) -> Rows:
    def rows(table: Tensor, index: Tensor) -> Tensor:
        own = index.unsqueeze(1)
        # The constant goes first, so that autograd keeps none of the logits that are given.
        near = table - (bounded(table.detach().gather(1, own)) + flaw(table))
        lead = (near.gather(1, own) - near) / temperature
        given, free = (torch.as_tensor(value, dtype=table.dtype, device=table.device) for value in (a, b))
        # In log-space, since w θ can be too small for its type, and so can σ(d); 1 − w = σ(−a).
        always = F.logsigmoid(given) + F.logsigmoid(free)
        likelihood = F.logsigmoid(-given) + F.logsigmoid(lead)
        return -torch.logaddexp(always, likelihood).scatter(1, own, 0.0).sum(dim=1)

    return rows


def step_slope(beaten_by: Tensor, *, kind: str, temperature: float, a: float = 0.0, b: float = 0.0) -> Tensor:
    """Return the derivative of a wrong class's summand by its lead over the true class, logit less logit."""
    if kind == "sigmoid":
        step = (beaten_by / temperature).sigmoid_()
        return torch.addcmul(step, step, step, value=-1).div_(temperature)
    if kind == "polynomial":
        u = torch.add(beaten_by.new_ones(()), beaten_by, alpha=1 / temperature).clamp_(0, 2)
        return torch.addcmul(u, u, u, value=-0.5).mul_(1.5 / temperature)
    # d/dx log σ(x) = σ(−x): the share of the likelihood in the sum, times that.
    lead = beaten_by / -temperature
    given, free = (torch.as_tensor(value, dtype=lead.dtype, device=lead.device) for value in (a, b))
    likelihood = F.logsigmoid(-given) + F.logsigmoid(lead)
    share = (likelihood - F.logsigmoid(given) - F.logsigmoid(free)).sigmoid_()
    return share.mul_((-lead).sigmoid_()).div_(temperature)


def check_options(kind: str, temperature: float, a: float | Tensor, b: float | Tensor) -> None:
    """Raise a `ValueError` for an option out of range."""
    choice("kind", kind, KINDS)
    positive("temperature", temperature)
    for name, value in (("a", a), ("b", b)):
        if isinstance(value, Tensor) and value.dim() > 0:
            raise ValueError(f"{name}: got shape {tuple(value.shape)}, expected a number or a scalar tensor")


class ZeroOneRelaxationLoss(Criterion):
    """The module of `zero_one_relaxation`, with the same options.

    Example:
        >>> import torch
        >>> ZeroOneRelaxationLoss(kind="polynomial")(torch.zeros(1, 3), torch.tensor([0]))
        tensor(1.)

    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        kind: str = "sigmoid",
        temperature: float = 1.0,
        a: float | Tensor = 0.0,
        b: float | Tensor = 0.0,
        ignore_index: int | None = -100,
        reduction: str = "mean",
    ) -> None:
        """Keep the options."""
        check_options(kind, temperature, a, b)
        super().__init__(
            zero_one_relaxation,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            kind=kind,
            temperature=temperature,
            a=a,
            b=b,
        )
