"""What the command says when something is wrong: one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup


class OneLine(TyperGroup):
    """Says what is wrong with the arguments in one line, as the commands do with their values."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that `args` name."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            # Where Typer keeps the class of such errors differs from version to version.
            if not hasattr(error, "format_message"):
                raise
            complain(" ".join(error.format_message().split()) + _given(error, words))
            code = 2
        if standalone_mode:
            sys.exit(code)
        return code


def _given(error: Exception, words: Sequence[str]) -> str:
    """Return what followed the option that an error is about."""
    options: Sequence[str] = getattr(getattr(error, "param", None), "opts", ())
    for option in options:
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == option:
                return f" (got {after!r})"
            if word.startswith(f"{option}="):
                return f" (got {word.removeprefix(f'{option}=')!r})"
    return ""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and exit code 2, and Ctrl-C into one and 130."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has enough
        raise
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        complain(_in_words(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted{error}", err=True)
        raise typer.Exit(130) from None


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def complain(words: str) -> None:
    """Say what is wrong, on stderr."""
    typer.echo(f"criterium: {words}", err=True)
