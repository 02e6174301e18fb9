"""How bad mistakes are where classes hang in a tree: errors level by level, and distances in the tree."""

from __future__ import annotations

import numpy as np

from criterium.data.hierarchy import Hierarchy, levels
from criterium.evaluation.rows import by_rows


def predicted_class(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return (N,) the class of the largest logit; where the true class shares it, another that does.

    So a tie counts against the true class, as it does in `criterium.evaluation.accuracy`.

    Example:
        >>> predicted_class(np.array([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0]]), np.array([0, 0]))
        array([0, 1])

    """
    return by_rows(_predicted, logits, target)


def _predicted(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    rows = np.arange(len(target))
    others = logits.copy()
    others[rows, target] = -np.inf
    rival = others.argmax(axis=1)
    return np.where(others[rows, rival] >= logits[rows, target], rival, target)


def level_errors(logits: np.ndarray, target: np.ndarray, hierarchy: Hierarchy) -> tuple[float, ...]:
    """Return, for each level of the tree from below the root down, the fraction of rows in a wrong group.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        hierarchy: C ways from the root to a class; see `criterium.data.hierarchy.levels`.

    Example:
        >>> tree = (("cat", "lion"), ("cat", "tiger"), ("dog", "wolf"))
        >>> level_errors(np.eye(3), np.array([0, 0, 0]), tree) == (1 / 3,)
        True

    """
    predicted = predicted_class(logits, target)
    found = (np.array(numbers) for numbers in levels(hierarchy))
    return tuple(float(np.mean(group[predicted] != group[target])) for group in found)


def tree_distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return the number of edges on the path in the tree between two classes, given by their ways.

    Example:
        >>> tree_distance(("cat", "lion"), ("cat", "tiger")), tree_distance(("cat", "lion"), ("newt",))
        (2, 3)

    """
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        shared += 1
    return len(one) + len(other) - 2 * shared


def mistake_distance(logits: np.ndarray, target: np.ndarray, hierarchy: Hierarchy) -> float:
    """Return the mean distance in the tree between predicted and true class of the rows that are wrong.

    It is 0 where no row is wrong, and at least 1 otherwise; in a tree of even depth, the double of the height
    of the lowest common ancestor (Bertinetto et al., Making Better Mistakes, CVPR 2020).

    Example:
        >>> tree = (("cat", "lion"), ("cat", "tiger"), ("dog", "wolf"))
        >>> mistake_distance(np.eye(3), np.array([0, 0, 0]), tree)
        3.0

    """
    predicted = predicted_class(logits, target)
    wrong = predicted != target
    if not wrong.any():
        return 0.0
    pairs, counts = np.unique(np.stack([predicted[wrong], target[wrong]]), axis=1, return_counts=True)
    distances = [tree_distance(hierarchy[one], hierarchy[other]) for one, other in pairs.T]
    return float(np.average(distances, weights=counts))


def tree_metrics(hierarchy: Hierarchy) -> tuple[str, ...]:
    """Return the names of the numbers that a tree gives, from the root down."""
    return (*(f"level{depth}_error" for depth, _ in enumerate(levels(hierarchy), 1)), "mistake_distance")
