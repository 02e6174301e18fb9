"""Files that would take all memory, never end, or start another program: refused in one line, at once."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from criterium._checks import choice, nearest
from criterium.data import limits, load
from criterium.data.hierarchy import levels, read_hierarchy

LABELS = {"y_train": np.arange(40) % 2, "x_test": np.zeros((20, 3), np.float32), "y_test": np.arange(20) % 2}


def npy(descr: str, shape: str, contents: bytes) -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + contents


def npz(folder: Path, **members: Any) -> str:
    with zipfile.ZipFile(folder / "t.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in (LABELS | members).items():
            if not isinstance(member, bytes):
                buffer = io.BytesIO()
                np.save(buffer, member)
                member = buffer.getvalue()
            archive.writestr(f"{name}.npy", member)
    return f"npz:{folder / 't.npz'}"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            npy("<f8", "(1374389534720, 1)", b"\0" * 80),
            "says that it holds 10,995,116,277,760 bytes, but holds 80",
        ),
        (npy("<f8", "(True, 10)", b"\0" * 80), r"has the shape \(True, 10\), expected whole numbers"),
        (npy("<f8", "(-1, 10)", b"\0" * 80), r"has the shape \(-1, 10\), expected whole numbers"),
        (npy("<f4", "(0, 1000000000000)", b""), "has the shape .*, expected fewer columns"),
        (npy("|O", "(40, 3)", b"\x80\x04."), "needs pickle"),
        (npy("<f4", "(40, 3)", b"\0" * 100), "says that it holds 480 bytes, but holds 100"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 8999 + b"\n", "has a broken header"),
    ],
)
def test_headers_that_lie_are_refused_before_anything_is_read(
    tmp_path: Path, member: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"t\.npz: x_train {message}") as caught:
        load(npz(tmp_path, x_train=member))
    assert "\n" not in str(caught.value)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = npz(tmp_path, x_train=npy("|u1", "(4194304, 2)", bytes(2**23)))
    with pytest.raises(ValueError, match="x_test holds float32 rows"):
        load(source)  # 8 MB may be unpacked, and are no 40 rows
    monkeypatch.setattr(limits, "_BOMB_SIZE", 2**22)
    with pytest.raises(
        ValueError, match=r"what it holds unpacks from .* to 8\.0 MiB or more, expected at most 500 times"
    ):
        load(source)
    for stem in ("train", "t10k"):
        for kind, numbers in (("images-idx3", (3, 20000, 28, 28)), ("labels-idx1", (1, 20000))):
            head = struct.pack(f">3x2B{len(numbers) - 1}I", 8, *numbers)[1:]
            body = bytes(int(np.prod(numbers[1:])))
            (tmp_path / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + body))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: unpacks from .* bytes to .* or more"):
        load("mnist", data_dir=str(tmp_path))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,y\n" + b"1,2\n" * 2**21))
    with pytest.raises(ValueError, match=r"t\.csv\.gz: unpacks from .* bytes to"):
        load(f"csv:{tmp_path / 't.csv.gz'}", label="y")


def test_what_does_not_fit_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY", 2**20)
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({"a": np.zeros(50_000), "y": np.arange(50_000) % 2}), path)
    with pytest.raises(
        ValueError, match=r"50,000 rows of 2 columns would take 6\.1 MiB in memory, expected at most 1\.0"
    ):
        load(f"parquet:{path}", label="y")
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), pa.array(["x" * 10_000]))
    pyarrow.parquet.write_table(pa.table({"a": text, "y": np.arange(2000) % 2}), path)
    with pytest.raises(ValueError, match=r"a column of text would take 19\.1 MiB"):
        load(f"parquet:{path}", label="y")
    cells = {f"c{column}": [f"v{(row * 7 + column) % 400}" for row in range(500)] for column in range(6)}
    pyarrow.parquet.write_table(pa.table({**cells, "y": np.arange(500) % 2}), path)
    with pytest.raises(
        ValueError, match=r"data: 1,\d\d\d features of 3\d\d rows would take .* MiB in memory"
    ):
        load(f"parquet:{path}", label="y")
    with pytest.raises(ValueError, match="what it holds would take"):
        load(npz(tmp_path, x_train=np.zeros((40, 9000)), x_test=np.zeros((20, 9000))))


def test_half_of_the_memory_is_the_limit() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < limits.memory() <= total // 2
    limits.fits("x:", limits.memory())
    with pytest.raises(ValueError, match=r"x: would take .* in memory, expected at most"):
        limits.fits("x:", limits.memory() + 2**20)


def images(folder: Path) -> Path:
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_the_size_of_an_image_is_read_before_its_pixels(tmp_path: Path) -> None:
    path = images(tmp_path) / "ant" / "0.png"
    data = path.read_bytes()
    head = b"IHDR" + struct.pack(">2I", 40_000, 40_000) + data[24:29]  # pixels that would take 1.6 GB
    path.write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    with pytest.raises(ValueError, match=r"ant/0\.png: has more pixels than max_pixels=50,000,000 allows"):
        load(f"folder:{tmp_path}")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"ant/0\.png: has 64 pixels, more than max_pixels=63 allows"):
        load(f"folder:{tmp_path}", max_pixels=63)
    assert len(load(f"folder:{tmp_path}", max_pixels=64).train) > 0


def test_no_image_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", never)
    path = images(tmp_path) / "ant" / "0.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(ValueError, match=r"ant/0\.png: cannot identify image file; expected an image"):
        load(f"folder:{tmp_path}")


def test_pipes_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(images(tmp_path) / "ant" / "pipe.png")
    with pytest.raises(ValueError, match=r"ant/pipe\.png: is no regular file, expected an image"):
        load(f"folder:{tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for kind in ("csv", "parquet", "npz"):
        label = None if kind == "npz" else "y"
        for name, what in (("pipe", "is no regular file"), ("ant", "is a folder"), ("none", "no such file")):
            with pytest.raises(ValueError, match=rf"{name}: {what}, expected"):
                load(f"{kind}:{tmp_path / name}", label=label)
        with pytest.raises(ValueError, match="/dev/zero: is no regular file, expected"):
            load(f"{kind}:/dev/zero", label=label)
        with pytest.raises(ValueError, match="loop: "):
            load(f"{kind}:{tmp_path / 'loop'}", label=label)


def test_a_wide_table_costs_by_the_column(tmp_path: Path) -> None:
    columns = 3000
    cells = np.random.default_rng(0).integers(0, 9, (30, columns))
    lines = [",".join(map(str, row)) + f",{number % 2}" for number, row in enumerate(cells)]
    (tmp_path / "t.csv").write_text(
        ",".join(f"c{column}" for column in range(columns)) + ",y\n" + "\n".join(lines)
    )
    assert load(f"csv:{tmp_path / 't.csv'}", label="y").train.inputs.shape[1] == columns
    with pytest.raises(
        ValueError, match=r"label: got 'nope', expected one of c0, .* and 2,901 more"
    ) as caught:
        load(f"csv:{tmp_path / 't.csv'}", label="nope")
    assert len(str(caught.value)) < 1000


def test_long_names_are_shortened(tmp_path: Path) -> None:
    rows = [f"{row},{'ab'[row % 2] * 100_000 if row < 4 else 'c'}" for row in range(60)]
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(rows))
    with pytest.raises(ValueError, match=r"class 'a{60}\.\.\.' has 2 rows") as caught:
        load(f"csv:{tmp_path / 't.csv'}", label="y")
    assert len(str(caught.value)) < 500


def tree(folder: Path, pairs: dict[str, str]) -> str:
    (folder / "h.json").write_text(json.dumps(pairs))
    return str(folder / "h.json")


def test_a_long_chain_is_read_in_linear_time(tmp_path: Path) -> None:
    chain = {f"n{number}": f"n{number + 1}" for number in range(20_000)}
    found = read_hierarchy(tree(tmp_path, chain | {"a": "n0", "b": "n0", "c": "m"}), ["a", "b", "c"])
    assert [len(way) for way in found] == [20_002, 20_002, 2]
    assert set(levels(found)) == {(0, 0, 1)}
    with pytest.raises(ValueError, match=r"'n0' is its own ancestor: n0 -> n1 .* \.\.\. .* -> n0") as caught:
        read_hierarchy(tree(tmp_path, chain | {"n20000": "n0"}), ["n1"])
    assert len(str(caught.value)) < 500


def test_trees_that_are_too_deep_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h.json").write_text('{"a":' * 100_000)
    with pytest.raises(ValueError, match=r"h\.json: is nested too deeply, expected an object"):
        read_hierarchy(str(tmp_path / "h.json"), ["a"])
    with pytest.raises(
        ValueError, match=r"h\.json, line 1: 'leaf 0' is no class of the data and nobody's parent"
    ):
        read_hierarchy(tree(tmp_path, {f"leaf {number}": "p" for number in range(100_000)}), ["a"])
    monkeypatch.setattr("criterium.data.hierarchy._DEEPEST", 100)
    chain = {f"n{number}": f"n{number + 1}" for number in range(60)}
    with pytest.raises(ValueError, match="2 classes hang 62 deep, expected at most 100 names"):
        read_hierarchy(tree(tmp_path, chain | {"a": "n0", "b": "n0"}), ["a", "b"])


def test_names_are_compared_in_a_moment() -> None:
    assert nearest("x" * 10**6, ["x"] * 10**5) == ""
    assert nearest("number 17", (f"number {index}" for index in range(10**5))).startswith("; did you mean")
    with pytest.raises(ValueError, match=r"expected one of a, b, 0, .*, 97 and 99,902 more"):
        choice("x", "c", ["a", "b", *map(str, range(10**5))])
