"""Random and broken files of every form: what comes of each is a `Dataset`, or one line with file and cause.

``python tests/data/fuzzing.py [SECONDS [FIRST_SEED]]`` goes on for so long, in a process of limited memory.
Each case has a seed; what fails says which, and ``python tests/data/fuzzing.py 0 SEED`` runs it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from criterium.data import limits, load
from criterium.data.hierarchy import read_hierarchy

MEMORY = 2**28  # bytes that a source may take, by the limit that users have too
ADDRESS_SPACE = 2**31  # bytes beyond what Python and its libraries take before the first case
SECONDS = 10  # for one case, of processor time

CELLS = (
    *(
        "1",
        "2",
        "3",
        "0.5",
        "-1e9",
        "1e308",
        "1e-320",
        "007",
        "1,5",
        "1,000",
        "12%",
        "$3",
        "nan",
        "inf",
        "-",
        "?",
    ),
    *(
        "",
        " ",
        "NA",
        "null",
        "a",
        "b",
        "c",
        "A",
        "a ",
        "é",
        "e\u0301",
        "\u200b",
        "\u202e",
        "\x00",
        "\x1b[2J",
        "😀",
    ),
    *(
        "true",
        "false",
        "2024-02-29",
        "2023-02-29",
        "2024-01-01 10:00",
        "9007199254740993",
        "9" * 40,
        "x" * 300,
    ),
    *('"', '""', '"a', "a,b", "a;b", "a\tb", "a\nb", "'", "\\", "\r", "=1+1", "\ufeff"),
)
NAMES = (
    "y",
    "x",
    "z",
    "",
    "y",
    "Unnamed: 0",
    "__index_level_0__",
    "größe",
    "a b",
    "a,b",
    "\n",
    "n" * 300,
    "1",
    "\x1b[2J",
)


class Case:
    """One random input: its random numbers and its folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.folder = folder
        self.tame = self.chance(0.5)  # a file such as people have, but for some odd cells and options

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def any(self, values: Any) -> Any:
        return self.random.choice(values)

    def mutated(self, data: bytes, probability: float = 0.5) -> bytes:
        """Return `data`, or `data` with some of its bytes changed, lost, doubled or moved."""
        if not data or self.tame or not self.chance(probability):
            return data
        broken = bytearray(data)
        for _ in range(self.any((1, 1, 2, 5, 20))):
            at = self.random.randrange(len(broken)) if broken else 0
            length = self.any((1, 1, 4, 64))
            how = self.random.randrange(6)
            if how == 0:
                broken[at : at + 1] = bytes([self.random.randrange(256)])
            elif how == 1:
                del broken[at:]
            elif how == 2:
                del broken[at : at + length]
            elif how == 3:
                broken[at:at] = broken[at : at + length] * self.any((1, 3, 100))
            elif how == 4:
                broken[at : at + 4] = self.any(
                    (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
                )
            else:
                broken[at:at] = self.random.randbytes(length)
        return bytes(broken)


def csv(case: Case) -> tuple[str, dict[str, Any]]:
    separator = case.any(",,,;\t|")
    columns, rows = case.random.randrange(1, 7), 60 if case.tame else case.any((0, 1, 5, 30, 60))
    names = [case.any(NAMES[: case.any((3, 14))]) for _ in range(columns)] + ["y"] * case.chance(0.8)
    if case.tame:
        names = [*case.random.sample(sorted({*NAMES} - {"y"}), columns), "y"]
    pools = [case.random.sample(CELLS, case.any((2, 3, 3, 8))) for _ in names]
    for pool in pools:
        if case.chance(0.5):
            pool[2:] = [str(number) for number in range(case.any((2, 50)))] * 3
    if case.tame:
        pools[-1] = case.random.sample(CELLS, 2)
    table = [names] + [[case.any(pool) for pool in pools] for _ in range(rows)]
    if case.chance(0.8):
        table = [
            [
                f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',;\t|\n"\r') else cell
                for cell in row
            ]
            for row in table
        ]
    text = case.any(("\n", "\n", "\r\n", "\r")).join(separator.join(row) for row in table)
    data = text.encode(
        case.any(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32")), errors="replace"
    )
    name = case.any(("t.csv", "t.csv", "t.csv.gz"))
    data = gzip.compress(data) if name.endswith("gz") and case.chance(0.8) else data
    (case.folder / name).write_bytes(case.mutated(data, 0.3))
    return f"csv:{case.folder / name}", table_options(case, names)


def table_options(case: Case, names: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"label": "y" if case.tame else case.any((None, "y", "y", *NAMES))}
    for option in ("groups", "time", "drop", "split"):
        if case.chance(0.1):
            options[option] = case.any(names)
    if case.chance(0.1):
        options["ood"] = case.any(("classes:a", "classes:1,b", "array", "csv:/nope", "none"))
    if case.chance(0.1):
        options |= {"missing": case.any(CELLS), "decimal": case.any(".,")}
    return options


def parquet(case: Case) -> tuple[str, dict[str, Any]]:
    rows = 60 if case.tame else case.any((0, 1, 30, 60))
    numbers = case.numpy.integers(-3, 4, rows)
    makers: list[Callable[[], Any]] = [
        lambda: pa.array(numbers),
        lambda: pa.array(numbers * 2 ** case.any((1, 40, 60))),
        lambda: pa.array(case.numpy.normal(size=rows) * case.any((1.0, 1e300, 1e-300, np.inf))),
        lambda: pa.array([case.any((None, *CELLS)) for _ in range(rows)], pa.string()),
        lambda: pa.array([case.any("abc") for _ in range(rows)]).dictionary_encode(),
        lambda: pa.array([case.any(CELLS) for _ in range(rows)], pa.large_string()),
        lambda: pa.array([case.any("uv") for _ in range(rows)], pa.string_view()),
        lambda: pa.array(numbers > 0),
        lambda: pa.array(numbers).cast(pa.decimal128(30, 3)),
        lambda: pa.array(numbers.astype(np.float16)),
        lambda: pa.nulls(rows),
        lambda: pa.array(numbers * 10**9).cast(
            pa.timestamp(case.any(("s", "us", "ns")), case.any((None, "UTC")))
        ),
        lambda: pa.array(numbers.astype(np.int32) * 10**5).cast(pa.date32()),
        lambda: pa.array(np.abs(numbers)).cast(pa.time64("us")),
        lambda: pa.array(numbers).cast(pa.duration("ms")),
        lambda: pa.array([[1.0, 2.0]] * rows),
        lambda: pa.array([{"a": 1}] * rows),
        lambda: pa.array([b"\xff\x00"] * rows),
        lambda: pa.array(np.full(rows, 2**64 - 1, np.uint64)),
    ]
    names = case.random.sample(sorted(set(NAMES) - {"y"}), case.random.randrange(1, 6))
    table = pa.table([case.any(makers)() for _ in names], names)
    if case.tame or case.chance(0.9):
        label = (
            case.any(makers)()
            if not case.tame and case.chance(0.4)
            else pa.array([case.any("ab") for _ in range(rows)])
        )
        table = table.append_column("y", label)
    if case.chance(0.3):
        meta = case.any((b"{", b"[1]", b'{"index_columns": ["x"]}', b'{"index_columns": 5}', b"\xff"))
        table = table.replace_schema_metadata({b"pandas": meta})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression=case.any(("snappy", "none", "zstd")))
    (case.folder / "t.parquet").write_bytes(case.mutated(buffer.getvalue()))
    return f"parquet:{case.folder / 't.parquet'}", table_options(case, names)


