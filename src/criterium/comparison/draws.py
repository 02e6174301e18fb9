"""Settings to try: points that fill a space evenly, different ones for each objective and repeat."""

from __future__ import annotations

import math
from typing import Any

from criterium.objectives import Choice, Range, Search
from criterium.training.seeds import derive


def draw(space: Search, count: int, *, study_seed: int, repeat: int, objective: str) -> list[dict[str, Any]]:
    """Return `count` settings from a scrambled Sobol sequence: the same ones for the same seeds and name.

    Every dimension is covered evenly even by a few points, which random draws do not promise. A sequence
    begins with the same points however many are asked for.

    Args:
        space: by option, where its values are searched.
        count: how many.
        study_seed: of the whole study.
        repeat: the number of the repeat.
        objective: the name, so that no objective is tied to another's draws.

    Reference: Owen, "Randomly Permuted (t,m,s)-Nets and (t,s)-Sequences", 1995, as in `scipy.stats.qmc`.

    Example:
        >>> space = {"learning_rate": Range(0.01, 1.0)}
        >>> one, two = draw(space, 2, study_seed=0, repeat=0, objective="exact")
        >>> (one["learning_rate"] < 0.1) != (two["learning_rate"] < 0.1)  # one in each half of the logarithm
        True

    """
    from scipy.stats import qmc

    if count == 0 or not space:
        return [{} for _ in range(count)]
    seed = derive(study_seed, f"tuning/{objective}", repeat)
    # The sequence is even at powers of two only; SciPy warns of others.
    points = qmc.Sobol(len(space), rng=seed).random_base2(math.ceil(math.log2(max(2, count))))[:count]
    return [
        {name: _value(values, share) for (name, values), share in zip(space.items(), point, strict=True)}
        for point in points.tolist()
    ]


def _value(values: Range | Choice, share: float) -> Any:
    """Return the value at a share of the way through what is searched."""
    if isinstance(values, Range):
        return float(f"{values.low * (values.high / values.low) ** share:.4g}")
    return values.values[int(share * len(values.values))]
