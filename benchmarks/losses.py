"""Time and memory of every loss, forward and backward, as multiples of ``F.cross_entropy``'s.

    python benchmarks/losses.py --threads 1 2
    python benchmarks/losses.py --only 'exact|EXACT' --shapes 128x1000 --rounds 51
    python benchmarks/losses.py --only smooth_topk_svm --shapes 128x100 --profile

Every public loss of `criterium.functional` takes part with its default options, and with the options that
`OPTIONS` names; then the heads, in front of their loss, against `torch.nn.Linear` and cross-entropy; then
relaxed sorting. Beside each stand what PyPI has for the same (`difftopk`, `diffsort`, `pytopk`,
`pytorch-metric-learning`, `torchsort`; one that is not installed is left out, with a line that says so) and
"plain": the formula as one would write it with autograd. "≠" marks one of these whose value is not ours.

Logits and features are N(0, 1), targets random, all float32. *Time*: the contenders take turns in one
process, each after a turn of ``F.cross_entropy`` (or linear and cross-entropy) on the same numbers; given
are the median over rounds of the ratio of the two turns and, in parentheses, the ratio of their shortest.
*Memory*: the most that PyTorch's allocator holds above what it held before, temporaries and the gradient
included (inputs and parameters not), as a multiple of the logits' bytes; *growth*: the same number of bytes
at (32, 10000) over that at (32, 1000), which is 10 where memory is in proportion to the classes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import inspect
import json
import math
import os
import platform
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

import criterium.functional
from criterium import heads
from criterium.functional import expected_accuracy, fractional_probability_loss, isomax_loss, ldam_loss
from criterium.losses.fractional_probability import mixed_targets
from criterium.sorting import sort_matrix

FEATURES = 512
LONGEST = 2.0  # seconds; what takes longer for one step is not timed
LONG, FEW = 0.1, 5  # what takes longer than LONG seconds has FEW turns
SHAPES = ((128, 10), (128, 100), (128, 1000), (32, 10_000))
TABLES = {"loss": "F.cross_entropy", "head": "nn.Linear + F.cross_entropy", "sorting": "F.cross_entropy"}


class Batch:
    """The numbers that all contenders of a shape share."""

    def __init__(self, rows: int, classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rows, self.classes = rows, classes
        self.logits = torch.randn(rows, classes, generator=generator).requires_grad_()
        self.target = torch.randint(classes, (rows,), generator=generator)
        self.mixed = mixed_targets(self.target, classes, (32, 32))
        self.class_counts = torch.arange(classes, 0, -1)
        self.groups = torch.arange(classes) // 5
        self.candidates = min(16, classes)
        self.generator = generator

    @cached_property
    def features(self) -> Tensor:
        return torch.randn(self.rows, FEATURES, generator=self.generator).requires_grad_()

    @cached_property
    def prototypes(self) -> Tensor:
        return torch.randn(self.classes, FEATURES, generator=self.generator)

    @cached_property
    def shares(self) -> Tensor:
        """(C, C) factors that make one number of a matrix."""
        return torch.randn(self.classes, self.classes, generator=torch.Generator().manual_seed(1))

    @cached_property
    def others(self) -> Tensor:
        """(N, C): 1 for the wrong classes."""
        return 1 - F.one_hot(self.target, self.classes).float()


Loss = Callable[[], Tensor]
Made = tuple[Loss, list[Tensor]]  # a loss, and what it is differentiated by


@dataclass(frozen=True)
class Contender:
    name: str
    make: Callable[[Batch], Made]
    table: str = "loss"
    rival_of: str = ""
    most: int = 10_000
    """The most classes it is tried with."""
    limits: tuple[float, ...] = ()
    """What it should not exceed on one thread at (128, 10), (128, 100) and (128, 1000)."""


def of_logits(loss: Callable[[Batch], Tensor]) -> Callable[[Batch], Made]:
    return lambda batch: (lambda: loss(batch), [batch.logits])


def module(build: Callable[[Batch], nn.Module]) -> Callable[[Batch], Made]:
    """Build a rival's module outside of what is timed."""

    def make(batch: Batch) -> Made:
        criterion = build(batch)
        return lambda: criterion(batch.logits, batch.target), [batch.logits]

    return make


