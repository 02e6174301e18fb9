from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from criterium.data import load
from criterium.data.hierarchy import is_built_in, levels, read_hierarchy
from goldens import cases

CLASSES = ("lion", "tiger", "wolf", "newt")
TREE = (
    ("mammal", "cat", "lion"),
    ("mammal", "cat", "tiger"),
    ("mammal", "dog", "wolf"),
    ("amphibian", "newt"),
)
LINKS = [
    ("lion", "cat"),
    ("tiger", "cat"),
    ("wolf", "dog"),
    ("newt", "amphibian"),
    ("cat", "mammal"),
    ("dog", "mammal"),
]


def written(path: Path, links: list[tuple[str, str]] = LINKS) -> str:
    if path.suffix == ".json":
        path.write_text(json.dumps(dict(links), indent=1), encoding="utf-8")
    else:
        path.write_text("class,parent\n" + "".join(f"{a}, {b}\n" for a, b in links), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("root", [[], [("mammal", "animal"), ("amphibian", "animal"), ("animal", "being")]])
def test_a_tree_of_uneven_depth(suffix: str, root: list[tuple[str, str]], tmp_path: Path) -> None:
    path = written(tmp_path / f"tree{suffix}", LINKS + root)
    assert read_hierarchy(path, CLASSES) == TREE
    assert levels(TREE) == ((0, 0, 0, 1), (0, 0, 1, 2))
    # The order of the classes is that of the data.
    assert read_hierarchy(path, CLASSES[::-1]) == TREE[::-1]
    # Classes that were left out of training may be in the file.
    assert read_hierarchy(path, CLASSES[:3], CLASSES) == tuple(way[1:] for way in TREE[:3])


def test_a_file_without_a_heading_with_names_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "tree.csv"
    path.write_text('\ufeff"Ankle boot, left",shoe\n\nSandal,shoe\r\nÄrmel,"cloth ""a"""\n', encoding="utf-8")
    classes = ("Ankle boot, left", "Sandal", "Ärmel")
    expected = (("shoe", "Ankle boot, left"), ("shoe", "Sandal"), ('cloth "a"', "Ärmel"))
    assert read_hierarchy(str(path), classes) == expected
    path = tmp_path / "tree.json"
    path.write_text(json.dumps({way[1]: way[0] for way in expected}), encoding="utf-8")  # \u00c4, \"
    assert read_hierarchy(str(path), classes) == expected


def test_a_class_that_is_the_parent_of_others(tmp_path: Path) -> None:
    path = written(tmp_path / "tree.csv", [("poodle", "dog"), ("dog", "animal"), ("cat", "animal")])
    found = read_hierarchy(path, ("dog", "poodle", "cat"))
    assert found == (("dog",), ("dog", "poodle"), ("cat",))
    assert levels(found) == ((0, 0, 1),)


BAD = {
    "two parents": (
        "lion,cat\ntiger,cat\nlion,dog\n",
        "{path}, line 3: 'lion' has the parent 'dog', but 'cat' before; expected each name once",
    ),
    "cycle": (
        "lion,cat\ncat,dog\ndog,cat\n",
        "{path}, line 3: 'cat' is its own ancestor: cat -> dog -> cat",
    ),
    "itself": ("lion,lion\n", "{path}, line 1: 'lion' is its own ancestor: lion -> lion"),
    "unknown": (
        "lion,cat\ntigre,cat\n",
        "{path}, line 2: 'tigre' is no class of the data and nobody's parent; did you mean 'tiger'?",
    ),
    "missing": (
        "lion,cat\ntiger,cat\n",
        "hierarchy: {path} lacks the class 'wolf' and 1 more, expected the parent of each class",
    ),
    "no group": (
        "lion,cat\ntiger,cat\nwolf,cat\nnewt,cat\n",
        "hierarchy: {path} holds no group of some but not all classes, expected one at least",
    ),
    "each alone": ("lion,a\ntiger,b\nwolf,c\nnewt,d\n", "hierarchy: {path} holds no group of some but"),
}


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("case", BAD)
def test_a_tree_that_is_none(case: str, suffix: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    if suffix == ".json":  # one pair a line, the brace before the first
        pairs = [line.split(",") for line in text.splitlines()]
        text = "{" + ",\n".join(f"{json.dumps(a)}: {json.dumps(b)}" for a, b in pairs) + "}"
    path = tmp_path / f"tree{suffix}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:  # the whole message is compared
        read_hierarchy(str(path), CLASSES)
    assert str(caught.value).startswith(words.format(path=path))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tree.csv", "lion,cat\ntiger\n", "tree.csv, line 2: got 'tiger', expected a name and its parent"),
        ("tree.csv", "lion,\n", "tree.csv, line 1: got 'lion', '', expected a name and its parent"),
        ("tree.csv", "a,b,c\n", "tree.csv, line 1: got 'a', 'b', 'c', expected"),
        ("tree.csv", 'lion,"cat\n', "tree.csv, line 1: is no CSV"),
        ("tree.csv", "", "lacks the class 'lion'"),
        ("tree.json", '{"lion": "cat",\n "tiger"}', "tree.json, line 2: is no JSON"),
        ("tree.json", '{"lion": {"a": "b"}}', 'tree.json: got other JSON, expected an object {"class"'),
        ("tree.json", '["lion", "cat"]', "tree.json: got other JSON"),
        ("tree.json", '"lion"', "tree.json: got other JSON"),
        ("tree.json", "3", "tree.json: got other JSON"),
        ("tree.json", '[["lion", "cat"]]', "tree.json: got other JSON"),
        ("tree.json", '{"lion": ""}', "tree.json, line 1: got 'lion', '', expected"),
        ("tree.txt", "", "expected a .csv or .json file or 'cifar100'"),
    ],
)
def test_files_that_cannot_be_read(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:  # its words hold signs of regular expressions
        read_hierarchy(str(tmp_path / name), CLASSES)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hierarchy: got 'cifar10', .*; did you mean 'cifar100'\?"):
        read_hierarchy("cifar10", CLASSES)
    with pytest.raises(ValueError, match=r"none.csv: no such file, expected a .csv or .json file"):
        read_hierarchy(str(tmp_path / "none.csv"), CLASSES)
    (tmp_path / "latin.csv").write_bytes("é,b\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv: is no UTF-8 text \(invalid .* at byte 0\)"):
        read_hierarchy(str(tmp_path / "latin.csv"), CLASSES)
    with pytest.raises(ValueError, match=r"hierarchy: cifar100 lacks the class 'lyon' and 1 more.*'lion'"):
        read_hierarchy("cifar100", ("lyon", "newt"))


@st.composite
def forests(draw: st.DrawFn) -> dict[str, str]:
    """Draw the parents of some nodes: each node's parent is one of larger number, or it has none."""
    size = draw(st.integers(3, 12))
    parents = {}
    for node in range(size - 1):
        parent = draw(st.integers(node + 1, size))
        parents[f"n{node}"] = f"n{parent}"
    return parents


@given(forests())
def test_every_tree_is_read_as_it_is(parents: dict[str, str]) -> None:
    leaves = sorted(parents.keys() - set(parents.values()))
    with TemporaryDirectory() as folder:
        path = written(Path(folder) / "tree.csv", list(parents.items()))
        try:
            found = read_hierarchy(path, leaves)
        except ValueError as error:
            assert "holds no group" in str(error)
            return
    for leaf, way in zip(leaves, found, strict=True):
        assert way[-1] == leaf
        assert all(parents[child] == parent for parent, child in pairwise(way))
    for finer, coarser in zip(levels(found)[1:], levels(found), strict=False):
        # A group lies in one group of the level above.
        assert len({*zip(finer, coarser, strict=True)}) == len({*finer})


def test_cifar100_is_the_map_of_the_authors() -> None:
    case = next(case for case in cases("hcot") if case.params["map"] == "CIFAR-100 standard")
    numbers = read_hierarchy("cifar100", [str(number) for number in range(100)])
    (groups,) = levels(numbers)
    official = case.arrays["fine_to_coarse"]
    # Numbers of groups are names only: one for one.
    assert len(set(groups)) == 20
    assert len(set(zip(groups, official.tolist(), strict=True))) == 20
    superclasses = sorted({way[0] for way in numbers})
    assert [superclasses[number] for number in official] == [way[0] for way in numbers]
    assert is_built_in(("rose", "wolf"))
    assert not is_built_in(("rose", "werewolf"))


def test_data_with_its_tree(tmp_path: Path) -> None:
    digits = [(digit, "round" if digit in "03689" else "straight") for digit in "0123456789"]
    path = written(tmp_path / "tree.json", digits)
    data = load("digits", hierarchy=path)  # 8 and 9 are held out
    assert data.hierarchy == tuple((parent, digit) for digit, parent in digits[:8])
    assert data.hashes["hierarchy"] != load("digits", hierarchy=path, ood="none").hashes["hierarchy"]
    assert load("digits").hierarchy is None
    assert "hierarchy" not in load("digits").hashes
    with pytest.raises(ValueError, match=r"tree\.json, line 2: 'x' is no class of the data"):
        load("digits", hierarchy=written(tmp_path / "tree.json", [("x", "round"), *digits]))


def test_cifar100_knows_its_tree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "cifar100.npz",
        x_train=rng.integers(0, 256, (400, 32, 32, 3), dtype=np.uint8),
        y_train=np.arange(400) % 100,
        x_test=rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
        y_test=np.arange(100),
    )
    data = load("cifar100", data_dir=tmp_path, ood="classes:0,1")
    assert torch.tensor(levels(data.hierarchy)).shape == (1, 98)
    assert data.hierarchy[0][0] == "people"  # number 2 is baby
