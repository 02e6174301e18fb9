"""Comparisons that are interrupted, starved, damaged and taken up again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from criterium.cli import app
from criterium.comparison import compare, race, resume, runs, study
from criterium.comparison.runs import Run
from criterium.engine import executor, folder
from criterium.evaluation import predictions
from criterium.training import Recipe, loop

NAMES = ("cross-entropy", "exact")
SETTINGS = ("--model", "linear", "--repeats", "2", "--tune", "2", "--epochs", "3", "--batch-size", "16")


def criterium(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def begin(out: Path) -> Result:
    return criterium("compare", *words_for(out), "--quiet")


def words_for(out: Path) -> list[str]:
    """Return the arguments of a small race, whose data lie beside its folder."""
    data = out.parent / "flowers.npz"
    if not data.exists():
        write_flowers(data)
    return [*NAMES, *SETTINGS, "--data", f"npz:{data}", "--device", "cpu", "--jobs", "1", "--out", str(out)]


def write_flowers(path: Path, shift: float = 0.0) -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + np.float32(shift)
    targets = np.arange(60) % 3
    np.savez(path, x_train=inputs, y_train=targets, x_test=inputs[:30] + 1, y_test=targets[:30])


def complaint(result: Result) -> str:
    """Return the one line on stderr."""
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    return line


def found(root: Path) -> tuple[bytes, Any, dict[str, bytes]]:
    """Return what must be the same to the bit: results, cells and p-values, logits and weights."""
    table = json.loads(criterium("evaluate", root, "--json").stdout)
    files = [path for path in root.rglob("*") if path.suffix in (".safetensors", ".parquet")]
    return (
        (root / "results.parquet").read_bytes(),
        {name: table[name] for name in ("cells", "differences", "notes", "seeds")},
        {str(path.relative_to(root)): path.read_bytes() for path in files},
    )


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Leave out the figures and the measurement of the cost, which take seconds; use one thread."""
    patch.setattr(study, "write_report", lambda *_, **__: None)
    patch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 1.0))
    patch.setenv("LOKY_MAX_CPU_COUNT", "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison that nothing disturbed."""
    root = tmp_path_factory.mktemp("robustness") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        assert begin(root).exit_code == 0
    return root


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def interrupt_after(monkeypatch: pytest.MonkeyPatch, epochs: int, error: BaseException) -> list[int]:
    """Raise `error` in place of a later epoch, and return the list that counts those that ran."""
    ran: list[int] = []
    epoch = loop.Trainer.epoch

    def counted(self: loop.Trainer, number: int) -> float:
        if len(ran) == epochs:
            raise error
        ran.append(number)
        return epoch(self, number)

    monkeypatch.setattr(loop.Trainer, "epoch", counted)
    return ran


@pytest.mark.parametrize("epochs", [0, 2, 7, 12, 16, 23])
def test_an_interrupted_comparison_goes_on_to_the_same_bits(epochs: int, whole: Path, tmp_path: Path) -> None:
    # 4 trials and 4 runs of 3 epochs: interrupted at the first, in trials, between stages, in runs.
    root = tmp_path / "race"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CHECKPOINT_SECONDS", -1.0)  # after each epoch
        before = interrupt_after(patch, epochs, KeyboardInterrupt())
        result = begin(root)
    assert result.exit_code == 130
    assert result.stderr == (f"interrupted; what is finished is kept, go on with: criterium resume {root}\n")
    assert not (root / "results.parquet").exists()
    assert f"go on with: criterium resume {root}" in complaint(criterium("evaluate", root))
    with pytest.MonkeyPatch.context() as patch:
        after = interrupt_after(patch, 1000, AssertionError())
        assert criterium("resume", root).exit_code == 0
    # Each epoch ran once: those before the interruption came from checkpoints.
    assert len(before) + len(after) == 24
    assert found(root) == found(whole)
    assert not list(root.rglob("checkpoint*")) + list(root.rglob("progress"))


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_killed_comparison_goes_on_to_the_same_bits(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "race"
    with launched(*words_for(root), "--quiet", cwd=tmp_path) as process:
        wait_for(lambda: any((root / "runs").glob("*/run.json")))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (root / "results.parquet").exists()
    assert criterium("resume", root).exit_code == 0
    assert found(root) == found(whole)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_ends_all_processes_in_one_line(tmp_path: Path) -> None:
    # The model of one's own must be found by the workers too.
    (tmp_path / "own.py").write_text(
        "import time, torch\n"
        "class Slow(torch.nn.Flatten):\n"
        "    def forward(self, x):\n"
        "        if self.training: time.sleep(0.05)\n"
        "        return super().forward(x)\n"
        "def slow(shape):\n"
        "    return Slow()\n"
    )
    words = [*NAMES, "--model", "own:slow", "--device", "cpu", "--tune", "0", "--jobs", "2", "--out", "race"]
    with launched(*words, cwd=tmp_path) as process:
        wait_for(lambda: len([*(tmp_path / "race" / "tuning").glob("*/progress")]) == 2)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    _, stage, last = stderr.splitlines()
    assert stage == "repeat 1 of 10: 2 runs"
    assert last == "interrupted; what is finished is kept, go on with: criterium resume race --model own:slow"
    wait_for(lambda: not members(process.pid))


@contextmanager
def launched(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a comparison in a session of its own, of which nothing is left at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "criterium.cli", "compare", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What starts the tests may have told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 300  # a machine may be busy
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def members(session: int) -> list[str]:
    """Return the processes of a session that are not yet dead."""
    shown = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in shown.stdout.splitlines()]
    return [row[2] for row in rows if int(row[0]) == session and not row[1].startswith("Z")]


def test_a_killed_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deadly.py").write_text(
        "import multiprocessing, os, torch\n"
        "def factory(shape):\n"
        "    if multiprocessing.parent_process() is not None: os._exit(9)\n"
        "    return torch.nn.Flatten()\n"
    )
    words = (
        "--model",
        "deadly:factory",
        "--tune",
        0,
        "--repeats",
        1,
        "--jobs",
        2,
        "--out",
        "race",
        "--quiet",
    )
    line = complaint(criterium("compare", *NAMES, *words))
    assert line.startswith("criterium: a worker process was killed")
    assert line.endswith("go on with: criterium resume race --model deadly:factory")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
            "OutOfMemoryError: CUDA out of memory.",
        ),
        (MemoryError(), "MemoryError"),
        (KeyError("boo"), "KeyError: 'boo'"),
    ],
)
def test_a_run_that_fails_is_one_line_with_the_traceback_in_the_log(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 4, error)
    line = complaint(begin(tmp_path / "race"))
    assert line.startswith(f"criterium: cross-entropy repeat 0 setting 2: {said}")
    assert line.endswith(f"go on with: criterium resume {tmp_path / 'race'}")
    log = (tmp_path / "race" / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "cross-entropy repeat 0 setting 1: {" in log


def no_space(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("room", "name"),
    [
        (runs, "write_sealed"),
        (runs, "save_tensors"),
        (predictions, "whole"),
        (race, "whole"),
        (study, "write_report"),
        (folder._Log, "flush"),
    ],
)
def test_a_full_disk_is_one_line_and_what_is_finished_is_kept(
    room: Any, name: str, whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "race"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, name, no_space)
        line = complaint(begin(root))
    assert "No space left on device" in line
    assert line.endswith(f"go on with: criterium resume {root}")
    assert criterium("resume", root).exit_code == 0
    assert found(root) == found(whole)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    words = words_for(tmp_path / "race")
    (tmp_path / "file").touch()
    for parent, why in (("file", "Not a directory"), ("/proc", "No such file or directory")):
        words[-1] = str(tmp_path / parent / "race")
        assert complaint(criterium("compare", *words)) == f"criterium: {words[-1]}: {why}"


def test_a_second_process_is_kept_out(copy: Path) -> None:
    with filelock.FileLock(copy / ".lock"):
        line = complaint(criterium("resume", copy))
    assert line == f"criterium: {copy}: another process is working on this comparison"


def test_a_folder_in_use_is_not_overwritten(copy: Path) -> None:
    before = (copy / "config.json").read_bytes()
    assert f"criterium resume {copy}" in complaint(begin(copy))
    assert (copy / "config.json").read_bytes() == before


def test_folders_of_the_same_second_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder.time, "strftime", lambda _: "now")
    assert [str(folder.new_folder("npz:a/b c.npz")) for _ in range(3)] == [
        "runs/b_c-now",
        "runs/b_c-now-2",
        "runs/b_c-now-3",
    ]