# Options of the losses: of batches where they are tensors or depend on the classes. Every loss that is not
# named here runs with its defaults.
Options = Callable[[Batch], dict[str, Any]]


def always(**options: Any) -> Options:
    return lambda batch: options


def sixteen(**options: Any) -> Options:
    return lambda batch: {"candidates": batch.candidates, **options}


RELAXATIONS = ("odd_even", "bitonic", "splitter", "neuralsort", "softsort", "lapsum", "sinkhorn")
DISTRIBUTIONS = ("logistic_phi", "gaussian", "reciprocal", "cauchy", "optimal")
OPTIONS: dict[str, dict[str, Options]] = {
    "exact_loss": {
        "": always(),
        "k=5": always(k=5),
        "log=True": always(log=True),
        "k=5, log=True": always(k=5, log=True),
    },
    "topk_cross_entropy": {
        "": always(),
        **{f"16 candidates, {name}": sixteen(relaxation=name) for name in RELAXATIONS},
        **{f"16 candidates, odd_even, {name}": sixteen(distribution=name) for name in DISTRIBUTIONS},
    },
    "noised_topk_hinge": {"": always(), "samples=None": always(samples=None)},
    "hierarchical_complement_entropy": {
        level: lambda batch, level=level: {"groups": batch.groups, "level": level}  # type: ignore[misc]
        for level in ("both", "inner", "outer")
    },
    "ldam_loss": {"": lambda batch: {"class_counts": batch.class_counts}},
    "logit_adjusted_cross_entropy": {"": lambda batch: {"class_counts": batch.class_counts}},
    "zero_one_relaxation": {kind: always(kind=kind) for kind in ("sigmoid", "polynomial", "beta_bernoulli")},
}
COMPLEMENT = (2.5, 2.5, 2.5)
LIMITS = {
    "exact_loss": (8.0, 25.0, 60.0),
    **{f"topk_cross_entropy {name}": (12.0,) * 3 for name in OPTIONS["topk_cross_entropy"] if "16" in name},
    "noised_topk_hinge": (5.0, 8.0, 15.0),
    "smooth_topk_svm": (15.0, 25.0, 40.0),
    "complement_entropy": COMPLEMENT,
    "guided_complement_entropy": COMPLEMENT,
    **{f"hierarchical_complement_entropy {name}": COMPLEMENT for name in ("both", "inner", "outer")},
    "isomax_loss": (1.5,) * 3,
    "fractional_probability_loss": (1.5,) * 3,
}
MOST = {"topk_cross_entropy": 100}  # a network of all classes has as many layers


def called(function: Callable[..., Tensor], options: Options, target: str, batch: Batch) -> Made:
    chosen, wanted = options(batch), getattr(batch, target)
    return lambda: function(batch.logits, wanted, **chosen), [batch.logits]


def ours() -> Iterator[Contender]:
    for name in criterium.functional.__all__:
        function = getattr(criterium.functional, name)
        if list(inspect.signature(function).parameters)[:2] != ["logits", "target"]:
            continue
        if function is expected_accuracy:  # what exact_loss is one minus the mean of
            continue
        target = "mixed" if function is fractional_probability_loss else "target"
        for label, options in OPTIONS.get(name, {"": always()}).items():
            full = f"{name} {label}".strip()

            yield Contender(
                full,
                partial(called, function, options, target),
                limits=LIMITS.get(full, ()),
                most=MOST.get(full, 10_000),
            )


# Plain forms.


def plain_exact(batch: Batch) -> Tensor:
    nodes = torch.linspace(-7, 9, 64).unsqueeze(1)
    true = batch.logits.gather(1, batch.target.unsqueeze(1))
    logs = torch.special.log_ndtr(nodes + (true - batch.logits).unsqueeze(1))
    logs = (logs * batch.others.unsqueeze(1)).sum(2, keepdim=True) - nodes.square() / 2
    return 1 - (logs.exp().sum(1) * (16 / 63 / math.sqrt(2 * math.pi))).mean()


