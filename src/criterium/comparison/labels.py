"""What objectives of a race are called, as one types it: ``name:option=value,...``."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from criterium import objectives
from criterium.objectives import Objective
from criterium.objectives.elsewhere import check_name


def parse(label: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of ``"name:option=value,..."`` or ``"pkg.module:Class:option=value,..."``.

    Values are JSON, or text where they are not.

    Example:
        >>> parse("exact:margin=0.5,standardize=false")
        ('exact', {'margin': 0.5, 'standardize': False})
        >>> parse("my.losses:Mine:weights=[1, 2]")
        ('my.losses:Mine', {'weights': (1, 2)})

    """
    name, _, rest = label.partition(":")
    first, _, more = rest.partition(":")
    if first and "=" not in first and "," not in first and name.strip() not in objectives.OBJECTIVES:
        name, rest = f"{name.strip()}:{first.strip()}", more
    options: dict[str, Any] = {}
    for option, value in _options(label, rest):
        if option in options:
            raise ValueError(f"objective: got {label!r}, expected {option} only once")
        options[option] = value
    return name.strip(), options


def _options(label: str, text: str) -> Iterator[tuple[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    while text := text.lstrip(", "):
        option, equals, rest = text.partition("=")
        if not equals or "," in option:
            part = text.partition(",")[0]
            raise ValueError(f"objective: got {label!r}, expected name:option=value,...; {part!r} has no '='")
        rest = rest.lstrip()
        try:
            value, end = decode(rest)
            if rest[end:].strip()[:1] not in ("", ","):
                raise ValueError
        except ValueError:
            end = len(rest.partition(",")[0])
            value = None if rest[:end].strip() == "none" else rest[:end].strip()
        yield option.strip(), _frozen(value)
        text = rest[end:]


def _frozen(value: Any) -> Any:
    """Return `value` with tuples for JSON's lists: objectives are frozen."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def label_of(objective: Objective) -> tuple[str, bool]:
    """Return the label of an objective, with the options that are not the defaults, and whether it is enough.

    It is not for what cannot be imported, as a class made in a notebook: then the object itself is needed.

    Raises:
        ValueError: the objective has no name, or options that are no JSON values.

    Example:
        >>> label_of(objectives.Exact(start=1.0))
        ('exact:start=1.0', True)

    """
    kind = type(objective)
    check_name(kind, kind.__qualname__)
    fields = [field for field in dataclasses.fields(objective) if field.init]
    options = ",".join(
        f"{field.name}={_text(kind, field.name, getattr(objective, field.name))}"
        for field in fields
        if not _is_default(field, getattr(objective, field.name))
    )
    for name in (kind.name, f"{kind.__module__}:{kind.__qualname__}"):
        label = f"{name}:{options}" if options else name
        try:
            again = objectives.build(*parse(label))
        except (ValueError, TypeError):
            continue
        if type(again) is kind and vars(again) == vars(objective):
            return label, True
    if kind.name in (known := {*objectives.OBJECTIVES, *objectives.installed()}):
        raise ValueError(
            f"objectives: {kind.__qualname__} has the name {kind.name!r} of another objective, expected one"
            f" of its own, none of {', '.join(sorted(known))}"
        )
    return f"{kind.name}:{options}" if options else kind.name, False


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return type(made) is type(value) and bool(made == value)


def _text(kind: type[Objective], name: str, value: Any) -> str:
    """Return a value as `parse` reads it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"objectives: {kind.__qualname__}.{name} is a {type(value).__name__}, expected a JSON value,"
            " so that the race can be written down"
        ) from None
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.+-]*", value)
    return "none" if value is None else value if plain and value not in _WORDS else text


_WORDS = {"none", "null", "true", "false", "NaN", "Infinity"}


def is_path(label: str) -> bool:
    """Return whether a label names code by its place: ``"pkg.module:Class"``."""
    return ":" in parse(label)[0]