def cut(path: Path) -> None:
    """Leave half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_result_counts_as_none(copy: Path, whole: Path) -> None:
    place = Run("exact", 1, {}).place(copy)
    cut(place / "run.json")
    assert f"{place / 'run.json'}: " in complaint(criterium("evaluate", copy))
    assert criterium("resume", copy).exit_code == 0
    assert found(copy) == found(whole)


@pytest.mark.parametrize("change", [{"seed": 7}, {"setting": {"learning_rate": 3.0}}, {"metrics": None}])
def test_a_result_of_another_run_counts_as_none(change: dict[str, Any], copy: Path, whole: Path) -> None:
    path = Run("exact", 1, {}).place(copy) / "run.json"
    held = {**json.loads(path.read_text(encoding="utf-8")), **change}
    if change == {"metrics": None}:
        del held["metrics"]
    path.write_text(json.dumps(held), encoding="utf-8")
    assert criterium("resume", copy).exit_code == 0
    assert found(copy) == found(whole)


def test_damaged_predictions_say_how_to_go_on(copy: Path, whole: Path) -> None:
    place = Run("exact", 1, {}).place(copy)
    cut(place / "predictions.parquet")
    for command in ("evaluate", "report"):
        line = complaint(criterium(command, copy))
        assert f"{place / 'predictions.parquet'}: is not what the run wrote" in line
        assert line.endswith(f"the run is done again by: criterium resume {copy}")
    assert criterium("resume", copy).exit_code == 0
    assert found(copy) == found(whole)


def test_a_damaged_checkpoint_is_done_without(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "race"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CHECKPOINT_SECONDS", -1.0)
        interrupt_after(patch, 2, KeyboardInterrupt())
        begin(root)
    (path,) = root.rglob("checkpoint.safetensors")
    cut(path)
    assert criterium("resume", root).exit_code == 0
    assert found(root) == found(whole)


def test_a_damaged_choice_of_settings_is_made_again(copy: Path, whole: Path) -> None:
    cut(copy / "settings.json")
    assert "settings.json" in complaint(criterium("evaluate", copy))
    assert criterium("resume", copy).exit_code == 0
    assert found(copy) == found(whole)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"plan": {}, "data": {}, "machine": {}}', "\xff"])
def test_a_damaged_config_is_one_line(text: str, copy: Path) -> None:
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    for words in (["evaluate", copy], ["report", copy], ["resume", copy]):
        assert str(copy / "config.json") in complaint(criterium(*words))


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(warp=9),
        lambda plan: plan["setup"].pop("recipe"),
        lambda plan: plan["setup"]["recipe"].update(momentum=0.9),
        lambda plan: plan.update(objectives=["exact", "anything"]),
        lambda plan: plan.update(seeds="many"),
        lambda plan: plan.update(tune="many"),
    ],
)
def test_a_config_of_another_version_names_it(change: Callable[[dict[str, Any]], Any], copy: Path) -> None:
    path = copy / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config["plan"])
    config["machine"]["criterium"] = "99.0"
    path.write_text(json.dumps(config), encoding="utf-8")
    line = complaint(criterium("resume", copy))
    assert line.startswith(f"criterium: {path}: ")
    assert "criterium 99.0 wrote it" in line


def test_changed_data_are_not_gone_on_with(tmp_path: Path) -> None:
    data = tmp_path / "flowers.npz"
    short = {"model": "linear", "tune": 0, "seeds": 1, "recipe": Recipe(epochs=1), "jobs": 1, "device": "cpu"}
    write_flowers(data, 0.0)
    first = compare(f"npz:{data}", objectives=NAMES, out=tmp_path / "first", **short)
    write_flowers(data, 1.0)
    line = complaint(criterium("resume", tmp_path / "first"))
    assert line.endswith("flowers.npz changed since the comparison began: test, train, validation")
    # A new comparison in the same process reads the new data.
    second = compare(f"npz:{data}", objectives=NAMES, out=tmp_path / "second", **short)
    assert first.config["data"]["hashes"] != second.config["data"]["hashes"]
    write_flowers(data, 0.0)
    assert str(resume(tmp_path / "first").table) == str(first.table)


def test_what_an_earlier_process_was_doing_is_not_shown_as_under_way(tmp_path: Path) -> None:
    run = Run("exact", 0, {})
    left = run.place(tmp_path) / "progress"
    left.parent.mkdir(parents=True)
    left.write_text("3 10", encoding="ascii")
    with executor._watch([run], tmp_path, executor.Progress()):
        assert not left.exists()


def test_runs_in_threads_of_one_process_are_refused(tmp_path: Path) -> None:
    from joblib import parallel_config

    words = words_for(tmp_path / "race")
    words[words.index("--jobs") + 1] = "2"
    with parallel_config(backend="threading", n_jobs=2):
        line = complaint(criterium("compare", *words, "--quiet"))
    assert "jobs: got several runs in threads of one process" in line
