"""The command line, as people type at it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from criterium.cli import _names, app
from criterium.comparison import race, study

FAST = ("--model", "linear", "--epochs", "1", "--tune", "0", "--jobs", "1", "--device", "cpu")


def criterium(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def complaint(*words: object) -> str:
    """Return the one line that the command leaves on stderr with exit code 2."""
    result = criterium(*words)
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("criterium: ")
    return line


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("cli") / "race"
    result = criterium("compare", "cross-entropy", "exact:margin=0.5", "--seeds", 2, *FAST, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds: the figures, and the measurement of the cost."""
    monkeypatch.setattr(study, "write_report", lambda *_, **__: None)
    monkeypatch.setattr(race, "measure_cost", lambda plan, *_: dict.fromkeys(plan.objectives, 2.0))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a little file of features."""
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    targets = np.arange(60) % 3
    np.savez("flowers.npz", x_train=inputs, y_train=targets, x_test=inputs[:30] + 1, y_test=targets[:30])
    return tmp_path


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--k", "abc"], ["'--k'", "got 'abc'", "integer"]),
        (["--lr=fast"], ["'--lr'", "got 'fast'", "number"]),
        (["--ephocs", "3"], ["--ephocs", "--epochs"]),
        (["--seeds"], ["--seeds", "argument"]),
        (["--k", "8"], ["k: got 8, expected 1 to 7"]),
        (["--seeds", "-1"], ["--seeds: got '-1'"]),
        (["--seeds", "2,2"], ["--seeds: got 2, 2, expected each only once"]),
        (["--tune", "-1"], ["tune: got -1"]),
        (["--tune", "9" * 20], ["--tune: got 9999", "expected at most 10,000"]),
        (["--seeds", "9" * 20], ["--seeds: got 9999", "expected at most 10,000"]),
        (["--seeds", f"0,{2**63}"], ["--seeds: got 9223372036854775808, expected numbers below 2^63"]),
        (["--epochs", "0"], ["epochs: got 0"]),
        (["--batch-size", "0"], ["--batch-size: got 0"]),
        (["--jobs", "0"], ["jobs: got 0"]),
        (["--device", "gpu"], ["device: got 'gpu'", "cpu"]),
        (["--model", "mpl"], ["model: got 'mpl'", "did you mean 'mlp'"]),
        (["--model", "nowhere:factory"], ["model: nowhere:factory", "No module named 'nowhere'"]),
        (["--data", "digist"], ["data: got 'digist'", "did you mean 'digits'"]),
        (["--data", "npz:missing.npz"], ["missing.npz: no such file"]),
        (["--ood", "classes:12"], ["ood: no class '12'"]),
        (["--data", "npz:flowers.npz", "--augment", "crop-flip"], ["augment: got 'crop-flip'", "no images"]),
        (["--data", "npz:flowers.npz", "--cutmix", "0.5"], ["cutmix: got 0.5", "no images"]),
        ([" , "], ["objectives: got ' , ', expected names"]),
        (["exakt"], ["objective: got 'exakt'", "did you mean 'exact'"]),
        (["exact", "exact"], ["objectives: got exact, exact, expected each only once"]),
        (["exact:margin=1", "exact:margin=1.0"], ["'exact:margin=1' and 'exact:margin=1.0' are the same"]),
        (["exact:margin"], ["'margin' has no '='"]),
        (["exact:margin=1,margin=2"], ["expected margin only once"]),
        (["exact:margn=1"], ["got option 'margn'", "did you mean 'margin'"]),
        (["exact:margin=abc"], ['margin: got "abc", expected a finite number or none']),
        (["exact:margin=true"], ["margin: got true"]),
        (["exact:margin=NaN"], ["margin: got NaN"]),
        (["dismax:cutmix=1.0"], ["objective dismax:cutmix=1.0: cutmix does nothing here"]),
        (["exact:epochs=1.5"], ["exact:epochs=1.5: epochs: got 1.5, expected a whole number"]),
        (["exact:learning_rate=-1"], ["exact:learning_rate=-1: learning_rate: got -1"]),
        (["exact:end=-1"], ["exact:end=-1: end: got -1"]),
        (["topk:candidates=99"], ["topk:candidates=99: candidates: got 99", "8"]),
        (["--out", "flowers.npz"], ["out: flowers.npz is a file"]),
        (["--out", "."], ["out: . holds other files"]),
        (["--out", "flowers.npz/below"], ["flowers.npz/below: Not a directory"]),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_leaves_nothing(
    words: list[str], parts: list[str], files: Path
) -> None:
    line = complaint("compare", *words)
    assert all(part in line for part in parts), line
    assert [entry.name for entry in files.iterdir()] == ["flowers.npz"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train"], "OBJECTIVE"),
        (["train", "exact", "--seed", "-4"], "repeats: got -4"),
        (["evaluate", "nowhere"], "nowhere: no comparison there"),
        (["report", "nowhere"], "nowhere: no comparison there"),
        (["list", "objektives"], "did you mean 'objectives'"),
        (["race"], "'race'"),
    ],
)
def test_other_commands_complain_in_one_line_too(words: list[str], part: str, files: Path) -> None:
    assert part in complaint(*words)
    assert [entry.name for entry in files.iterdir()] == ["flowers.npz"]


def test_a_report_that_cannot_be_written_names_the_file(finished: tuple[Path, Result], files: Path) -> None:
    assert complaint("report", finished[0], "--out", "no/page.html").endswith(
        "no/page.html: No such file or directory"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["exact:margin=0.5,start=2", "cot"],
        ["exact:margin=0.5,start=2,cot"],
        ["exact:margin=0.5,start=2, cot "],
        ["exact:margin=0.5,start=2 cot"],
    ],
)
def test_names_are_split_but_not_within_their_options(words: list[str]) -> None:
    assert _names(words) == ["exact:margin=0.5,start=2", "cot"]


def test_names_may_have_commas_between(tmp_path: Path, quick: None) -> None:
    out = tmp_path / "race"
    words = ("compare", "exact:margin=0.5,cot", "cross-entropy", "--seeds", 1)
    assert criterium(*words, *FAST, "--out", out).exit_code == 0
    plan = json.loads((out / "config.json").read_text(encoding="utf-8"))["plan"]
    assert plan["objectives"] == ["exact:margin=0.5", "cot", "cross-entropy"]


def test_without_a_terminal_the_output_is_plain(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.stderr.splitlines() == [
        "Judged by top-1 error.",
        "repeat 1 of 2: 2 runs",
        "repeat 1 of 2: test rows: 2 runs",
        "repeat 2 of 2: 2 runs",
        "repeat 2 of 2: test rows: 2 runs",
        "measuring the cost of a step",
    ]
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1] == f"Everything is in {folder}; look at {folder / 'report.html'}"


def test_the_folder_holds_all_that_is_promised(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}
    runs = [f"runs/{label}-seed{seed}" for label in ("cross-entropy", "exact_margin=0.5") for seed in (0, 1)]
    each = ("predictions.parquet", "run.json", "weights.safetensors")
    top = {"config.json", "cost.json", "log.txt", "report.html", "results.parquet", "settings.json"}
    tries = {f"{run.replace('runs', 'tuning')}-0/run.json" for run in runs}
    assert names == top | tries | {f"{run}/{name}" for run in runs for name in each}
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert log.count("exact:margin=0.5 repeat 1: ") == 1
    assert log.rstrip().endswith("end")


def test_a_finished_comparison_is_shown_again(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    again = criterium("resume", folder, "--jobs", 2)
    assert (again.exit_code, again.stdout, again.stderr) == (0, result.stdout, "")
    assert criterium("evaluate", folder).stdout == result.stdout


def test_json_is_json_and_nothing_else(tmp_path: Path, quick: None) -> None:
    # One objective has nothing to compare with: a NaN where a careless writer is at work.
    result = criterium("train", "exact", *FAST[:4], "--device", "cpu", "--json", "--out", tmp_path / "race")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(result.stdout, parse_constant=refuse)
    assert result.stderr == ""
    assert found["folder"] == str(tmp_path / "race")
    assert found["verdicts"] == []
    assert found["judgement"]["design"]["own_test"]


def test_fused_training_gives_the_same_table(tmp_path: Path) -> None:
    tables = []
    for fused in ((), ("--fused",)):
        out = tmp_path / f"race{len(fused)}"
        result = criterium(
            "compare", "cross-entropy", "exact", "--seeds", 1, *FAST, *fused, "--out", out, "--json"
        )
        assert result.exit_code == 0, result.output
        assert json.loads((out / "config.json").read_text())["plan"]["setup"]["recipe"]["fused"] is bool(
            fused
        )
        tables.append(json.loads(result.stdout)["cells"])
    for plain, other in zip(*(table.values() for table in tables), strict=True):
        assert plain["top1_error"]["mean"] == other["top1_error"]["mean"] < 0.5
        assert plain["nll"]["mean"] == pytest.approx(other["nll"]["mean"], rel=1e-4)
    refused = criterium("train", "topk", *FAST[:4], "--fused", "--out", tmp_path / "none")
    assert refused.exit_code == 2
    assert "candidates: got None, expected a number" in refused.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("what", "name"),
    [("objectives", "dismax"), ("models", "resnet20"), ("data", "folder:DIR"), ("metrics", "auroc")],
)
def test_list_has_a_line_for_each(what: str, name: str) -> None:
    result = criterium("list", what)
    (line,) = [line for line in result.stdout.splitlines() if line.split("  ")[0] == name]
    assert len(line.split("  ", 1)[1].strip()) > 20


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from criterium.cli import app\n"
        "for words in (['--version'], ['--help'], ['compare', '--help'], ['list', 'models'], []):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "print(sorted({'torch', 'numpy', 'rich.progress', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_repeats_that_diverge_count_as_the_commonest_class(tmp_path: Path, quick: None) -> None:
    names = ("cross-entropy:learning_rate=1e30", "exact", "cot")
    result = criterium("compare", *names, "--repeats", 2, *FAST, "--out", tmp_path / "race", "--json")
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert table["objectives"] == list(names)
    errors = table["cells"][names[0]]["top1_error"]["values"]
    assert all(0.8 < error < 0.9 for error in errors)  # one class of eight is named
    assert table["judgement"]["flags"][names[0]][0]["name"] == "diverged"
    assert "it diverged in 2 of 2 repeats" in table["sentences"][1]
    assert criterium("report", tmp_path / "race").exit_code == 0


def test_all_runs_diverged(tmp_path: Path, quick: None) -> None:
    out = tmp_path / "race"
    result = criterium("compare", "cross-entropy", "--lr", "1e30", "--seeds", 2, *FAST, "--out", out, "-q")
    assert result.exit_code == 2
    assert "every run diverged" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (out / "results.parquet").exists()
    assert "every run diverged" in complaint("evaluate", out)


def test_text_of_users_reaches_table_and_report_unharmed(files: Path) -> None:
    arrays = dict(np.load("flowers.npz"))
    names = np.array(["<script>alert(1)</script>", "[red]ñandú 鳥", "x" * 300])
    np.savez("[bold]<i>.npz", **arrays, classes=names)
    result = criterium(
        "compare", "cross-entropy", "cot", "--data", "npz:[bold]<i>.npz", "--seeds", 1, *FAST, "--out", "race"
    )
    assert result.exit_code == 0, result.output
    page = Path("race/report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "[red]ñandú 鳥" in page
    assert "npz:[bold]&lt;i&gt;.npz" in page


def test_the_terminal_shows_one_line_a_run_and_what_is_under_way() -> None:
    from criterium.terminal import Live

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    long = "exact:margin=0.5,start=4.0,end=2.0,learning_rate=0.1 [red] seed 12"
    live = Live(console)
    with live:
        live.stage("tuning", 2, later=3)
        live.running({"cot seed 1": 0.5, long: 0.25})
        live.finished(long, "validation error 2.2 % in 3.8 s")
        live.bars.refresh()
        live.note("[bold] note")
    shown = screen.getvalue()
    assert "exact:margin=0.5,sta…ed] seed 12" in shown
    assert "1 of 5 runs" in shown
    assert "50 %" in shown
    assert "[bold] note" in shown
    lines = [line for line in shown.splitlines() if "validation error" in line]
    assert all(len(line.strip("\x1b[2K\r")) <= 80 for line in lines)
    assert live.bars.tasks[0].completed == 1.5


def test_the_group_can_be_used_from_other_code() -> None:
    command = typer.main.get_command(app)
    assert command.main(["--version"], standalone_mode=False) == 0