def spread(probabilities: Tensor, rest: Tensor) -> Tensor:
    """Return sum P log P of P = p / rest over the last dimension, as the authors guard it."""
    share = probabilities / (rest + 1e-7)
    return (share * (share + 1e-10).log()).sum(1)


def plain_complement(batch: Batch) -> Tensor:
    p = batch.logits.softmax(1)
    true = p.gather(1, batch.target.unsqueeze(1))
    return spread(p * batch.others, 1 - true).mean() / batch.classes


def plain_guided(batch: Batch) -> Tensor:
    p = batch.logits.softmax(1)
    true = p.gather(1, batch.target.unsqueeze(1))
    guide = (true.squeeze(1) + 1e-7) ** (1 / 3)
    return (guide * spread(p * batch.others, 1 - true)).mean() / math.log(batch.classes)


def plain_hierarchical(batch: Batch) -> Tensor:
    own = (batch.groups == batch.groups[batch.target].unsqueeze(1)).float()
    p = batch.logits.softmax(1)
    true = p.gather(1, batch.target.unsqueeze(1))
    group = (p * own).sum(1, keepdim=True)
    inner = spread(p * own * batch.others, group - true) / own.sum(1)
    return (inner + spread(p * (1 - own), 1 - group) / batch.classes).mean()


def plain_isomax(batch: Batch) -> Tensor:
    return -(10 * batch.logits).softmax(1).gather(1, batch.target.unsqueeze(1)).log().mean()


def stable_isomax(batch: Batch) -> Tensor:
    return F.cross_entropy(10 * batch.logits, batch.target)


def plain_fractional(batch: Batch) -> Tensor:
    half = batch.rows // 2
    mixed = F.kl_div((10 * batch.logits[half:]).log_softmax(1), batch.mixed[half:], reduction="batchmean")
    return (F.cross_entropy(10 * batch.logits[:half], batch.target[:half]) + mixed) / 2


def plain_topk_svm(batch: Batch) -> Tensor:
    kth = (batch.logits - 1e9 * (1 - batch.others)).topk(5).values[:, -1]
    true = batch.logits.gather(1, batch.target.unsqueeze(1)).squeeze(1)
    return (1 + (kth - true) / 5).relu().mean()


def plain_hinge(batch: Batch) -> Tensor:
    return F.multi_margin_loss(batch.logits, batch.target) * (batch.classes / (batch.classes - 1))


def plain_focal(batch: Batch) -> Tensor:
    loss = F.cross_entropy(batch.logits, batch.target, reduction="none")
    return ((1 - (-loss).exp()) ** 2 * loss).mean()


def plain_poly1(batch: Batch) -> Tensor:
    loss = F.cross_entropy(batch.logits, batch.target, reduction="none")
    return (loss + 1 - (-loss).exp()).mean()


def plain_ldam(batch: Batch) -> Tensor:
    counts = batch.class_counts.float()
    margins = 0.5 * (counts / counts.min()) ** -0.25
    return F.cross_entropy(30 * (batch.logits - margins * (1 - batch.others)), batch.target)


def plain_adjusted(batch: Batch) -> Tensor:
    counts = batch.class_counts.float()
    return F.cross_entropy(batch.logits + (counts / counts.sum()).log(), batch.target)


def plain_maxsup(batch: Batch) -> Tensor:
    over = batch.logits.max(1).values - batch.logits.mean(1)
    return F.cross_entropy(batch.logits, batch.target) + 0.1 * over.mean()


def plain_smoothing(batch: Batch) -> Tensor:
    return F.cross_entropy(batch.logits, batch.target, label_smoothing=0.1)


def plain_zero_one(batch: Batch) -> Tensor:
    true = batch.logits.gather(1, batch.target.unsqueeze(1))
    return ((batch.logits - true).sigmoid() * batch.others).sum(1).mean()


