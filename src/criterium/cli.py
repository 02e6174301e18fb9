"""The command `criterium`: parses, calls, prints."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from criterium import __version__, _signals
from criterium._data_options import DATA_OPTIONS, given
from criterium._messages import OneLine, hold_streams, one_line_errors, say, say_json, say_styled
from criterium.training.recipe import Recipe

if TYPE_CHECKING:
    from criterium.architecture_search import ArchitectureSearch
    from criterium.comparison import Progress, Study


app = typer.Typer(
    cls=OneLine,
    help="Train classifiers in several published ways, side by side, and see which to use.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[str, typer.Option(help="A source (see: criterium list data), such as digits or npz:FILE.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the official files of a data set.")]
Label = Annotated[str | None, typer.Option(help="Column of a table that holds the classes.")]
Ood = Annotated[str | None, typer.Option(help="OOD inputs: classes:A,B, another source, array, or none.")]
Hierarchy = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Tree of the classes: .csv or .json of classes and parents, or cifar100."
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="What decides, such as top5-error (see: criterium list metrics). [default: top1-error;"
        " class-mean-error where class counts differ by more than ten times]"
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        help="Least difference that matters: in points, or the metric's unit. [default: of errors 1 point, or"
        " a fifth of the control's validation error]"
    ),
]
Model = Annotated[str, typer.Option(help="A model (see: criterium list models) or pkg.module:factory.")]
K = Annotated[
    int | None, typer.Option("--k", help="The k of top-k. [default: 3, fewer where classes are few]")
]
Epochs = Annotated[int, typer.Option(help="Passes over the training rows.")]
BatchSize = Annotated[int, typer.Option(help="Rows a step.")]
Optimizer = Annotated[str, typer.Option(help="sgd (Nesterov momentum 0.9) or adamw.")]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", "--learning-rate", help="Of all objectives; not tuned if given."),
]
WeightDecay = Annotated[float | None, typer.Option(help="Of all objectives; not tuned if given.")]
Schedule = Annotated[str, typer.Option(help="cosine or step.")]
Warmup = Annotated[float, typer.Option(help="Share of the steps over which the learning rate rises.")]
Clip = Annotated[float | None, typer.Option(help="Largest norm of the gradient.")]
Augment = Annotated[str, typer.Option(help="none or crop-flip.")]
Cutmix = Annotated[float, typer.Option(help="Share of the batches mixed by CutMix, 0 to 1.")]
Orthogonal = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="Train the backbone's layers orthogonally: cayley, gram_schmidt, householder, lowdin,"
        " gradient_descent or regularised; cayley:stochastic=0.25 a quarter of the axes at a time.",
    ),
]
CompressActivations = Annotated[
    str | None,
    typer.Option(
        metavar="BITS|LEVEL",
        help="Keep activations at 1 to 8 bits, or at level L1 to L5, until the backward pass.",
    ),
]
Fused = Annotated[
    bool, typer.Option("--fused", help="Train without the matrix of logits: for very many classes.")
]
_RECIPE: dict[str, Any] = {
    "epochs": Epochs,
    "batch_size": BatchSize,
    "optimizer": Optimizer,
    "learning_rate": LearningRate,
    "weight_decay": WeightDecay,
    "schedule": Schedule,
    "warmup": Warmup,
    "clip": Clip,
    "augment": Augment,
    "cutmix": Cutmix,
    "orthogonal": Orthogonal,
    "compress_activations": CompressActivations,
    "fused": Fused,
}
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="auto (bf16 where a GPU has it), float32 or bf16.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to. [default: a new one under runs]")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the table as JSON, and nothing else.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished comparison.")]


def _takes_recipe(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of data and of a recipe, but those left out, in place of two parameters."""
    groups = {
        "reading": DATA_OPTIONS,
        "recipe": {
            field.name: (_RECIPE[field.name], field.default)
            for field in dataclasses.fields(Recipe)
            if field.name not in left_out
        },
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def wrapped(**given: Any) -> None:
            grouped = {group: {name: given.pop(name) for name in names} for group, names in groups.items()}
            command(**given, **grouped)

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name not in groups:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
                for name, (kind, default) in groups[parameter.name].items()
            ]
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        say(f"criterium {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command(short_help="Train several objectives and compare them.")
@_takes_recipe()
def compare(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OBJECTIVE",
            help="Which to compare (see: criterium list objectives), also with options: exact:margin=0.5."
            " [default: cross-entropy exact topk noised-topk dismax cot]",
        ),
    ] = None,
    data: Data = "digits",
    data_dir: DataDir = None,
    label: Label = None,
    ood: Ood = None,
    hierarchy: Hierarchy = None,
    reading: dict[str, Any],
    model: Model = "mlp",
    repeats: Annotated[
        str,
        typer.Option(
            "--repeats",
            "--seeds",
            help="How many, or which: 10 or 0,1,7; auto:20 stops at 5, 10 or 20, when the verdicts are in.",
        ),
    ] = "10",
    metric: Metric = None,
    margin: Margin = None,
    k: K = None,
    tune: Annotated[
        int, typer.Option(help="Settings that each objective tries in each repeat; 0: the default one.")
    ] = 8,
    study_seed: Annotated[int, typer.Option(help="Another one draws other settings and weights.")] = 0,
    recipe: dict[str, Any],
    device: Device = "auto",
    precision: Precision = "auto",
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time. [default: one a core; one on a GPU]")
    ] = None,
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train several objectives on the same data under the same protocol, and compare them."""
    with one_line_errors():
        from criterium import comparison

        asked = _names(names or [])
        if names and not asked:
            raise ValueError(f"objectives: got {', '.join(map(repr, names))}, expected names")
        with _progress(quiet or as_json) as progress:
            study = comparison.compare(
                data,
                objectives=asked or comparison.DEFAULT_OBJECTIVES,
                model=model,
                repeats=_repeats(repeats),
                metric=metric,
                margin=margin,
                k=k,
                tune=tune,
                study_seed=study_seed,
                data_dir=data_dir,
                label=label,
                ood=ood,
                hierarchy=hierarchy,
                **given(reading),
                recipe=_recipe(recipe),
                device=device,
                precision=precision,
                jobs=jobs,
                out=out,
                progress=progress,
            )
        _show(study, as_json)


@app.command(short_help="Go on with an interrupted comparison.")
def resume(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the comparison.")],
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="pkg.module:Class of an objective in the comparison: code that a folder names runs only if"
            " you name it too. Can be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PATH", help="pkg.module:factory of the model, for the same reason.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time. [default: as it began]")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with an interrupted comparison, with the settings it had."""
    with one_line_errors():
        from criterium import comparison

        with _progress(quiet or as_json) as progress:
            study = comparison.resume(
                run, objectives=objective or (), model=model, jobs=jobs, progress=progress
            )
        _show(study, as_json)


