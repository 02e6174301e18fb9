"""Objectives of one's own: as objects, by Python path, by entry point; in workers, killed and resumed."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from typer.testing import CliRunner

import criterium
from criterium.cli import app
from criterium.comparison import Progress, race, study
from criterium.comparison.config import write_config
from criterium.comparison.labels import label_of, parse
from criterium.objectives import OBJECTIVES, Choice, Objective, Task, build
from criterium.training import loop

OWN = '''"""An objective written outside the package."""
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from criterium.objectives import Choice, Objective


class _Cold(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits / self.temperature, target)


@dataclass(frozen=True)
class Cold(Objective):
    name = "cold"
    search: ClassVar = {"temperature": Choice((0.25, 0.5))}
    temperature: float = 0.5

    def criteria(self, task):
        return (_Cold(self.temperature),)
'''
SETTINGS = {"model": "linear", "seeds": 2, "tune": 2, "device": "cpu"}
RECIPE = criterium.Recipe(epochs=3, batch_size=16)
PATH = "my_objectives:Cold"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in a folder with the objective and data, without figures and costs, which take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 1.0))
    (tmp_path / "my_objectives.py").write_text(OWN)
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    targets = np.arange(60) % 3
    np.savez("flowers.npz", x_train=inputs, y_train=targets, x_test=inputs[:30] + 1, y_test=targets[:30])
    yield tmp_path
    sys.modules.pop("my_objectives", None)


def own(**options: Any) -> Any:
    sys.path.append(str(Path.cwd()))
    return importlib.import_module("my_objectives").Cold(**options)


def run(objectives: Any, out: str, **more: Any) -> criterium.Study:
    options = {"recipe": RECIPE, "jobs": 1, **SETTINGS, **more}
    return criterium.compare("npz:flowers.npz", objectives=objectives, out=out, **options)


def numbers(folder: str | Path) -> tuple[bytes, Any]:
    """Return what must be the same to the bit."""
    root = Path(folder)
    table = criterium.open_study(root).table.to_dict()
    return (root / "results.parquet").read_bytes(), {key: table[key] for key in ("cells", "differences")}


def interrupt(folder: str) -> None:
    """Leave what a process leaves that was killed in the last run."""
    sorted(Path(folder).glob("runs/*/run.json"))[0].unlink()


class Told(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output + result.stderr


def test_an_objective_written_outside_is_raced_killed_and_resumed(here: Path) -> None:
    assert len([line for line in OWN.splitlines() if line]) <= 25
    whole = run(["cross-entropy", own(temperature=0.25)], "whole", tune=0, seeds=3)
    label = f"{PATH}:temperature=0.25"
    assert whole.table.objectives == ("cross-entropy", label)
    words = ["compare", "cross-entropy", label, "--data", "npz:flowers.npz", "--model", "linear", "-q"]
    words += ["--seeds", "3", "--tune", "0", "--epochs", "3", "--batch-size", "16", "--jobs", "1"]
    code = "import sys; from criterium.cli import main; sys.argv[0] = 'criterium'; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-c", code, *words, "--device", "cpu", "--out", "killed"]
    process = subprocess.Popen(started, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not list(Path("killed").glob("runs/*/run.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(list(Path("killed").glob("runs/*/run.json"))) < 6
    status, line = command("resume", "killed")
    assert status == 2
    assert line.endswith(f"name it again: criterium resume killed --objective {PATH}\n")
    status, output = command("resume", "killed", "--objective", PATH, "-q")
    assert status == 0, output
    assert numbers("killed") == numbers("whole")


def test_who_interrupts_or_begins_twice_is_told_the_whole_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Trainer, "epoch", interrupted)
    words = ["compare", PATH, "--data", "npz:flowers.npz", "--model", "linear", "--tune", "0", "--jobs", "1"]
    words += ["--device", "cpu", "--out", "race", "-q"]
    hint = f"criterium resume race --objective {PATH}\n"
    status, line = command(*words)
    assert status == 130
    assert line.endswith(f"interrupted; what is finished is kept, go on with: {hint}")
    status, line = command(*words)
    assert status == 2
    assert line.endswith(f"expected a new or an empty folder; go on with that one by: {hint}")


def test_workers_know_objects_that_no_name_leads_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")

    @dataclasses.dataclass(frozen=True)
    class Local(Objective):
        name = "local"
        search = {"smoothing": Choice((0.1, 0.2))}  # noqa: RUF012 - a notebook's style
        smoothing: float = 0.0
        other: int = 1

        def criteria(self, task: Task) -> tuple[nn.Module, ...]:
            return (nn.CrossEntropyLoss(label_smoothing=self.smoothing),)

    told = Told()
    given = [Local(other=2), criterium.objectives.Exact(start=1.0), own]
    with pytest.raises(ValueError, match="objectives: got <function own"):
        run(given, "refused")
    whole = run([*given[:2], own()], "whole", jobs=2, progress=told)
    assert whole.table.objectives == ("local:other=2", "exact:start=1.0", PATH)
    (note,) = (line for line in told.notes if "cannot be imported" in line)
    assert note.startswith("local:other=2 cannot be imported")
    assert "criterium.resume('whole', objectives=[...])" in note
    before = numbers("whole")
    interrupt("whole")
    with pytest.raises(ValueError, match=r"local:other=2 cannot be imported, expected the object itself"):
        criterium.resume("whole", objectives=[own()])
    with pytest.raises(
        ValueError, match=r"objectives: got local, expected local:other=2, my_objectives:Cold"
    ):
        criterium.resume("whole", objectives=[Local(), own()])
    with pytest.raises(ValueError, match=r"names code to run, my_objectives:Cold; if you trust it"):
        criterium.resume("whole", objectives=[Local(other=2)])
    criterium.resume("whole", objectives=[Local(other=2), own(temperature=0.5)])
    assert numbers("whole") == before
    # Looking at a race needs none of its code.
    sys.modules.pop("my_objectives")
    Path("my_objectives.py").write_text("raise SystemExit('ran')")
    assert command("evaluate", "whole")[0] == 0


def test_installed_packages_bring_objectives(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = here / "site"
    (installed / "my_package-1.0.dist-info").mkdir(parents=True)
    (installed / "my_package.py").write_text(OWN)
    (installed / "my_package-1.0.dist-info" / "METADATA").write_text("Name: my-package\nVersion: 1.0\n")
    points = "[criterium.objectives]\ncold = my_package:Cold\nwarm = my_package:Cold\ngone = my_package:No\n"
    (installed / "my_package-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(installed))
    status, output = command("list", "objectives")
    assert status == 0
    assert [word for line in output.splitlines() if line.startswith("cold ") for word in line.split()] == [
        "cold",
        "(my_package:Cold)",
    ]
    assert "objective: warm is installed as my_package:Cold, which calls itself 'cold'" in output
    assert "objective: my_package:No: module my_package has no attribute 'No'" in output
    assert label_of(build("cold", {"temperature": 0.25})) == ("cold:temperature=0.25", True)
    run(["cold", "cross-entropy"], "whole", tune=0)
    before = numbers("whole")
    assert criterium.open_study("whole").plan.objectives == ("cold", "cross-entropy")
    interrupt("whole")
    criterium.resume("whole")
    assert numbers("whole") == before
    with pytest.raises(ValueError, match=r"objective: got 'colt', expected one of .*did you mean .*'cold'"):
        build("colt")


@pytest.mark.parametrize(
    ("changed", "module"), [("whole.evil:Cold", "evil"), ("whole.inner.evil:Cold", "inner/evil")]
)
def test_nothing_in_a_run_folder_is_imported(here: Path, changed: str, module: str) -> None:
    run(["cross-entropy", "exact"], "whole", tune=0)
    interrupt("whole")
    code = Path("whole", f"{module}.py")
    code.parent.mkdir(exist_ok=True)
    for place in (code, Path("whole/__init__.py"), code.parent / "__init__.py"):
        place.write_text(f"open({str(here / 'ran')!r}, 'w').close()\n{OWN}")
    config = Path("whole/config.json")
    written = config.read_text()
    write_config(Path("whole"), json.loads(written.replace('"cross-entropy"', f'"{changed}"')))
    assert "if you trust it, name it again" in command("resume", "whole")[1]
    assert "from which nothing is imported" in command("resume", "whole", "--objective", changed)[1]
    config.write_text(written.replace('"linear"', f'"{changed}"'))
    assert command("resume", "whole")[0] == 2
    assert not Path("ran").exists()
    sys.modules.pop("whole", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere:Cold", "objective: nowhere:Cold: importing nowhere raised ModuleNotFoundError"),
        ("my_objectives:Hot", "module my_objectives has no attribute 'Hot'"),
        (
            "my_objectives:nn",
            "my_objectives:nn is <module .*, expected a subclass of criterium.objectives",
        ),
        ("my_objectives:Cold:heat=1", "got option 'heat', but it has the options temperature"),
        ("my_objectives:Cold:temperature=hot", 'temperature: got "hot", expected a finite number'),
        ("__main__:Cold", "made in a notebook or a script, where no name leads: give the object itself"),
        (3, "objectives: got 3, expected names, or objects of"),
        (nn.CrossEntropyLoss(), r"objectives: got CrossEntropyLoss\(\), expected names, or objects of"),
    ],
)
def test_what_is_no_objective_is_refused(here: Path, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run([given], "out")
    assert not Path("out").exists()


def test_objects_that_cannot_be_written_down_are_refused(here: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Nameless(Objective):
        pass

    @dataclasses.dataclass(frozen=True)
    class Taken(Objective):
        name = "exact"
        center: Tensor | None = None

    for made, words in (
        (Nameless(), "has the name None, expected name"),
        (Taken(), "Taken has the name 'exact' of another objective"),
        (Taken(center=Tensor(2)), "Taken.center is a Tensor, expected a JSON value"),
    ):
        with pytest.raises(ValueError, match=words):
            run([made], "out")


def test_a_label_leads_back_to_the_object() -> None:
    for name, kind in OBJECTIVES.items():
        assert label_of(build(name)) == (name, True)
        for option, space in kind.search.items():
            for value in space.values if isinstance(space, Choice) else (space.low, space.high):
                try:
                    objective = build(name, {option: value})
                except ValueError:  # does not go with the other defaults
                    continue
                label, enough = label_of(objective)
                assert enough
                assert build(*parse(label)) == objective
    assert label_of(criterium.objectives.TopK(relaxation="bitonic"))[0] == "topk:relaxation=bitonic"
    assert parse("my.losses:Mine:words=a b,more=[1,[2]],last=none") == (
        "my.losses:Mine",
        {"words": "a b", "more": (1, (2,)), "last": None},
    )