PLAIN = {
    "exact_loss": plain_exact,
    "complement_entropy": plain_complement,
    "guided_complement_entropy": plain_guided,
    "hierarchical_complement_entropy both": plain_hierarchical,
    "isomax_loss": plain_isomax,
    "fractional_probability_loss": plain_fractional,
    "topk_svm": plain_topk_svm,
    "multiclass_hinge": plain_hinge,
    "focal_loss": plain_focal,
    "poly1_cross_entropy": plain_poly1,
    "ldam_loss": plain_ldam,
    "logit_adjusted_cross_entropy": plain_adjusted,
    "maxsup_loss": plain_maxsup,
    "label_smoothing_cross_entropy": plain_smoothing,
    "zero_one_relaxation sigmoid": plain_zero_one,
}


# Heads: of features (N, 512), in front of the loss they are trained with.


def headed(build: Callable[[int, int], nn.Module], loss: Callable[[Tensor, Batch], Tensor]) -> Any:
    def make(batch: Batch) -> Made:
        head = build(FEATURES, batch.classes)
        weight = head.weight if isinstance(head, nn.Linear) else head.prototypes
        with torch.no_grad():
            weight.copy_(batch.prototypes)
        return lambda: loss(head(batch.features), batch), [batch.features, *head.parameters()]

    return make


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits, batch.target)


def isomax(logits: Tensor, batch: Batch) -> Tensor:
    return isomax_loss(logits, batch.target)


def dismax(logits: Tensor, batch: Batch) -> Tensor:
    return fractional_probability_loss(logits, batch.mixed)