@app.command(short_help="Train one objective once.")
@_takes_recipe()
def train(
    *,
    objective: Annotated[
        str, typer.Argument(metavar="OBJECTIVE", help="Which (see: criterium list objectives).")
    ],
    data: Data = "digits",
    data_dir: DataDir = None,
    label: Label = None,
    ood: Ood = None,
    hierarchy: Hierarchy = None,
    reading: dict[str, Any],
    model: Model = "mlp",
    seed: Annotated[int, typer.Option(help="Of weights, batches, noise and the split.")] = 0,
    k: K = None,
    recipe: dict[str, Any],
    device: Device = "auto",
    precision: Precision = "auto",
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one objective once, with its default settings unless options say otherwise."""
    with one_line_errors():
        from criterium import comparison

        with _progress(quiet or as_json) as progress:
            study = comparison.compare(
                data,
                objectives=[objective],
                model=model,
                repeats=[seed],
                k=k,
                tune=0,
                data_dir=data_dir,
                label=label,
                ood=ood,
                hierarchy=hierarchy,
                **given(reading),
                recipe=_recipe(recipe),
                device=device,
                precision=precision,
                jobs=1,
                out=out,
                progress=progress,
            )
        _show(study, as_json)


@app.command(short_help="Rank architectures without training them.")
@_takes_recipe("orthogonal", "compress_activations", "fused")
def search(
    *,
    space: Annotated[str, typer.Option(help="resnet, mlp or timm:PATTERN.")] = "resnet",
    budget: Annotated[int, typer.Option(help="Networks to score.")] = 100,
    train: Annotated[
        int, typer.Option(help="Networks to train, spread from the best to the worst score.")
    ] = 0,
    train_top: Annotated[int, typer.Option(help="Networks to train from the best score on.")] = 0,
    data: Data = "digits",
    data_dir: DataDir = None,
    label: Label = None,
    ood: Ood = None,
    reading: dict[str, Any],
    seed: Annotated[int, typer.Option(help="Of the networks drawn, their weights and batches.")] = 0,
    recipe: dict[str, Any],
    device: Device = "auto",
    precision: Precision = "auto",
    jobs: Annotated[
        int | None, typer.Option(help="Networks trained at a time. [default: one a core; one on a GPU]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to, or to go on with. [default: a new one under runs]"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Rank networks by how well they tell inputs apart untrained, with their size and cost."""
    with one_line_errors():
        from criterium.architecture_search import search as carry_out

        with _progress(quiet or as_json) as progress:
            found = carry_out(
                data,
                space=space,
                budget=budget,
                train=train,
                train_top=train_top,
                seed=seed,
                data_dir=data_dir,
                label=label,
                ood=ood,
                **given(reading),
                recipe=_recipe(recipe),
                device=device,
                precision=precision,
                jobs=jobs,
                out=out,
                progress=progress,
            )
        _show_search(found, as_json)


@app.command(short_help="Compute the table of a run folder anew.")
def evaluate(run: RunFolder, as_json: Json = False) -> None:
    """Compute the table anew from the predictions in a run folder; needs no model and no GPU."""
    with one_line_errors():
        from criterium import comparison

        _show(comparison.open_study(run), as_json)


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="Where to. [default: report.html in the folder]")] = None,
) -> None:
    """Write the HTML report of a run folder."""
    with one_line_errors():
        from criterium import comparison

        say(comparison.open_study(run).report(out))


