"""Text as a terminal may have it: nothing in it acts, no line is without end, any encoding takes it."""

from __future__ import annotations

import codecs
import re
from typing import IO

_MOST = 2000
"""Characters of a line: more are no words for people."""

# Control codes but the end of a line, and what turns the direction of writing or breaks lines unseen.
_ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_PLAIN = {
    "▲": "^",
    "▼": "v",
    "≈": "~",
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+-",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "…": "...",
    "²": "2",
    "∞": "inf",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
_BOXES = "─━│┃┌┐└┘├┤┬┴┼╭╮╯╰╺╸╴"


def visible(text: str) -> str:
    """Return `text` with what acts on a terminal shown as escapes, and lines shortened.

    Example:
        >>> visible("cat\\x1b[2J")
        'cat\\\\x1b[2J'

    """
    return "\n".join(map(_shortened, _ACTING.sub(_escape, text).split("\n")))


def visible_json(text: str) -> str:
    """Return JSON with the same characters as JSON escapes them."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _shortened(line: str) -> str:
    if len(line) <= _MOST:
        return line
    half = _MOST // 2
    return f"{line[:half]} [{len(line) - 2 * half:,} characters left out] {line[-half:]}"


def _degrade(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand in for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_plainly, lacking)), error.end


def _plainly(character: str) -> str:
    if character in _BOXES:
        return "|" if character in "│┃├┤" else "-"
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error("criterium", _degrade)


def takes_any_text(stream: IO[str] | None) -> None:
    """Have `stream` show characters that its encoding lacks by others, rather than raise."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="criterium")


def encodable(text: str, stream: IO[str] | None) -> bool:
    """Return whether the encoding of `stream` has all characters of `text`."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
