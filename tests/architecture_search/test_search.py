"""Searches: the ranking, what is trained, what is written, and how they go on."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner, Result

from criterium.architecture_search import ranking
from criterium.architecture_search import scores as search_scores
from criterium.architecture_search.figure import write_scatter
from criterium.architecture_search.ranking import agreement, difference, kendall, ranked, spread
from criterium.cli import app
from criterium.comparison import compare
from criterium.data import load
from criterium.objectives import build
from criterium.techniques.architecture import score_architecture
from criterium.training import Recipe
from criterium.training.trainer import build_model, task_of

FAST = ("--space", "mlp", "--epochs", "2", "--batch-size", "32", "--jobs", "1", "--device", "cpu")


def criterium(*words: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, words)])


def blobs(path: Path, *, test: float = 0.0, repeats: int = 1) -> str:
    """Write four overlapping classes of eight features."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 160), ("val", 80), ("test", 60)):
        labels = np.arange(count) % 4
        inputs = generator.normal(size=(count, 8)) + np.repeat(np.eye(4), 2, axis=1)[labels]
        shift = test if part == "test" else 0.0
        arrays |= {f"x_{part}": (inputs + shift).astype("float32"), f"y_{part}": labels}
    arrays["x_train"] = np.repeat(arrays["x_train"], repeats, axis=0)
    arrays["y_train"] = np.repeat(arrays["y_train"], repeats)
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return blobs(tmp_path_factory.mktemp("blobs") / "blobs.npz")