def scaled(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(30 * logits, batch.target)


def even_margins(logits: Tensor, batch: Batch) -> Tensor:
    return ldam_loss(logits, batch.target, class_counts=torch.ones(batch.classes))


def plain_distances(normalised: bool, batch: Batch) -> Made:
    """Return distances as the authors take them, from all differences, and the stable loss."""
    prototypes = batch.prototypes.clone().requires_grad_()

    def loss() -> Tensor:
        points, centres = batch.features, prototypes
        if normalised:
            points, centres = F.normalize(points), F.normalize(centres)
        distances = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
        return F.cross_entropy(-10 * distances, batch.target)

    return loss, [batch.features, prototypes]


def heads_of_ours() -> Iterator[Contender]:
    rows: tuple[tuple[str, Any, Any], ...] = (
        ("IsoMaxHead + isomax_loss", heads.IsoMaxHead, isomax),
        ("IsoMaxPlusHead + isomax_loss", heads.IsoMaxPlusHead, isomax),
        ("DisMaxHead + isomax_loss", heads.DisMaxHead, isomax),
        ("DisMaxHead + fractional_probability_loss", heads.DisMaxHead, dismax),
        ("NormalizedLinear + F.cross_entropy", heads.NormalizedLinear, scaled),
        ("NormalizedLinear + ldam_loss", heads.NormalizedLinear, even_margins),
    )
    for name, head, loss in rows:
        limits = () if "Normalized" in name else (2.0,) * 3
        yield Contender(name, headed(head, loss), table="head", limits=limits)


# Sorting: relaxed permutation matrices, and relaxed ranks.


def sorting() -> Iterator[Contender]:
    for relaxation in ("odd_even", "bitonic", "neuralsort"):

        def loss(batch: Batch, relaxation: str = relaxation) -> Tensor:
            return (sort_matrix(batch.logits, relaxation=relaxation) * batch.shares).sum()

        yield Contender(f"sort_matrix {relaxation}", of_logits(loss), table="sorting", most=100)


# Rivals from PyPI.


def topk_of_difftopk(package: ModuleType, name: str, method: str) -> Contender:
    def build(batch: Batch) -> nn.Module:
        candidates = batch.candidates if batch.candidates < batch.classes else None
        shares = [0.5, 0, 0, 0, 0.5]
        return package.TopKCrossEntropyLoss(
            method, 1.0, shares, batch.classes, m=candidates, distribution="logistic"
        )

    rival = f"topk_cross_entropy 16 candidates, {name}"
    return Contender("difftopk.TopKCrossEntropyLoss", module(build), rival_of=rival)


def of_difftopk(package: ModuleType) -> Iterator[Contender]:
    yield topk_of_difftopk(package, "odd_even", "odd_even")
    yield topk_of_difftopk(package, "bitonic", "bitonic__non_sparse")
    yield topk_of_difftopk(package, "neuralsort", "neuralsort")
    yield topk_of_difftopk(package, "softsort", "softsort")
    yield Contender(
        "difftopk.SmoothTopKLoss",
        module(lambda batch: package.SmoothTopKLoss(batch.classes, 5)),
        rival_of="smooth_topk_svm",
    )


def of_difftopk_and_torch_sparse(_: ModuleType) -> Iterator[Contender]:
    yield topk_of_difftopk(importlib.import_module("difftopk"), "splitter", "splitter_selection")


def of_pytopk(package: ModuleType) -> Iterator[Contender]:
    yield Contender(
        "pytopk.BalNoisedTopK",
        module(lambda batch: package.BalNoisedTopK(k=5, epsilon=1.0, n_sample=5)),
        rival_of="noised_topk_hinge",
    )


def of_diffsort(package: ModuleType) -> Iterator[Contender]:
    def make(batch: Batch) -> Made:
        network = package.DiffSortNet("odd_even", batch.classes, distribution="logistic", steepness=1.0)
        # Its last column is the largest.
        return lambda: (network(batch.logits)[1].flip(2) * batch.shares).sum(), [batch.logits]

    yield Contender("diffsort.DiffSortNet", make, table="sorting", rival_of="sort_matrix odd_even", most=100)


def of_torchsort(package: ModuleType) -> Iterator[Contender]:
    yield Contender(
        "torchsort.soft_rank (ranks alone)",
        of_logits(lambda batch: (package.soft_rank(batch.logits) * batch.shares[0]).sum()),
        table="sorting",
        rival_of="sort_matrix neuralsort",
        most=100,
    )


def of_metric_learning(package: ModuleType) -> Iterator[Contender]:
    def make(build: Callable[[Batch], nn.Module], batch: Batch) -> Made:
        criterion = build(batch)
        with torch.no_grad():
            criterion.W.copy_(batch.prototypes.T)
        return lambda: criterion(batch.features, batch.target), [batch.features, *criterion.parameters()]

    losses = importlib.import_module("pytorch_metric_learning.losses")
    yield Contender(
        "pytorch_metric_learning NormalizedSoftmaxLoss",
        partial(
            make, lambda batch: losses.NormalizedSoftmaxLoss(batch.classes, FEATURES, temperature=1 / 30)
        ),
        table="head",
        rival_of="NormalizedLinear + F.cross_entropy",
    )
    yield Contender(
        "pytorch_metric_learning CosFaceLoss",
        partial(make, lambda batch: losses.CosFaceLoss(batch.classes, FEATURES, margin=0.5, scale=30)),
        table="head",
        rival_of="NormalizedLinear + ldam_loss",
    )


RIVALS: dict[str, Callable[[ModuleType], Iterable[Contender]]] = {
    "difftopk": of_difftopk,
    "torch_sparse": of_difftopk_and_torch_sparse,
    "pytopk": of_pytopk,
    "diffsort": of_diffsort,
    "torchsort": of_torchsort,
    "pytorch_metric_learning": of_metric_learning,
}


def contenders() -> tuple[list[Contender], list[str]]:
    """Return who takes part, rivals behind whom they rival, and which packages are absent."""
    rivals = [
        *(Contender("plain", of_logits(loss), rival_of=name) for name, loss in PLAIN.items()),
        Contender("plain, in one call", of_logits(stable_isomax), rival_of="isomax_loss"),
        Contender(
            "plain: cdist",
            partial(plain_distances, False),
            table="head",
            rival_of="IsoMaxHead + isomax_loss",
            most=1000,
        ),
        Contender(
            "plain: cdist",
            partial(plain_distances, True),
            table="head",
            rival_of="IsoMaxPlusHead + isomax_loss",
            most=1000,
        ),
    ]
    absent = []
    for name, make in RIVALS.items():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                rivals += make(importlib.import_module(name))
        except ImportError as problem:
            absent.append(f"`{name.replace('_', '-')}` is left out: {problem}")
    everyone = []
    for contender in (*ours(), *heads_of_ours(), *sorting()):
        everyone.append(contender)
        everyone += [rival for rival in rivals if rival.rival_of == contender.name]
    missing = {rival.rival_of for rival in rivals} - {contender.name for contender in everyone}
    missing |= LIMITS.keys() - {contender.name for contender in everyone}
    if missing:
        raise SystemExit(f"no such contender: {', '.join(sorted(missing))}")
    return everyone, absent


# Measurement.

Step = Callable[[], object]


def step_of(loss: Loss, inputs: list[Tensor]) -> Step:
    return lambda: torch.autograd.grad(loss(), inputs)


def references(batch: Batch) -> dict[str, Step]:
    plain = step_of(lambda: F.cross_entropy(batch.logits, batch.target), [batch.logits])
    return {"loss": plain, "head": step_of(*headed(nn.Linear, cross_entropy)(batch)), "sorting": plain}


def turn(step: Step, count: int) -> float:
    """Return the seconds of one step, over `count` of them."""
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


@dataclass
class Entrant:
    contender: Contender
    loss: Loss
    step: Step
    count: int

    @property
    def key(self) -> tuple[str, str]:
        return self.contender.rival_of, self.contender.name


def enter(contender: Contender, batch: Batch, seconds: float) -> Entrant | str:
    """Return a contender ready for its turns, or why it has none."""
    if batch.classes > contender.most:
        return "–"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loss, inputs = contender.make(batch)
            step = step_of(loss, inputs)
            first = turn(step, 1)
            if first > LONGEST:
                return f"over {LONGEST:.0f} s"
            once = min(turn(step, 1) for _ in range(3))
    except Exception as problem:  # a rival's: it is reported, and the others go on
        if not contender.rival_of:
            raise
        print(f"{contender.name} at {batch.logits.shape}: {problem}", file=sys.stderr)
        return "fails"
    return Entrant(contender, loss, step, max(1, round(seconds / once)))


def race(
    entrants: list[Entrant], batch: Batch, rounds: int, seconds: float, tick: Callable[[], None]
) -> tuple[dict[tuple[str, str], tuple[float, float]], dict[str, float]]:
    """Return each one's median ratio and ratio of minima, and the references' median seconds."""
    rulers = references(batch)
    counts = {}
    for table, ruler in rulers.items():
        turn(ruler, 10)
        counts[table] = max(3, round(seconds / 2 / min(turn(ruler, 1) for _ in range(10))))
    ratios: dict[tuple[str, str], list[float]] = {one.key: [] for one in entrants}
    least: dict[tuple[str, str], float] = dict.fromkeys(ratios, math.inf)
    reference: dict[str, list[float]] = {table: [] for table in rulers}
    order = list(entrants)
    for number in range(rounds):
        gc.collect()
        gc.disable()
        order.append(order.pop(0))
        for one in order:
            if number >= FEW and least[one.key] > LONG:
                continue
            table = one.contender.table
            unit = turn(rulers[table], counts[table])
            taken = turn(one.step, one.count)
            reference[table].append(unit)
            ratios[one.key].append(taken / unit)
            least[one.key] = min(least[one.key], taken)
        gc.enable()
        tick()
    found = {
        one.key: (
            statistics.median(ratios[one.key]),
            least[one.key] / min(reference[one.contender.table]),
        )
        for one in entrants
    }
    return found, {table: statistics.median(taken) for table, taken in reference.items() if taken}


def peak(step: Step) -> int:
    """Return the most bytes that PyTorch's allocator held at a time during a step, above those before."""
    step()  # tables that are kept are not the step's
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    held = highest = 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: float(e["ts"])):
        held += int(event["args"]["Bytes"])
        highest = max(highest, held)
    return highest


