"""IDX and CIFAR files, made small here, and where they are looked for."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from criterium.data import load, official

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
LABELS = (np.arange(60) % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool = False, dot: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    join = "." if dot else "-"
    for part, chosen in (("train", slice(0, 40)), ("t10k", slice(40, 60))):
        for stem, array in (("images", PIXELS), ("labels", LABELS)):
            name = f"{part}-{stem}{join}idx{array.ndim}-ubyte"
            contents = idx(array[chosen])
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(contents))
            else:
                (folder / name).write_bytes(contents)
    return folder


def write_cifar(folder: Path, name: str) -> Path:
    """Write records whose pixels count on from the number of the record."""
    ten = name == "cifar10"
    inner = folder / ("cifar-10-batches-bin" if ten else "cifar-100-binary")
    inner.mkdir(parents=True)
    files = (
        [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
        if ten
        else ["train.bin", "test.bin"]
    )
    for number, file in enumerate(files):
        records = []
        for row in range(20):
            label = row % 10
            head = bytes([label]) if ten else bytes([label % 2, label])  # coarse, then fine
            pixels = (np.arange(3072) + 20 * number + row) % 256
            records.append(head + pixels.astype(np.uint8).tobytes())
        (inner / file).write_bytes(b"".join(records))
    names = [f"thing_{n}" for n in range(10)]
    (inner / ("batches.meta.txt" if ten else "fine_label_names.txt")).write_text("\n".join(names) + "\n\n")
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_idx_files_plain_or_packed(tmp_path: Path, packed: bool, dot: bool) -> None:
    data = load("mnist", data_dir=write_idx(tmp_path, packed, dot))
    assert data.classes == tuple("0123456789")
    np.testing.assert_array_equal(data.test.inputs[:, 0].numpy(), PIXELS[40:])
    np.testing.assert_array_equal(data.test.targets.numpy(), LABELS[40:])
    assert len(data.train) + len(data.validation) == 40


def test_fashion_mnist_is_found_beside_mnist_and_where_debian_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "_DEBIAN", tmp_path / "debian")
    with pytest.raises(
        ValueError, match=r"fashion-mnist: no such files in .*/debian; expected fashion-mnist\.npz"
    ):
        load("fashion-mnist")
    write_idx(tmp_path / "debian", packed=True)
    data = load("fashion-mnist")
    assert (data.classes[0], data.classes[9]) == ("T-shirt/top", "Ankle boot")
    write_idx(tmp_path / "own" / "fashion-mnist")
    (tmp_path / "own" / "fashion-mnist" / "t10k-images-idx3-ubyte").write_bytes(idx(PIXELS[40:] // 2))
    own = load("fashion-mnist", data_dir=tmp_path / "own")
    np.testing.assert_array_equal(own.test.inputs[:, 0].numpy(), PIXELS[40:] // 2)


def test_an_npz_of_the_same_name_serves_too(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    np.savez(
        tmp_path / "mnist" / "mnist.npz",
        x_train=PIXELS[:40],
        y_train=LABELS[:40],
        x_test=PIXELS[40:],
        y_test=LABELS[40:],
    )
    for folder in (tmp_path, tmp_path / "mnist"):
        data = load("mnist", data_dir=str(folder))
        np.testing.assert_array_equal(data.test.inputs[:, 0].numpy(), PIXELS[40:])


def test_cifar_records(tmp_path: Path) -> None:
    for name, batches in (("cifar10", 5), ("cifar100", 1)):
        folder = write_cifar(tmp_path / name, name)
        data = load(name, data_dir=folder)
        assert data.classes == tuple(f"thing_{n}" for n in range(10))
        assert len(data.train) + len(data.validation) == 20 * batches
        assert data.test.targets.tolist() == [row % 10 for row in range(20)]
        for row in (0, 19):
            expected = ((np.arange(3072) + 20 * batches + row) % 256).reshape(3, 32, 32)
            np.testing.assert_array_equal(data.test.inputs[row].numpy(), expected)


def test_the_test_images_alone_serve_as_ood(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar100")
    write_cifar(tmp_path, "cifar10")
    for file in (tmp_path / "cifar-10-batches-bin").glob("data_batch_*"):
        file.unlink()
    data = load("cifar100", data_dir=tmp_path, ood="cifar10")
    assert data.ood is not None
    assert data.ood.shape == (20, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"data_batch_1\.bin: no such file, expected records of CIFAR's binary"
    ):
        load("cifar10", data_dir=tmp_path)


def test_the_pickled_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(
        ValueError, match=r"is pickle, which can run any code.*expected the binary version"
    ) as caught:
        load("cifar10", data_dir=tmp_path)
    assert "cifar-10-batches-bin" in str(caught.value)
    assert "cifar10.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "contents", "message"),
    [
        (
            "train-images-idx3-ubyte",
            idx(PIXELS[:40])[:-1],
            "holds 2559 bytes of data, expected 2560 for the sha",
        ),
        ("train-images-idx3-ubyte", idx(PIXELS[:40]) + b"x", "holds 2561 bytes of data, expected 2560"),
        ("train-images-idx3-ubyte", idx(LABELS[:40]), "starts with 00000801, expected 00000803, an IDX file"),
        ("train-labels-idx1-ubyte", b"\x00\x00", "starts with 0000, expected 00000801"),
        ("train-labels-idx1-ubyte", b"", "starts with nothing, expected 00000801"),
        ("train-labels-idx1-ubyte", b"\x00\x00\x08\x01\x00\x00", "starts with 00000801, expected"),
        ("train-labels-idx1-ubyte", idx(LABELS[:39]), "holds 39 labels, expected 40, one an image"),
        ("train-labels-idx1-ubyte", idx(LABELS[:40] + 1), "holds the label 10, expected 0 to 9"),
    ],
)
def test_damaged_idx_files_get_one_line(tmp_path: Path, file: str, contents: bytes, message: str) -> None:
    (write_idx(tmp_path) / file).write_bytes(contents)
    with pytest.raises(ValueError, match=message) as caught:
        load("mnist", data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_missing_and_broken_files_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"mnist: data_dir was not given; expected mnist\.npz or the IDX files"
    ):
        load("mnist")
    with pytest.raises(ValueError, match=r"data_dir: got .*/none, expected a folder"):
        load("mnist", data_dir=tmp_path / "none")
    with pytest.raises(
        ValueError, match=r"cifar100: no such files in .*; expected cifar100\.npz or the folder cif"
    ):
        load("cifar100", data_dir=tmp_path)
    write_idx(tmp_path, packed=True)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for contents in (whole[: len(whole) // 2], b"not packed", bytes(damaged)):
        images.write_bytes(contents)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: .*expected"):
            load("mnist", data_dir=tmp_path)
    images.unlink()
    with pytest.raises(ValueError, match="no file train-images-idx3-ubyte or train-images-idx3-ubyte"):
        load("mnist", data_dir=tmp_path)


def test_damaged_cifar_files_get_one_line(tmp_path: Path) -> None:
    inner = write_cifar(tmp_path, "cifar100") / "cifar-100-binary"
    train = (inner / "train.bin").read_bytes()
    for contents, message in (
        (train[:-1], "train.bin: holds 61479 bytes, expected a multiple of 3074"),
        (b"", "train.bin: holds 0 bytes"),
        (b"\x00\x0a" + train[2:], "cifar-100-binary: holds the label 10, expected 0 to 9"),
    ):
        (inner / "train.bin").write_bytes(contents)
        with pytest.raises(ValueError, match=message):
            load("cifar100", data_dir=tmp_path)
    (inner / "fine_label_names.txt").unlink()
    with pytest.raises(
        ValueError, match=r"fine_label_names\.txt: no such file, expected the names of the classes"
    ):
        load("cifar100", data_dir=tmp_path)
