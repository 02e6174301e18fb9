"""The options of the commands that say how data are read: each reaches the `Source`, which documents it."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.testing import CliRunner, Result

from criterium._data_options import DATA_OPTIONS, given
from criterium.cli import app
from criterium.data import Source
from criterium.data.sources import SourceOptions


def criterium(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_every_field_of_a_source_is_an_option_and_documented() -> None:
    names = {field.name for field in dataclasses.fields(Source)}
    by_themselves = {"data", "data_dir", "label", "ood", "hierarchy", "validation"}
    assert set(DATA_OPTIONS) | by_themselves == names
    assert set(get_type_hints(SourceOptions)) | {"data"} == names
    page = inspect.getdoc(Source) or ""
    for name in names:
        assert f"{name}: " in page


def test_options_that_were_not_given_leave_the_default() -> None:
    assert given({name: default for name, (_, default) in DATA_OPTIONS.items()}) == {}
    assert given({"groups": "who", "nested": True, "skip_bad": 0}) == {"groups": "who", "nested": True}


def test_a_command_reads_data_as_its_options_say(tmp_path: Path) -> None:
    rows = [f"{row * 0.37:.2f};{row // 5};x;{'ab'[row // 5 % 2]}" for row in range(150)]
    (tmp_path / "t.csv").write_text("n;who;extra;y\n" + "\n".join(rows))
    words = ["train", "cross-entropy", "--data", f"csv:{tmp_path / 't.csv'}", "--label", "y", "-q"]
    options = ["--groups", "who", "--drop", "extra", "--separator", ";", "--model", "linear", "--epochs", 1]
    done = criterium(*words, *options, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "Groups: 20 in train, 4 in validation, 6 in test." in config["data"]["notes"]
    assert '"groups": "who"' in json.dumps(config)
    wrong = criterium(*words, "--image-size", 8)
    assert wrong.exit_code == 2
    assert "image-size: got 8 for csv" in wrong.output


@pytest.mark.parametrize("command", ["compare", "train", "search"])
def test_the_help_tells_them(command: str) -> None:
    shown = criterium(command, "--help").output
    for name in DATA_OPTIONS:
        assert f"--{name.replace('_', '-')}" in shown
