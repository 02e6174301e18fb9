"""What the command says: on stdout what was asked for, on stderr in one line what is wrong."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer
from typer.core import TyperGroup

from criterium import _signals
from criterium._files import words_of
from criterium._visible import encodable, takes_any_text, visible, visible_json


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
        for stream in (sys.stdout, sys.stderr):
            takes_any_text(stream)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except _Wrong as error:
            complain(self._as_typed(str(error), words))
            code = 2
        except typer.Abort:
            _signals.say_interrupted()
            code = _signals.exit_code()
        except Exception as error:
            # Where Typer keeps the class of such errors differs from version to version.
            if not hasattr(error, "format_message"):
                raise
            complain(" ".join(error.format_message().split()) + _given(error, words))
            code = 2
        if standalone_mode:
            sys.exit(code)
        return code

    def _as_typed(self, text: str, words: Sequence[str]) -> str:
        """Return what is wrong with an argument under the name of the option that it came by."""
        name, colon, rest = text.partition(":")
        command = next((self.commands[word] for word in words if word in self.commands), None)
        for parameter in command.params if command is not None and colon else ():
            options = [option for option in parameter.opts if option.startswith("--")]
            if parameter.name == name and options:
                typed = [option for option in options if option in {word.partition("=")[0] for word in words}]
                alike = [option for option in options if option == f"--{name.replace('_', '-')}"]
                return f"{(typed or alike or options)[0]}:{rest}"
        return text


class _Wrong(Exception):
    """What a user can mend, in words."""


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
    """Turn what a user can mend into one line and exit code 2, and a signal into one and 130 or 143."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or _signals.came():
            _signals.say_interrupted(str(error) if isinstance(error, KeyboardInterrupt) else "")
            raise typer.Exit(_signals.exit_code()) from None
        if isinstance(error, BrokenPipeError) or not isinstance(error, _MENDED):
            raise  # whoever reads has enough; a fault of criterium's own
        raise _Wrong(words_of(error)) from None


_MENDED = (ValueError, OSError, RuntimeError, MemoryError)


def say(text: object) -> None:
    """Print what was asked for."""
    _print(visible(str(text)))


def say_styled(text: str) -> None:
    """Print text with the colours that it has."""
    _print("\x1b[".join(map(visible, text.split("\x1b["))).rstrip("\n"))


def say_json(text: str) -> None:
    """Print JSON."""
    text = visible_json(text)
    if not encodable(text, sys.stdout):
        text = re.sub("[^\x00-\x7f]", _json_escape, text)
    _print(text)


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _print(text: str) -> None:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "is closed")
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # nor is it to be tried again when Python ends
        raise OSError(error.errno, error.strerror, "standard output") from None


def complain(words: str) -> None:
    """Say what is wrong, on stderr, if it takes it."""
    with suppress(OSError):
        typer.echo(visible(f"criterium: {' '.join(words.split())}"), err=True)


def hold_streams() -> None:
    """Open standard streams that are closed, or the next file takes the place of one of them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