def memory_of(make: Callable[[Batch], Step], most: int) -> tuple[str, str]:
    """Return the multiple of the logits' bytes, and the growth with the classes."""

    def measured(rows: int, classes: int) -> int:
        with contextlib.redirect_stdout(sys.stderr):
            return peak(make(Batch(rows, classes)))

    size = min(most, 1000)
    multiple = f"{measured(128, size) / (128 * size * 4):.1f}"
    if size < 1000:
        multiple += f" at C = {size}"
    few, many = (10, 100) if most == 100 else (1000, 10_000)
    if many > most:
        return multiple, "–"
    growth = f"{measured(32, many) / measured(32, few):.1f}"
    return multiple, growth if many == 10_000 else f"{growth} from C = {few} to {many}"


def differs(entrant: Entrant, others: list[Entrant]) -> bool:
    """Return whether a rival's value is not that of the loss it rivals."""
    mine = next((o for o in others if o.contender.name == entrant.contender.rival_of), None)
    if mine is None:
        return False
    with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        a, b = float(entrant.loss()), float(mine.loss())
    return not math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5)


def accuracy_reference(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return expected accuracies in float64 by 801 nodes, of which those of no weight do no harm."""
    logits = logits.detach().double() / temperature
    nodes = torch.linspace(-20, 20, 801, dtype=torch.float64).unsqueeze(1)
    results = []
    for row, index in zip(logits, target, strict=True):
        others = torch.cat([row[:index], row[index + 1 :]])
        logs = torch.special.log_ndtr(nodes + row[index] - others).sum(1) - nodes.squeeze(1).square() / 2
        results.append(logs.exp().sum() * (40 / 800 / math.sqrt(2 * math.pi)))
    return torch.stack(results)


def exact_errors(batch: Batch) -> str:
    """Return the largest error of EXACT in float32 over the rows of a batch, at three temperatures."""
    parts = []
    for temperature in (0.3, 1.0, 10.0):
        found = expected_accuracy(batch.logits.detach(), batch.target, temperature=temperature)
        wanted = accuracy_reference(batch.logits, batch.target, temperature)
        parts.append(f"{float((found - wanted).abs().max()):.0e} at T = {temperature:g}")
    return ", ".join(parts)


def profiled(entrant: Entrant, top: int = 8, times: int = 20) -> None:
    entrant.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(times):
            entrant.step()
    events = [e for e in profile.key_averages() if e.self_cpu_time_total > 0]
    events.sort(key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(e.self_cpu_time_total for e in events) / times
    calls = sum(e.count for e in events if e.key.startswith("aten::")) / times
    rows = (f"{e.key} {e.count / times:g} x, {e.self_cpu_time_total / times:.0f} us" for e in events[:top])
    print(f"{entrant.contender.name}: {total:.0f} us a step in {calls:g} calls of aten. {'; '.join(rows)}")


def report(
    everyone: list[Contender],
    shapes: list[tuple[int, int]],
    cells: dict[tuple[str, str], list[str]],
    memory: dict[tuple[str, str], tuple[str, str]],
    reference: dict[str, list[str]],
) -> None:
    for table, ruler in TABLES.items():
        rows = [c for c in everyone if c.table == table]
        if not rows:
            continue
        titles = [str(shape) for shape in shapes] + (["memory", "growth"] if memory else [])
        print(f"\n| {table}, x {ruler} | {' | '.join(titles)} |")
        print(f"| --- |{' ---: |' * len(titles)}")
        print(f"| *{ruler}, us* | {' | '.join([*reference[table], *memory.get(('', ruler), ())])} |")
        for contender in rows:
            key = contender.rival_of, contender.name
            label = f"· {contender.name}" if contender.rival_of else f"**{contender.name}**"
            print(f"| {label} | {' | '.join([*cells[key], *memory.get(key, ())])} |")


def targets(
    everyone: list[Contender],
    shapes: list[tuple[int, int]],
    medians: dict[tuple[str, tuple[int, int]], float],
) -> None:
    aimed = [shape for shape in SHAPES[:3] if shape in shapes]
    rows, met, count = [], 0, 0
    for contender in everyone:
        found = []
        for shape, limit in zip(SHAPES, contender.limits, strict=False):
            if shape in shapes:
                median = medians[contender.name, shape]
                found.append(
                    f"{median:.2f} ≤ {limit:g}" if median <= limit else f"**{median:.2f}** > {limit:g}"
                )
                met, count = met + (median <= limit), count + 1
        if found:
            rows.append(f"| {contender.name} | {' | '.join(found)} |")
    if rows:
        print(f"\n{met} of {count} targets are met.\n\n| target | {' | '.join(map(str, aimed))} |")
        print("\n".join([f"| --- |{' ---: |' * len(aimed)}", *rows]))


def brief(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"


def shape_of(text: str) -> tuple[int, int]:
    rows, classes = text.split("x")
    return int(rows), int(classes)


def keep_memory() -> None:
    """Start again with glibc's malloc told to keep what is freed, as it does in a long training.

    At first it gives large blocks back to the system. Whether it still does when a loss's turn comes
    depends on what ran before, and it can double the time of a step.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        kept = {name: str(2**30) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **kept})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", default="", help="losses (with their rivals) to look at")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--shapes", type=shape_of, nargs="+", default=list(SHAPES), metavar="NxC")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a turn")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--profile", action="store_true", help="only list what the steps consist of")
    args = parser.parse_args()
    everyone, absent = contenders()
    wanted = re.compile(args.only)
    everyone = [c for c in everyone if wanted.search(c.rival_of or c.name)]
    if not everyone:
        raise SystemExit(f"--only: {args.only!r} fits no loss")

    print(shlex.join(["python", *sys.argv]))
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}")
    for line in absent:
        print(line)
    print(f"load average at the start {os.getloadavg()[0]:.1f}")
    if args.profile:
        torch.set_num_threads(args.threads[0])
        for shape in args.shapes:
            print(f"\n{shape}")
            for contender in everyone:
                entrant = enter(contender, Batch(*shape), 0)
                if isinstance(entrant, Entrant) and not contender.rival_of:
                    profiled(entrant)
        return

    console = Console(stderr=True)
    with Progress(console=console) as progress:
        torch.set_num_threads(1)
        memory: dict[tuple[str, str], tuple[str, str]] = {}
        if not args.no_memory:
            task = progress.add_task("memory", total=len(everyone))
            for contender in everyone:
                try:
                    peaks = memory_of(lambda batch, c=contender: step_of(*c.make(batch)), contender.most)  # type: ignore[misc]
                except Exception:
                    if not contender.rival_of:
                        raise
                    peaks = ("fails", "fails")  # the reason is printed where it is timed
                memory[contender.rival_of, contender.name] = peaks
                progress.advance(task)
            for table in TABLES:
                memory["", TABLES[table]] = memory_of(lambda batch, t=table: references(batch)[t], 10_000)  # type: ignore[misc]
        for threads in args.threads:
            torch.set_num_threads(threads)
            cells: dict[tuple[str, str], list[str]] = {(c.rival_of, c.name): [] for c in everyone}
            medians: dict[tuple[str, tuple[int, int]], float] = {}
            reference: dict[str, list[str]] = {table: [] for table in TABLES}
            for shape in args.shapes:
                task = progress.add_task(f"{threads} threads, {shape}", total=args.rounds)
                batch = Batch(*shape)
                entered = {(c.rival_of, c.name): enter(c, batch, args.seconds) for c in everyone}
                entrants = [e for e in entered.values() if isinstance(e, Entrant)]
                results, rulers = race(
                    entrants, batch, args.rounds, args.seconds, partial(progress.advance, task)
                )
                for table, column in reference.items():
                    column.append(f"{rulers[table] * 1e6:.0f}" if table in rulers else "")
                for key, entrant in entered.items():
                    if isinstance(entrant, str):
                        cells[key].append(entrant)
                        continue
                    median, minimum = results[key]
                    medians[key[1], shape] = median
                    mark = " ≠" if differs(entrant, entrants) else ""
                    cells[key].append(f"{brief(median)} ({brief(minimum)}){mark}")
            print(f"\n{threads} {'threads' if threads > 1 else 'thread'}:")
            report(everyone, args.shapes, cells, memory, reference)
            memory = {}  # once is enough
            if threads == 1:
                targets(everyone, args.shapes, medians)
    print(f"\nload average at the end {os.getloadavg()[0]:.1f}")
    if any(c.name == "exact_loss" for c in everyone):
        print("\nLargest absolute error of exact_loss over the rows of a batch, against float64:\n")
        for shape in args.shapes:
            print(f"- {shape}: {exact_errors(Batch(*shape))}")


if __name__ == "__main__":
    keep_memory()
    main()
