"""The official files of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, or an ``.npz`` of the same arrays."""

from __future__ import annotations

from pathlib import Path

from criterium.data.array import Array
from criterium.data.cifar import LAYOUTS, class_names, has_cifar, read_cifar
from criterium.data.idx import has_idx, read_idx
from criterium.data.npz import npz_test_inputs, read_npz
from criterium.data.raw import Raw, Rows

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist

_IDX_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}

OFFICIAL = (*_IDX_CLASSES, *LAYOUTS)


def read_official(name: str, data_dir: Path | None) -> Raw:
    """Return the training and the test part of the set called `name`."""
    place = _find(name, data_dir)
    if place.suffix == ".npz":
        return read_npz(place)
    classes = _IDX_CLASSES[name] if name in _IDX_CLASSES else class_names(place, LAYOUTS[name])
    train, test = _rows(name, place, "train"), _rows(name, place, "test")
    for rows in (train, test):
        if len(rows) and rows.targets.max() >= len(classes):
            raise ValueError(
                f"{place}: holds the label {rows.targets.max()}, expected 0 to {len(classes) - 1}"
            )
    return Raw(classes, train, test=test)


def official_test_inputs(name: str, data_dir: Path | None) -> Array:
    """Return the test images alone; the training files may be absent."""
    place = _find(name, data_dir)
    return npz_test_inputs(place) if place.suffix == ".npz" else _rows(name, place, "test").inputs


def _rows(name: str, folder: Path, part: str) -> Rows:
    return read_idx(folder, part) if name in _IDX_CLASSES else read_cifar(folder, LAYOUTS[name], part)


def _find(name: str, data_dir: Path | None) -> Path:
    """Return the ``.npz`` file, or the folder with the official files, of the set called `name`."""
    if data_dir is not None and not data_dir.is_dir():
        raise ValueError(f"data_dir: got {data_dir}, expected a folder")
    folders = [] if data_dir is None else [data_dir / name, data_dir]
    if name in _IDX_CLASSES:
        wanted = f"{name}.npz or the IDX files train-images-idx3-ubyte[.gz] and so on"
        places = [*folders, _DEBIAN] if name == "fashion-mnist" else folders
        found = [place for place in places if has_idx(place)]
    else:
        layout = LAYOUTS[name]
        wanted = f"{name}.npz or the folder {layout.folder}"
        places = [folder / inner for folder in folders for inner in (layout.folder, "")]
        found = [place for place in places if has_cifar(place, layout)]
    found += [folder / f"{name}.npz" for folder in folders if (folder / f"{name}.npz").is_file()]
    if found:
        return found[0]
    if name in LAYOUTS:
        _refuse_pickle(name, folders)
    looked = f"no such files in {' or '.join(map(str, places))}" if places else "data_dir was not given"
    raise ValueError(f"{name}: {looked}; expected {wanted} in data_dir")


def _refuse_pickle(name: str, folders: list[Path]) -> None:
    layout = LAYOUTS[name]
    for folder in folders:
        if (folder / layout.pickled).is_dir():
            raise ValueError(
                f"{folder / layout.pickled}: the python version of {name} is pickle, which can run any code,"
                f" and is not read; expected the binary version ({layout.folder}) or {name}.npz"
            )
