"""What reaches the terminal, whatever is in the data and whatever takes it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from criterium._visible import encodable, takes_any_text, visible, visible_json
from criterium.cli import app
from criterium.terminal import Plain


@pytest.mark.parametrize("code", [0, 7, 8, 9, 13, 27, 127, 0x9B, 0x202E, 0x2067, 0x200F, 0x2028, 0xDC80])
def test_nothing_acts_on_the_terminal(code: int) -> None:
    assert visible(f"a{chr(code)}b") == f"a{chr(code).encode('unicode_escape').decode()}b"
    assert json.loads(visible_json(json.dumps(f"a{chr(code)}b", ensure_ascii=False))) == f"a{chr(code)}b"
    visible_json(json.dumps(chr(code), ensure_ascii=False)).encode()


def test_words_of_any_language_stay() -> None:
    text = "▲ −1.5 ± 0.2 猫 кошка\nchat é"
    assert visible(text) == text


def test_lines_have_an_end() -> None:
    shown = visible("x" * 5_000_000 + "end\nnext")
    assert len(shown) < 2100
    assert shown.endswith("end\nnext")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437"])
def test_encodings_that_lack_characters(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    takes_any_text(stream)
    stream.write("▲ −1 ≈ 2 … 猫 ─\udc80")
    stream.flush()
    assert raw.getvalue().decode(encoding).startswith("^ -1 ~ 2 ") or encoding == "cp437"
    assert "\\u732b" in raw.getvalue().decode(encoding)
    assert not encodable("猫", stream)


def command(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "criterium.cli", *words], stderr=subprocess.PIPE, check=False, **options
    )  # type: ignore[call-overload]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full device")
def test_a_full_or_closed_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        shown = command("list", "metrics", stdout=full)
    assert (shown.returncode, shown.stderr) == (2, b"criterium: standard output: No space left on device\n")
    shown = command("list", "metrics", preexec_fn=lambda: os.close(1))
    assert (shown.returncode, shown.stderr) == (2, b"criterium: standard output: is closed\n")


def test_a_full_progress_ends_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    Plain(Console(file=Full())).stage("training", 3)


def test_options_are_called_as_typed() -> None:
    for words, start in (
        (["--batch-size", "0"], "--batch-size: got 0"),
        (["--label", "y"], "--label: got 'y'"),
        (["--lr", "-1"], "--lr: got -1"),
        (["--learning-rate=-1"], "--learning-rate: got -1"),
    ):
        result = CliRunner().invoke(app, ["compare", "exact", *words])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"criterium: {start}"), result.stderr
        assert len(result.stderr.splitlines()) == 1