def npz(case: Case) -> tuple[str, dict[str, Any]]:
    width = case.any((1, 3, 3, 3))
    if case.tame:
        shape, kind = case.any(
            (((width,), "f4"), ((width,), "f8"), ((4, 4), "u1"), ((4, 4, 3), "u1"), ((2,), "i8"))
        )
    else:
        shape = case.any(((width,), (width,), (4, 4), (4, 4, 3), (4, 4, 5), (), (0,)))
        kind = case.any(("f4", "f8", "u1", "i8", "?", "f2", "c8", "U3", "M8[s]", "O", "V4", ">f4", "g"))
    arrays: dict[str, Any] = {}
    for part, rows in (("train", 40), ("val", 10), ("test", 20)):
        if part == "val" and case.chance(0.6):
            continue
        rows = rows if case.tame or case.chance(0.9) else case.any((0, 1, 7))
        values = case.numpy.integers(0, 256, (rows, *shape)) * case.any((1, 1, 1, 2**50))
        with np.errstate(all="ignore"):
            arrays[f"x_{part}"] = values.astype(kind if case.tame or case.chance(0.9) else "f4")
        labels = case.numpy.integers(case.any((0, 0, -1)), 3, rows)
        arrays[f"y_{part}"] = labels.astype(
            case.any(("i8", "i4") if case.tame else ("i8", "f4", "U3", "?", "u1", "S2"))
        )
    if not case.tame and case.chance(0.2):
        arrays["classes"] = np.array([case.any(CELLS) for _ in range(case.any((1, 3, 5)))])
    if case.chance(0.2):
        arrays["groups"] = case.numpy.integers(0, 9, 40)
    if case.chance(0.2):
        arrays["ood_x"] = arrays["x_train"][:5]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", case.any((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=True)
            data = member.getvalue()
            if not case.tame and case.chance(0.1):
                start = data.index(b"\n") + 1
                lengths = case.any(
                    (
                        "(40, 3)",
                        "(True, 3)",
                        "(-1,)",
                        "(9999999999, 99999)",
                        "()",
                        "(0, 99999999999)",
                        "((1,),)",
                    )
                )
                kind_said = case.any(("<f4", "|u1", "<U999999", "|O"))
                said = f"{{'descr': '{kind_said}', 'fortran_order': False, 'shape': {lengths}, }}"
                data = header(said) + data[start:]
            archive.writestr(f"{name}.npy", case.mutated(data, 0.05))
    (case.folder / "t.npz").write_bytes(case.mutated(buffer.getvalue(), 0.3))
    return f"npz:{case.folder / 't.npz'}", {}