@app.command(short_help="Compare predictions that other code made.")
def judge(
    *,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="NAME=FILE.npz with logits, probabilities or classes, and targets; or a run's"
            " predictions.parquet. The files of one name are its repeats, in order.",
        ),
    ],
    metric: Metric = None,
    margin: Margin = None,
    train_rows: Annotated[
        int | None,
        typer.Option(help="Rows each model was trained and chosen on, if repeats have own test rows."),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", help="The k of top-k.")] = None,
    control: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the others are compared with. [default: the first]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the HTML page to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare predictions that other code made: better, as good, worse, or cannot tell."""
    with one_line_errors():
        from criterium.judging.files import judge_files

        found = judge_files(files, train_rows=train_rows, metric=metric, margin=margin, k=k, control=control)
        page = None if out is None else found.report(out)
        if as_json:
            _print_json(found.to_dict())
            return
        say(found.table.to_text(_width()))
        if page is not None:
            say(f"\nLook at {page}")


@app.command(short_help="Compare objectives over several finished comparisons.")
def summarise(
    *,
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of finished comparisons, one a data set.")
    ],
    metric: Annotated[str | None, typer.Option(help="What decides. [default: as in the first]")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Least difference that matters: points, or the metric's unit.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figure (SVG) to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare objectives over several data sets: wins, ranks, and what to expect on another one."""
    with one_line_errors():
        from criterium import comparison, judging

        found = judging.summarise(comparison.tables_of(runs), metric=metric, margin=margin)
        figure = None if out is None else found.figure(out)
        if as_json:
            _print_json(found.to_dict())
            return
        say(found)
        if figure is not None:
            say(f"\nLook at {figure}")


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="objectives, models, data or metrics.")
    ] = "objectives",
) -> None:
    """List what there is, one line each."""
    with one_line_errors():
        from criterium._checks import choice

        kind = choice("what", what, ("objectives", "models", "data", "metrics"))
        rows = _catalogue(kind)
        width = max(len(name) for name, _ in rows)
        for name, words in rows:
            say(f"{name:<{width}}  {words}")