@pytest.fixture(scope="module")
def finished(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("search") / "run"
    result = criterium(*FAST, "--data", data, "--budget", 12, "--train", 8, "--train-top", 2, "--out", folder)
    assert result.exit_code == 0, (result.output, result.exception)
    return folder, result


def scores(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return found


def table(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "results.parquet").to_pylist()
    return rows


def test_networks_are_ranked_by_naswot_beside_what_may_do_as_well(finished: tuple[Path, Result]) -> None:
    rows = table(finished[0])
    assert len(rows) == 12
    assert [row["naswot"] for row in rows] == sorted((row["naswot"] for row in rows), reverse=True)
    assert all(row["parameters"] > 0 and row["flops"] > 0 for row in rows)
    assert all(math.isfinite(row["log_synflow"]) for row in rows)
    trained = [place for place, row in enumerate(rows) if row["validation_error"] is not None]
    assert trained == spread(12, top=2, evenly=8)


def test_scores_are_those_of_the_network_that_is_trained(finished: tuple[Path, Result], data: str) -> None:
    # The same weights as `criterium compare` starts from, on standardised training rows.
    name = table(finished[0])[0]["network"]
    dataset = load(data)
    task = task_of(dataset, 1)
    model = build_model(f"criterium.techniques.architecture:{name}", build("cross-entropy"), dataset, task, 0)
    batch = search_scores.score_rows(dataset, 0)
    assert batch.shape == (128, 8)
    found = score_architecture(model, batch)
    assert scores(finished[0])[name]["naswot"] == pytest.approx(found.score, rel=1e-12)


def test_a_network_is_trained_as_a_comparison_would(
    finished: tuple[Path, Result], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("criterium.comparison.study.write_report", lambda *_, **__: None)
    monkeypatch.setattr("criterium.comparison.race.measure_cost", lambda *_: {"cross-entropy": 1.0})
    row = next(row for row in table(finished[0]) if row["validation_error"] is not None)
    study = compare(
        data,
        objectives=["cross-entropy"],
        model=f"criterium.techniques.architecture:{row['network']}",
        seeds=[0],
        tune=0,
        recipe=Recipe(epochs=2, batch_size=32),
        device="cpu",
        jobs=1,
        out=tmp_path / "run",
    )
    history = study.results[0]["history"]["validation_error"]
    assert row["validation_error"] == pytest.approx(history[-1], abs=1e-6)


def test_test_rows_have_no_way_in(finished: tuple[Path, Result], tmp_path: Path) -> None:
    other = blobs(tmp_path / "blobs.npz", test=100.0)
    words = (
        *FAST,
        "--data",
        other,
        "--budget",
        12,
        "--train",
        8,
        "--train-top",
        2,
        "--out",
        tmp_path / "run",
    )
    assert criterium(*words).exit_code == 0
    kept = [
        {key: value for key, value in row.items() if "seconds" not in key} for row in table(tmp_path / "run")
    ]
    before = [
        {key: value for key, value in row.items() if "seconds" not in key} for row in table(finished[0])
    ]
    assert kept == before


def test_the_terminal_shows_table_correlation_and_what_to_do_next(
    finished: tuple[Path, Result], data: str
) -> None:
    folder, result = finished
    shown = result.stdout
    rows = table(folder)
    assert all(row["network"] in shown for row in rows[:10])
    for measure in ("NASWOT", "parameters", "FLOPs", "log synflow", "validation error, %"):
        assert measure in shown
    tau = agreement(rows, "naswot").tau
    assert f"{tau:+.2f}".replace("-", "−") in shown
    best = min(
        (row for row in rows if row["validation_error"] is not None), key=lambda r: r["validation_error"]
    )
    assert (
        f"criterium compare --model criterium.techniques.architecture:{best['network']} --data {data}"
        in shown
    )
    runs = len(spread(12, top=2, evenly=8))
    assert result.stderr == f"scoring 12 networks: 1 run\ntraining: {runs} runs\n"


def test_json_is_json_and_nothing_else(data: str, tmp_path: Path) -> None:
    result = criterium(*FAST, "--data", data, "--budget", 30, "--json", "--out", tmp_path / "run")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(result.stdout, parse_constant=refuse)
    assert result.stderr == ""
    assert len(found["networks"]) == 30
    singular = [row for row in found["networks"] if row["naswot"] is None]
    assert singular
    assert all("different codes" in row["reason"] or "units" in row["reason"] for row in singular)
    assert found["kendall"]["naswot"]["tau"] is None


def test_it_goes_on_where_it_was(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: tuple[Path, Result]
) -> None:
    out = tmp_path / "run"
    asked: list[str] = []
    plain = search_scores._score

    def scored(plan: Any, held: Any, name: str, batch: torch.Tensor) -> Any:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(name)
        return plain(plan, held, name, batch)

    monkeypatch.setattr(search_scores, "_score", scored)
    words = (*FAST, "--data", data, "--budget", 12, "--out", out)
    result = criterium(*words)
    assert result.exit_code == 130
    assert f"go on with the same command and --out {out}" in result.stderr
    assert list(scores(out)) == asked

    monkeypatch.setattr(search_scores, "_score", lambda *args: asked.append(args[2]) or plain(*args))
    assert criterium(*words, "--train", 8, "--train-top", 2).exit_code == 0
    assert len(asked) == len(set(asked)) == 12
    drop = ("seconds", "training_seconds")
    assert [{k: v for k, v in row.items() if k not in drop} for row in table(out)] == [
        {k: v for k, v in row.items() if k not in drop} for row in table(finished[0])
    ]

    # A larger budget scores only what is new, and nothing is trained twice.
    monkeypatch.setattr(
        "criterium.architecture_search.searching.execute", lambda *_: pytest.fail("trained again")
    )
    assert criterium(*FAST, "--data", data, "--budget", 14, "--out", out).exit_code == 0
    assert len(asked) == len(set(asked)) == 14


def test_a_network_trained_by_another_recipe_is_trained_again(
    data: str, tmp_path: Path, finished: tuple[Path, Result]
) -> None:
    words = ("--data", data, "--budget", 3, "--train-top", 1, "--out", tmp_path / "run")
    errors = []
    for epochs in (1, 6):
        assert criterium(*FAST, *words, "--epochs", epochs).exit_code == 0
        (found,) = (tmp_path / "run" / "trained").glob("*/run.json")
        errors.append(len(json.loads(found.read_text(encoding="utf-8"))["history"]["epoch"]))
    assert errors == [1, 6]


def test_networks_that_cannot_be_scored_are_listed_with_their_reason(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = search_scores.score_architecture
    calls: list[int] = []

    def sometimes(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("model: does not like these inputs")
        return plain(*args)

    monkeypatch.setattr(search_scores, "score_architecture", sometimes)
    result = criterium(*FAST, "--data", data, "--budget", 4, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    (last,) = (row for row in table(tmp_path / "run") if row["failed"])
    assert last["failed"] == "model: does not like these inputs"
    assert last == table(tmp_path / "run")[-1]
    assert "model: does not like these inputs" in result.stdout

    calls[:] = [1]
    monkeypatch.setattr(
        search_scores, "score_architecture", lambda *_: sometimes(calls.clear() or calls.append(1))
    )
    result = criterium(*FAST, "--data", data, "--budget", 2, "--out", tmp_path / "none")
    assert result.exit_code == 2
    assert "no network of mlp can be scored" in result.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            ["--space", "mpl"],
            "space: got 'mpl', expected one of resnet, mlp, timm:PATTERN; did you mean 'mlp'",
        ),
        (["--space", "resnet"], "space: resnet needs images"),
        (["--budget", "0"], "budget: got 0"),
        (["--train", "-1"], "train: got -1"),
        (["--train-top", "-1"], "train-top: got -1"),
        (["--seed", "-1"], "seed: got -1"),
        (["--jobs", "0"], "jobs: got 0"),
        (["--epochs", "0"], "epochs: got 0"),
        (["--augment", "crop-flip"], "augment: got 'crop-flip'"),
        (["--device", "gpu"], "device: got 'gpu'"),
        (["--data", "digist"], "did you mean 'digits'"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    words: list[str], part: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = criterium("--space", "mlp", "--data", data, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert part in line
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(
    finished: tuple[Path, Result], data: str, tmp_path: Path
) -> None:
    result = criterium(*FAST, "--data", data, "--seed", 5, "--out", finished[0])
    assert result.exit_code == 2
    assert "holds a search whose seed was 0" in result.stderr
    (tmp_path / "letter.txt").write_text("dear reader")
    result = criterium(*FAST, "--data", data, "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds other files" in result.stderr
    other = blobs(tmp_path / "other.npz", repeats=2)
    result = criterium(*FAST, "--data", other, "--out", finished[0])
    assert "holds a search whose data was" in result.stderr


def test_rows_that_repeat_are_scored_once(tmp_path: Path) -> None:
    dataset = load(blobs(tmp_path / "twice.npz", repeats=3))
    batch = search_scores.score_rows(dataset, 0)
    assert len(batch) == len(torch.unique(batch, dim=0)) == 128
    assert torch.equal(batch, search_scores.score_rows(dataset, 0))
    assert not torch.equal(batch, search_scores.score_rows(dataset, 1))


def rows_of(naswot: list[float], errors: list[float | None]) -> list[dict[str, Any]]:
    """Return rows whose parameters rank as validation accuracy does, as far as there is one."""
    return [
        {
            "network": f"mlp-{place + 1}",
            "naswot": score,
            "rank": place,
            "parameters": 1 + place if error is None else int(1000 - 1000 * error),
            "flops": 10 + place,
            "log_synflow": 1.0 + place,
            **({} if error is None else {"validation_error": error}),
        }
        for place, (score, error) in enumerate(zip(naswot, errors, strict=True))
    ]


def test_singular_networks_come_last_by_the_rank_of_their_kernel() -> None:
    rows = rows_of([-math.inf, 3.0, -math.inf, 9.0], [None] * 4)
    failed = {"network": "mlp-9", "failed": "why"}
    assert [row["network"] for row in ranked([failed, *rows])] == ["mlp-4", "mlp-2", "mlp-3", "mlp-1"]


def test_places_to_train() -> None:
    assert spread(100, 3, 0) == [0, 1, 2]
    assert spread(100, 0, 20)[::19] == [0, 99]
    assert len(spread(100, 0, 20)) == 20
    assert spread(4, 9, 9) == [0, 1, 2, 3]
    assert spread(4, 0, 1) == [0]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25),
    st.integers(0, 2**32 - 1),
)
def test_tau_in_the_interval_is_that_of_scipy(pairs: list[tuple[int, int]], seed: int) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    pick = np.random.default_rng(seed).integers(0, len(pairs), len(pairs))
    counts = np.bincount(pick, minlength=len(pairs))[None]
    (found,) = ranking._taus(ranking._signs(first), ranking._signs(second), counts)
    expected = stats.kendalltau(np.array(first)[pick], np.array(second)[pick]).statistic
    assert found == pytest.approx(expected, nan_ok=True)


def test_minus_infinity_is_the_least() -> None:
    assert kendall([1.0, -math.inf, 3.0, 4.0], [2, 1, 3, 4]).tau == 1.0
    assert math.isnan(kendall([1.0], [1.0]).tau)
    assert math.isnan(kendall([1.0] * 9, list(range(9))).tau)
    assert math.isnan(kendall([1.0] * 9, list(range(9))).low)


def test_the_interval_holds_the_true_tau_about_as_often_as_it_says() -> None:
    # For normal variables with correlation r, tau is 2 arcsin(r) / π. Of 60 intervals 57 are expected to hold
    # it; with 25 networks each the percentile interval is a little narrow, and fewer than 49 would have
    # probability 0.001 at a coverage of 91 %.
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 25).T
        found = kendall(x.tolist(), y.tolist())
        held += found.low <= 2 * math.asin(0.6) / math.pi <= found.high
    assert held >= 49


def test_a_difference_between_measures_is_told_from_chance() -> None:
    errors: list[float | None] = [0.5 - 0.01 * place for place in range(30)]
    worse = [float(place % 7) for place in range(30)]
    gap, low, high = difference(rows_of(worse, errors), "naswot", "parameters")
    assert gap == pytest.approx(agreement(rows_of(worse, errors), "naswot").tau - 1)
    assert low <= gap <= high < 0
    same = rows_of([1 - error for error in errors if error is not None], errors)
    assert difference(same, "naswot", "parameters") == (0.0, 0.0, 0.0)


def found_with(rows: list[dict[str, Any]]) -> Any:
    from criterium.architecture_search import ArchitectureSearch
    from criterium.data import Source

    return ArchitectureSearch(Path("run"), "mlp", Source("csv:digits.csv", label="it's"), tuple(rows), ())


def test_the_sentences_say_what_the_numbers_do_and_no_more() -> None:
    errors: list[float | None] = [0.5 - 0.01 * place for place in range(30)]
    worse = found_with(rows_of([float(place % 7) for place in range(30)], errors))
    assert any("NASWOT is shown to rank these networks worse than" in line for line in worse.words())
    alike = found_with(rows_of([float(place) for place in range(30)], errors))
    assert any("is not shown to rank these networks better or worse" in line for line in alike.words())
    few = found_with(rows_of([3.0, 2.0, 1.0], [0.1, 0.2, 0.3]))
    assert any("cannot be told from 3 trained" in line for line in few.words())
    assert not any("cannot be told" in line for line in found_with(rows_of([3.0], [None])).words())
    assert alike.race_command.endswith("--data csv:digits.csv --label 'it'\"'\"'s'")
    assert alike.to_markdown().count("| mlp-") == 30


@pytest.mark.parametrize("errors", [[None] * 9, [0.1 + 0.01 * place for place in range(9)]])
def test_the_figure_stands_alone_and_shows_all_networks(errors: list[float | None]) -> None:
    drawn = write_scatter(rows_of([-math.inf, *range(8)], errors))
    root = ElementTree.fromstring(drawn)
    assert "background: #ffffff" in root.attrib["style"]
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("}text")]
    assert any("parameters" in text for text in texts)
    assert any("−∞" in text for text in texts) == (errors[0] is not None)
    assert drawn == write_scatter(rows_of([-math.inf, *range(8)], errors))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from criterium.cli import app\n"
        "assert CliRunner().invoke(app, ['search', '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'numpy', 'rich.progress', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