def header(text: str) -> bytes:
    line = f"{text}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line


def folder(case: Case) -> tuple[str, dict[str, Any]]:
    size = (4 if case.tame else case.any((1, 5)), 4)
    modes = case.any((("L", "1", "LA"), ("RGB", "RGBA", "P", "CMYK", "L")))
    modes = modes if case.tame else (*modes, "I;16", "F")
    names = case.random.sample(("ant", "bee", "cow", "\u202e", "train", "test"), case.any((1, 2, 2, 3)))
    for name in ("ant", "bee") if case.tame else names:
        inner = case.folder / "f" / name
        inner.mkdir(parents=True)
        for number in range(8 if case.tame else case.any((0, 4, 6, 6))):
            write_image(
                case, inner / f"{number}.{case.any(('png', 'jpg', 'tif', ''))}", size, case.any(modes)
            )
        if case.tame:
            continue
        if case.chance(0.05):
            os.mkfifo(inner / "pipe.png")
        if case.chance(0.05):
            (inner / "loop.png").symlink_to(inner / "loop.png")
        if case.chance(0.05):
            (inner / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    return f"folder:{case.folder / 'f'}", {"max_pixels": 10**6 if case.tame else case.any((10**6, 10))}


def write_image(case: Case, path: Path, size: tuple[int, int], mode: str) -> None:
    pixels = case.numpy.integers(0, 256, (*size, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = case.any((1, 1, 3, 6, 99))
    kind = case.any(("PNG", "PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"))
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, exif=exif)
    except (OSError, ValueError, KeyError):  # a format that has no such mode
        image.convert("RGB").save(buffer, "PNG", exif=exif)
    data = buffer.getvalue()
    if not case.tame and case.chance(0.02) and data.startswith(b"\x89PNG"):
        head = b"IHDR" + struct.pack(">2I", 30_000, 30_000) + data[24:29]
        data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    path.write_bytes(case.mutated(data, 0.1))


def idx(case: Case) -> tuple[str, dict[str, Any]]:
    for stem, rows in (("train", 40), ("t10k", 20)):
        images = case.numpy.integers(0, 256, (rows, 3, 3)).astype(np.uint8)
        labels = case.numpy.integers(0, 10 if case.tame else case.any((10, 11)), rows).astype(np.uint8)
        said = rows if case.tame else case.any((rows, rows, rows, 0, 2**32 - 1))
        for name, data in (
            (f"{stem}-images-idx3-ubyte", struct.pack(">4B3I", 0, 0, 8, 3, said, 3, 3) + images.tobytes()),
            (f"{stem}-labels-idx1-ubyte", struct.pack(">4BI", 0, 0, 8, 1, rows) + labels.tobytes()),
        ):
            packed = case.chance(0.5)
            data = case.mutated(gzip.compress(data) if packed else data, 0.15)
            (case.folder / (name + ".gz" * packed)).write_bytes(data)
    return "mnist", {"data_dir": str(case.folder)}


def hierarchy(case: Case) -> None:
    names = [case.any((str(number), str(number), case.any(CELLS))) for number in range(10)]
    parents = [case.any((*(f"p{number}" for number in range(4)), *names, *CELLS[:9])) for _ in names]
    pairs = list(zip(names, parents, strict=True)) + [
        (f"p{number}", case.any(("root", "q"))) for number in range(4)
    ]
    if case.chance(0.1):
        pairs += [(f"n{number}", f"n{number + 1}") for number in range(3000)]
    if case.tame:
        pairs = [(str(number), f"p{case.random.randrange(4)}") for number in range(10)]
        names, pairs = [name for name, _ in pairs], pairs + [(f"p{number}", "q") for number in range(4)]
    elif case.chance(0.5):
        pairs = [pair for pair in pairs if pair[0].isascii() and pair[0].isprintable() and pair[0].strip()]
        names = [name for name, _ in pairs if not name.startswith(("p", "n"))]
    path = case.folder / f"h.{case.any(('csv', 'json'))}"
    if path.suffix == ".json":
        text = (
            json.dumps(dict(pairs))
            if case.tame or case.chance(0.9)
            else case.any(('{"a":' * 50_000, "[[]]", "5", "{}"))
        )
    else:
        text = "".join(f"{name},{parent}\n" for name, parent in pairs)
    path.write_bytes(case.mutated(text.encode(), 0.3))
    found = read_hierarchy(str(path), list(dict.fromkeys(names)))
    assert len(found) == len(set(names))


FORMS: dict[str, Callable[[Case], Any]] = {
    form.__name__: form for form in (csv, parquet, npz, folder, idx, hierarchy)
}


def run(form: str, seed: int) -> str:
    """Run one case; return ``"read"`` or ``"refused"``, or raise what is wrong with the outcome."""
    started = time.process_time()
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        source = "h"
        try:
            made = FORMS[form](Case(seed, Path(place)))
            if made is not None:
                source, options = made
                data = load(source, **options)
                for part in (data.train, data.validation, data.test):
                    assert part.inputs.isfinite().all() and len(part) and int(part.targets.min()) >= 0
                    assert int(part.targets.max()) < len(data.classes)
                assert data.center.isfinite().all() and data.scale.isfinite().all() and (data.scale > 0).all()
            outcome = "read"
        except ValueError as error:
            said = str(error)
            assert said and len(said.splitlines()) == 1 and len(said) < 3000, f"not one line: {said!r}"
            words = (
                "label:",
                "groups:",
                "time:",
                "split:",
                "ood:",
                "drop:",
                "max_pixels:",
                "hierarchy:",
                place,
            )
            assert place in said or said.startswith(words), f"names no file: {said}"
            outcome = "refused"
    assert (spent := time.process_time() - started) < SECONDS, f"took {spent:.1f} s"
    return outcome


def main(seconds: float, first: int) -> None:
    limits.MEMORY = MEMORY
    warnings.simplefilter("error")
    load("digits", ood="none")  # so that all libraries are there before memory is limited
    for form in FORMS:
        with contextlib.suppress(ValueError):
            run(form, 0)
    with contextlib.suppress(OSError):  # no such file beyond Linux
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    counts: dict[str, Counter[str]] = {form: Counter() for form in FORMS}
    end, seed = time.monotonic() + seconds, first
    while True:
        for form in FORMS:
            faulthandler.dump_traceback_later(10 * SECONDS, exit=True)
            try:
                counts[form][run(form, seed)] += 1
            except BaseException:
                print(f"failed: {form}, seed {seed}", file=sys.stderr)  # noqa: T201
                raise
        seed += 1
        if time.monotonic() > end:
            break
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(counts))  # noqa: T201


if __name__ == "__main__":
    _, *given = sys.argv
    main(float(given[0]) if given else 20.0, int(given[1]) if len(given) > 1 else 0)
