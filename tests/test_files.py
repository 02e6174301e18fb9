"""Files that are there whole or not at all, and nowhere else than where they are meant to be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from criterium._files import expanded, is_partial, page_at, read_json, whole, write_json
from criterium.engine.folder import alone, free_folder, made_place, opened_log
from criterium.evaluation.predictions import Predictions


def write(path: Path) -> None:
    with whole(path) as partial:
        partial.write_text("new")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "device"])
def test_only_regular_files_are_replaced(kind: str, tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    elsewhere.write_text("old")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    before = stat.S_IFMT(os.lstat(path).st_mode)
    with pytest.raises(ValueError, match=f"{path}: is a {kind}, expected a new or a regular file"):
        write(path)
    assert stat.S_IFMT(os.lstat(path).st_mode) == before
    assert elsewhere.read_text() == "old"
    assert not [entry for entry in tmp_path.iterdir() if is_partial(entry.name)]


@pytest.mark.parametrize("name", ["race-18:00", "a:b", "s3:x", "file:x", "gs:", "a%20b", "a?b#c", "é ü", "~"])
def test_names_are_no_addresses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    rows = Predictions([[1.0, 0.0]], [0], ["test"], [1.0])
    for path in (Path(name) / "predictions.parquet", Path(f"{name}.parquet")):
        rows.save(path)
        assert (tmp_path / path).is_file()
        assert np.array_equal(Predictions.load(path).logits, rows.logits)


def test_the_home_folder_is_put_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    assert expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert expanded("a/~/x") == Path("a/~/x")


def test_pages_spare_what_a_run_wrote(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"plan": {}, "data": {}, "machine": {}})
    (tmp_path / "runs").mkdir()
    for path in (tmp_path / "config.json", tmp_path / "runs" / "weights.safetensors"):
        with pytest.raises(ValueError, match="lies in the run folder"):
            page_at(path)
    assert page_at(tmp_path / "other.html") == tmp_path / "other.html"


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_names_that_are_no_text_are_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"folder": name, "class": "é"})
    assert read_json(tmp_path / "a.json") == {"folder": name, "class": "é"}
    with opened_log(tmp_path) as log:
        log.info("in %s", name)
    assert "in caf\\udce9" in (tmp_path / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", "NaN", "[" * 100_000, "\xff", "{} {}"])
def test_what_is_no_json_names_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json: is not a JSON file"):
        read_json(path)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
def test_json_without_an_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(ValueError, match=f"{name}: is not a JSON file"):
            read_json(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "race", tmp_path / "elsewhere"
    (root / "runs").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "log.txt").write_text("old")
    (root / "runs" / "exact-seed0").symlink_to(elsewhere)
    (root / "tuning").symlink_to(elsewhere)
    for place in (root / "runs" / "exact-seed0", root / "tuning" / "exact-0"):
        with pytest.raises(ValueError, match="is a link, expected a folder of this run"):
            made_place(root, place)
    (root / "log.txt").symlink_to(elsewhere / "log.txt")
    with pytest.raises(ValueError, match=r"log\.txt: is a link"), opened_log(root):
        pass
    (root / ".lock").symlink_to(elsewhere / "log.txt")
    with pytest.raises(ValueError, match=r"\.lock: is a link"), alone(root):
        pass
    assert [(entry.name, entry.read_text()) for entry in elsewhere.iterdir()] == [("log.txt", "old")]


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "exact-seed0"
    place.mkdir(parents=True)
    for name in (".predictions.parquet.4711", "progress", ".lock.keep", "run.json"):
        (place / name).touch()
    (tmp_path / ".results.parquet.12").touch()
    (tmp_path / "config.json").write_text(json.dumps({}))
    with alone(tmp_path):
        left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {".lock"} == {".lock.keep", "run.json", "config.json"}


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_a_folder_without_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="out: got"):
        free_folder(Path(name) if name else Path(" "))
