"""The settings of a comparison, whatever they are, as short tables for a reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A small table: `head` names its columns, and is empty where each row is a name and its value."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(config: Mapping[str, object]) -> list[Section]:
    """Return the plain settings as one section, and one more for each setting that holds others.

    >>> sections({"k": 3, "splits": {"train": {"rows": 900}, "test": {"rows": 360}}})[1].rows
    (('train', '900'), ('test', '360'))
    """
    plain = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    nested = {name: value for name, value in config.items() if isinstance(value, Mapping) and value}
    found = [_section("comparison", plain)] if plain else []
    return found + [_section(name, value) for name, value in nested.items()]


def _section(name: str, values: Mapping[str, object]) -> Section:
    title = _words(name).capitalize()
    inner = [value for value in values.values() if isinstance(value, Mapping)]
    if len(inner) < len(values):
        return Section(title, (), tuple((_words(key), _text(value)) for key, value in values.items()))
    columns = list(dict.fromkeys(key for value in inner for key in value))
    rows = (
        (str(key), *(_text(value.get(column)) for column in columns))
        for key, value in zip(values, inner, strict=True)
    )
    return Section(title, ("", *map(_words, columns)), tuple(rows))


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)
