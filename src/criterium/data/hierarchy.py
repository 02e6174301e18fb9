"""The tree that classes hang in: read from a file, checked against the classes of the data."""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from criterium._checks import nearest
from criterium.data.files import existing_file

Hierarchy = tuple[tuple[str, ...], ...]
"""For each class the names on its way down from the root, without the root; the last is the class itself."""

BUILT_IN = "cifar100"

_LARGEST = 2**26  # bytes of a file, some hundred times those of the largest trees that people use
_DEEPEST = 10**7  # names on all ways together
_JSON_FORM = 'expected an object {"class": "parent", ...} of names'

_SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
"""The 20 superclasses of CIFAR-100 (Krizhevsky, 2009)."""


class _Link(NamedTuple):
    parent: str
    where: str  # the file and the line, to name in a message


def read_hierarchy(source: str, classes: Sequence[str], known: Collection[str] | None = None) -> Hierarchy:
    """Return the way from the root to each of `classes`.

    A file says of each class, and of each parent but the topmost ones, what its parent is: a ``.csv`` file in
    lines ``class,parent`` (a first line of these two words is skipped), a ``.json`` file as an object
    ``{"class": "parent", ...}``. Topmost parents hang from the root; a root that has a name is left out.

    Args:
        source: the file, or ``"cifar100"`` for the 20 superclasses of that set, whose classes may have their
            official names or numbers.
        classes: the names of the classes, as the data source gives them.
        known: names that the file may have beside these: classes that are left out of training.

    Raises:
        ValueError: in one line, naming file and line: a name with two parents or that is its own ancestor, a
            name that is no class and nobody's parent, a class that is missing, a tree without groups.

    Example:
        >>> read_hierarchy("cifar100", ["rose", "tulip", "wolf"])
        (('flowers', 'rose'), ('flowers', 'tulip'), ('large_carnivores', 'wolf'))

    """
    links = _built_in() if source == BUILT_IN else _read(source)
    _refuse_circles(links)  # told first: a circle makes nonsense of the rest
    names = {*classes, *(known or ())}
    parents = {link.parent for link in links.values()}
    if source != BUILT_IN:
        for name, link in links.items():
            if name not in names and name not in parents:
                raise ValueError(
                    f"{link.where}: {name!r} is no class of the data and nobody's parent"
                    + nearest(name, sorted(names))
                )
    if missing := [name for name in classes if name not in links]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"hierarchy: {source} lacks the class {missing[0]!r}{more}, expected the parent of each class"
            + nearest(missing[0], sorted(links))
        )
    found = _without_root(_ways(classes, links))
    if not levels(found):
        raise ValueError(
            f"hierarchy: {source} holds no group of some but not all classes, expected one at least"
        )
    return found


def is_built_in(classes: Sequence[str]) -> bool:
    """Whether all classes are CIFAR-100's, by name or by number."""
    return set(classes) <= _built_in().keys()


def levels(hierarchy: Hierarchy) -> tuple[tuple[int, ...], ...]:
    """Return, for each level from below the root down, the number of the group that each class is in.

    A class that hangs higher than a level is a group of its own there. The classes themselves are no level,
    nor is what puts all of them into one group.

    >>> levels((("animal", "cat", "lion"), ("animal", "cat", "tiger"), ("animal", "newt"), ("plant", "rose")))
    ((0, 0, 0, 1), (0, 0, 1, 2))
    """
    found = []
    for depth in range(max(map(len, hierarchy)) - 1):
        names = [way[min(depth, len(way) - 1)] for way in hierarchy]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        if 1 < len(numbers) < len(hierarchy):
            found.append(tuple(numbers[name] for name in names))
    return tuple(found)


def _built_in() -> dict[str, _Link]:
    parents = {name: parent for parent, names in _SUPERCLASSES.items() for name in names.split()}
    # The official numbers follow the alphabet.
    numbers = {str(number): parents[name] for number, name in enumerate(sorted(parents))}
    return {name: _Link(parent, BUILT_IN) for name, parent in {**parents, **numbers}.items()}


def _read(source: str) -> dict[str, _Link]:
    path = Path(source).expanduser()
    readers = {".csv": _csv_rows, ".json": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"hierarchy: got {source!r}, expected a .csv or .json file or {BUILT_IN!r}"
            + nearest(source, [BUILT_IN])
        )
    existing_file(path, "a .csv or .json file of classes and their parents")
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"{path}: holds {size:,} bytes, expected at most {_LARGEST:,}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start})") from error
    links: dict[str, _Link] = {}
    for line, cells in readers[path.suffix.lower()](path, text):
        where = f"{path}, line {line}"
        if len(cells) != 2 or not all(cells):
            raise ValueError(f"{where}: got {', '.join(map(repr, cells))}, expected a name and its parent")
        name, parent = cells
        if name in links:
            raise ValueError(
                f"{where}: {name!r} has the parent {parent!r}, but {links[name].parent!r} before;"
                " expected each name once"
            )
        links[name] = _Link(parent, where)
    return links


def _csv_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: is no CSV ({error})") from error
    return rows[1:] if rows and rows[0][1] == ["class", "parent"] else rows


def _json_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: is no JSON ({error.msg})") from error
    except RecursionError as error:
        raise ValueError(f"{path}: is nested too deeply, {_JSON_FORM}") from error
    if not text.lstrip().startswith("{") or not all(isinstance(parent, str) for _, parent in pairs):
        raise ValueError(f"{path}: got other JSON, {_JSON_FORM}")
    # Every string of such an object is a name or its parent, in turns.
    starts = [token.start() for token in re.finditer(r'"(?:[^"\\]|\\.)*"', text)][::2]
    ends = [mark.start() for mark in re.finditer("\n", text)]
    lines = [bisect_left(ends, start) + 1 for start in starts]
    return [(line, [name.strip(), parent.strip()]) for line, (name, parent) in zip(lines, pairs, strict=True)]


def _refuse_circles(links: dict[str, _Link]) -> None:
    clear: set[str] = set()  # what is known to lead to the top
    for start in links:
        way: dict[str, None] = {}
        name = start
        while name in links and name not in clear:
            way[name] = None
            link = links[name]
            if link.parent in way:
                names = [*dropwhile(link.parent.__ne__, way), link.parent]
                circle = [name if name.isprintable() else ascii(name) for name in names]
                told = " -> ".join(circle if len(circle) < 20 else [*circle[:9], "...", *circle[-9:]])
                raise ValueError(f"{link.where}: {link.parent!r} is its own ancestor: {told}")
            name = link.parent
        clear.update(way)


def _ways(classes: Sequence[str], links: dict[str, _Link]) -> list[tuple[str, ...]]:
    """Return for each class the names from the topmost parent down to it."""
    ways, total = [], 0
    for name in classes:
        way = [name]
        while way[-1] in links:
            way.append(links[way[-1]].parent)
        total += len(way)
        if total > _DEEPEST:
            raise ValueError(
                f"hierarchy: {len(classes):,} classes hang {len(way):,} deep, expected at most"
                f" {_DEEPEST:,} names on all their ways from the root"
            )
        ways.append(tuple(reversed(way)))
    return ways


def _without_root(ways: Sequence[tuple[str, ...]]) -> Hierarchy:
    """Return the ways without what all of them begin with, but with the class itself."""
    shared, most = 0, min(map(len, ways)) - 1
    while shared < most and len({way[shared] for way in ways}) == 1:
        shared += 1
    return tuple(way[shared:] for way in ways)
