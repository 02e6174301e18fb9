"""An architecture's score before training (NASWOT), beside what is known to do as well.

Mellor, Turner, Storkey and Crowley, "Neural architecture search without training", ICML 2021,
arXiv:2006.04647.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from criterium.techniques.architecture.codes import Codes, read_codes
from criterium.techniques.architecture.synflow import synflow_and_flops


@dataclass(frozen=True)
class ArchitectureScore:
    """What `score_architecture` finds.

    Attributes:
        score: log |det K|; −inf where K is singular.
        parameters: how many numbers the network learns.
        flops: of one row's forward pass in convolutions and matrix products, two a multiply-add.
        log_synflow: natural logarithm of the synaptic flow.
        rows: inputs in the batch.
        rectifiers: calls of a rectifier that the codes were read off.
        units: length of a code.
        codes: how many different codes the rows have.
        rank: of K; `rows` where it is regular.
        reason: why K is singular; empty where it is not.

    """

    score: float
    parameters: int
    flops: int
    log_synflow: float
    rows: int
    rectifiers: int
    units: int
    codes: int
    rank: int
    reason: str


@torch.inference_mode(False)
def score_architecture(model: nn.Module, batch: Tensor) -> ArchitectureScore:
    """Return how well an untrained network tells inputs apart, with its size, cost and synaptic flow.

        score = log |det K|,   K = Σ over rectifiers of b bᵀ + (1 − b)(1 − b)ᵀ

    b (N, units) is 1 where the input of a rectifier is positive: K counts, for each pair of rows, the units
    that are on or off for both. The more alike two rows are to the network, the smaller the determinant. The
    network is scored with the weights that it has; no gradient is computed for the score.

    On CIFAR-10 and its like the number of parameters alone ranks networks about as well; so it is returned
    beside, as are the FLOPs, and the synaptic flow of Tanaka et al., "Pruning neural networks without any
    data by iteratively conserving synaptic flow", NeurIPS 2020, arXiv:2006.05467: Σ |θ ∂R/∂θ| where R is the
    sum of the outputs on an input of ones, with every weight made positive.

    The model, its modes, buffers and gradients, and PyTorch's generators are left as they were: everything is
    done on a copy. Rectifiers are PyTorch's ReLU, ReLU6, leaky, parametric and randomised ReLU, ELU, SELU,
    CELU, GELU, SiLU, Mish and Hardswish, and clamping from below at zero, as modules or functions. One put
    together from other operations, such as x · sigmoid(1.7 x), or inside a scripted module, is not seen.

    Args:
        model: from a batch to a tensor, or to tensors in lists, tuples and dicts.
        batch: (N, ...) inputs on the device of the model, N at least 2; the paper takes 128 images.

    Returns:
        The `ArchitectureScore`. Where K is singular its score is −inf, and `reason` says why.

    Raises:
        ValueError: no rectifier, a model that cannot be copied or run on the batch, outputs that are not
            finite, or something else than a module and a batch of at least two rows.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
        >>> found = score_architecture(network, torch.randn(8, 4))
        >>> found.parameters, found.flops, found.codes, found.rank, found.score > 0
        (515, 896, 8, 8, True)

    Deviations:
        Functions and the GELU family count, not only modules with "ReLU" in their name; which rectifiers a
        gradient reaches is read off the autograd graph instead of a backward pass; dropout is off, so that
        the score is not random; batch norm uses the batch's statistics, as there. K is kept for one batch,
        where theirs adds up over repeats. Of the synaptic flow: biases count as zero, and norms and
        rectifiers of all kinds as the identity, so that R is a sum of products of weights; arithmetic is in
        float64 and the logarithm is returned, for deep networks overflow otherwise.

    """
    _check(model, batch)
    devices = [batch.device] if batch.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            network = _prepared(model)
            codes = read_codes(network, batch)
            parameters = sum(parameter.numel() for parameter in network.parameters())
            log_synflow, flops = synflow_and_flops(network, batch)
    except ValueError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise ValueError(
            f"model: {type(model).__name__} on a batch of shape {tuple(batch.shape)} raised {words}"
        ) from error
    rank = int(torch.linalg.matrix_rank(codes.kernel, hermitian=True))
    different = _different(codes)
    regular = rank == len(batch)
    return ArchitectureScore(
        # Rounding gives a singular K some determinant or other, so its rank decides.
        score=float(torch.linalg.slogdet(codes.kernel).logabsdet) if regular else -torch.inf,
        parameters=parameters,
        flops=flops,
        log_synflow=log_synflow,
        rows=len(batch),
        rectifiers=codes.rectifiers,
        units=codes.units,
        codes=different,
        rank=rank,
        reason="" if regular else _reason(batch, codes, different, rank),
    )


def _check(model: nn.Module, batch: Tensor) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: got a {type(model).__name__}, expected a torch.nn.Module")
    if not isinstance(batch, Tensor):
        raise ValueError(f"batch: got a {type(batch).__name__}, expected a tensor (N, ...)")
    if batch.dim() < 1 or len(batch) < 2:
        raise ValueError(f"batch: got shape {tuple(batch.shape)}, expected at least 2 rows: (N, ...)")


def _prepared(model: nn.Module) -> nn.Module:
    """Return a copy in which batch norm uses the batch, dropout is off, and every number can be learned."""
    plain: nn.Module = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    network = copy.deepcopy(plain).eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    for parameter in network.parameters():
        if not is_lazy(parameter) and parameter.is_floating_point():
            parameter.requires_grad_()
    return network


def _different(codes: Codes) -> int:
    """Return how many rows have a code that no earlier row has."""
    same = codes.kernel == codes.units
    return int((~same.tril(-1).any(1)).sum())


def _reason(batch: Tensor, codes: Codes, different: int, rank: int) -> str:
    rows = len(batch)
    if different < rows:
        inputs = len(torch.unique(batch.detach().reshape(rows, -1), dim=0))
        repeated = "" if inputs == rows else f" ({rows} rows hold {inputs} different inputs)"
        return f"{rows} rows have only {different} different codes{repeated}"
    if codes.units + 1 < rows:
        return f"codes of {codes.units} units cannot be independent for {rows} rows"
    return f"the codes of {rows} rows are linearly dependent: K has rank {rank}"