def _catalogue(kind: str) -> list[tuple[str, str]]:
    if kind == "objectives":
        return list(_objectives())
    if kind == "metrics":
        from criterium.evaluation.metrics import METRICS, NEAR_AND_FAR, TREE_METRICS

        return [
            (name, f"{metric.description} ({metric.better} is better)")
            for name, metric in (METRICS | NEAR_AND_FAR | TREE_METRICS).items()
        ]
    if kind == "models":
        from criterium.models import MODELS

        return list(MODELS.items())
    from criterium.data import SOURCES

    return list(SOURCES.items())


def _objectives() -> Iterator[tuple[str, str]]:
    """Yield those of criterium, then those of installed packages."""
    from criterium.objectives import OBJECTIVES, find, installed

    for name, kind in OBJECTIVES.items():
        yield name, f"{kind.summary}. {kind.paper}"
    for name, path in sorted(installed().items()):
        try:
            kind = find(name)
        except ValueError as error:
            yield name, str(error)
        else:
            words = ". ".join(filter(None, (kind.summary, kind.paper)))
            yield name, f"{words} ({path})" if name not in OBJECTIVES else f"{path}: the name is taken"


def _names(values: list[str]) -> list[str]:
    """Split names at commas and blanks, but not between the options of one objective."""
    return [name for value in values for name in re.split(r"\s+|,(?![^,:]*=)", value.strip()) if name]


def _repeats(text: str) -> int | str | list[int]:
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text)
    if re.fullmatch(r"[0-9]+(,[0-9]+)*,?", text) and "," in text:
        return [int(part) for part in text.split(",") if part]
    if re.fullmatch(r"auto:[0-9]+", text):
        return text
    raise ValueError(f"repeats: got {text!r}, expected how many (10), which (0,1,7), or auto:20")


def _bits_or_level(text: str | None) -> int | str | None:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]+", text) else text


def _recipe(given: dict[str, Any]) -> Recipe:
    if "compress_activations" in given:
        given = given | {"compress_activations": _bits_or_level(given["compress_activations"])}
    return Recipe(**given)


@contextmanager
def _progress(silent: bool) -> Iterator[Progress]:
    """Show what is going on while it lasts."""
    from rich.console import Console

    from criterium.comparison import Progress
    from criterium.terminal import Live, Plain

    console = Console(stderr=True)
    live = Live(console) if console.is_terminal and not silent else None
    progress = live or (Progress() if silent else Plain(console))
    with live or nullcontext():
        yield progress


def _print_json(found: dict[str, Any]) -> None:
    import json

    say_json(json.dumps(found, ensure_ascii=False, allow_nan=False))


def _width() -> int | None:
    """Return how wide the terminal is; None where there is none."""
    return shutil.get_terminal_size().columns if _on_terminal() else None


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _show(study: Study, as_json: bool) -> None:
    if as_json:
        _print_json({"folder": str(study.folder), **study.table.to_dict()})
        return
    say(study.table.to_text(_width()))
    say(f"\nEverything is in {study.folder}; look at {study.folder / 'report.html'}")


def _show_search(found: ArchitectureSearch, as_json: bool) -> None:
    if as_json:
        _print_json(found.to_dict())
        return
    from rich.console import Console

    # Where there is no terminal, as wide as the table is.
    console = Console(width=None if _on_terminal() else 120, soft_wrap=False)
    with console.capture() as shown:
        console.print(found.tables())
    say_styled(shown.get())
    say(f"\nEverything is in {found.folder}; look at {found.folder / 'scatter.svg'}")
    say(f"Race the best: {found.race_command}")


def main() -> None:
    """Run the command, in a process of its own."""
    hold_streams()
    _signals.heed()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries, which are for who writes code
        os.environ["PYTHONWARNINGS"] = "ignore"  # in the processes that it starts too
    try:
        app()
    except KeyboardInterrupt:
        _signals.say_interrupted()
        sys.exit(_signals.exit_code())


if __name__ == "__main__":
    main()
