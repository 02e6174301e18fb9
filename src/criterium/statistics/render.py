"""The table as plain text, Markdown and HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from itertools import zip_longest

from criterium.statistics import words
from criterium.statistics.findings import Findings
from criterium.statistics.flags import Flags
from criterium.statistics.formats import MARKS, cost, heading, interval, legend, mark, p_value

WIDTH = 100
"""Characters that sentences in plain text are wrapped at."""


def text(table: Findings, width: int | None = None) -> str:
    """Return the table, the differences, the legend and the sentences in plain text.

    Where `width` is given and too narrow for all columns, they stand in several blocks one below another.
    """
    blocks = _aligned(_headings(table), [_row(table, name) for name in table.objectives], width)
    if table.differences:
        # Each difference takes two lines, its p below it.
        rows = [
            [name if line == 0 else "", *cells]
            for name in table.differences
            for line, cells in enumerate(zip_longest(*_differences(table, name).values(), fillvalue=""))
        ]
        first, *others = _aligned(_difference_headings(table), rows, width)
        blocks += [f"{_wrapped(_differences_title(table), min(WIDTH, width or WIDTH))}\n{first}", *others]
    summary, *each = words.sentences(table)
    said = [summary, *(f"- {sentence}" for sentence in each)]
    notes = [f"Note: {note}" for note in table.notes]
    prose = min(WIDTH, width or WIDTH)
    blocks += [
        "\n".join(_wrapped(line, prose) for line in lines) for lines in (legend(table), said, notes) if lines
    ]
    return "\n\n".join(blocks)


def markdown(table: Findings) -> str:
    """Return the same in Markdown."""
    summary, *each = words.sentences(table)
    blocks = [summary, _bullets(each)]
    blocks.append(pipes(_headings(table), [_row(table, name) for name in table.objectives]))
    if table.differences:
        rows = [[name, *map(", ".join, _differences(table, name).values())] for name in table.differences]
        blocks += [_differences_title(table), pipes(_difference_headings(table), rows)]
    blocks.append(_bullets([*legend(table), *table.notes]))
    return "\n\n".join(filter(None, blocks)) + "\n"


def html(table: Findings) -> str:
    """Return the same in HTML, everything escaped."""
    said = "".join(f"<p>{escape(line)}</p>" for line in (*words.sentences(table), *table.notes))
    return f"<div>{html_table(table)}{said}</div>"


def html_table(table: Findings) -> str:
    """Return the table and its legend in HTML, each difference from the baseline below the mean."""
    headings = (escape(name).replace(", ", ",&nbsp;") for name in _headings(table))
    head = "".join(f'<th scope="col">{name}</th>' for name in headings)
    body = "".join(_html_row(table, name) for name in table.objectives)
    key = "<br>".join(map(escape, [*legend(table), *_below(table)]))
    grid = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x: auto">{grid}</div><p><small>{key}</small></p>'


def _html_row(table: Findings, name: str) -> str:
    _, *cells = _row(table, name)
    below = _differences(table, name) if name in table.differences else {}
    small = {metric: f"<br><small>{'<br>'.join(pieces)}</small>" for metric, pieces in below.items()}
    second = [small.get(metric, "") for metric in table.metrics]
    joined = "".join(f"<td>{cell}{rest}</td>" for cell, rest in zip_longest(cells, second, fillvalue=""))
    return f'<tr><th scope="row">{escape(name)}</th>{joined}</tr>'


def _below(table: Findings) -> list[str]:
    if not table.differences:
        return []
    return [f"below each mean: difference from {table.baseline}, paired by {_pair(table)}"]


def _headings(table: Findings) -> list[str]:
    others = (["cost"] if table.cost else []) + (["flags"] if _flagged(table) else [])
    return ["objective", *(heading(metric, table.k) for metric in table.metrics), *others]


def _row(table: Findings, name: str) -> list[str]:
    row = table.cells[name].items()
    cells = [f"{interval(table, metric, of)} {mark(table, name, metric)}".rstrip() for metric, of in row]
    others = [cost(table, name)] if table.cost else []
    if flags := _flagged(table):
        others.append(", ".join(flag.name for flag in flags.get(name, ())))
    return [name, *cells, *others]


def _flagged(table: Findings) -> dict[str, Flags]:
    """Return the flags of all objectives; nothing where there is none."""
    flags = table.judgement.flags
    return flags if any(flags.values()) else {}


def _differences_title(table: Findings) -> str:
    return f"Difference from {table.baseline}, paired by {_pair(table)}:"


def _pair(table: Findings) -> str:
    return "row" if len(table.seeds) == 1 else "repeat"


def _difference_headings(table: Findings) -> list[str]:
    compared = next(iter(table.differences.values()))
    return ["objective", *(heading(metric, table.k) for metric in compared)]


def _differences(table: Findings, name: str) -> dict[str, list[str]]:
    """Return metric -> the difference of an objective, and its p where it was tested."""
    return {
        metric: [piece for piece in (interval(table, metric, of), p_value(of.p_corrected)) if piece]
        for metric, of in table.differences[name].items()
    }


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return rows under their headings: names to the left, numbers to the right with room for a mark."""
    names, *columns = zip(*rows, strict=True)
    blocks = [_block([headings[0]], names, "<")]
    for heading_, cells in zip(headings[1:], columns, strict=True):
        # A unit stays on the line of the last word.
        room = max(12, *map(len, cells))
        lines = [line.replace("\xa0", " ") for line in textwrap.wrap(heading_.replace(", ", ",\xa0"), room)]
        marked = any(map(_marked, cells))
        blocks.append(
            _block(
                [f"{line}  " for line in lines] if marked else lines,
                [f"{cell}  " if marked and not _marked(cell) else cell for cell in cells],
                ">",
            )
        )
    # Headings stand on their last line.
    depth = max(map(len, blocks))
    full = [[" " * len(block[0])] * (depth - len(block)) + block for block in blocks]
    groups = [[full[0]]]
    for block in full[1:]:
        if width and len(groups[-1]) > 1 and sum(len(b[0]) + 2 for b in (*groups[-1], block)) - 2 > width:
            groups.append([full[0]])
        groups[-1].append(block)
    return ["\n".join("  ".join(line).rstrip() for line in zip(*group, strict=True)) for group in groups]


def _marked(cell: str) -> bool:
    return cell.endswith(tuple(MARKS.values()))


def _block(lines: Sequence[str], cells: Sequence[str], side: str) -> list[str]:
    """Return the heading's lines and the cells, all of one width."""
    width = max(map(len, (*lines, *cells)))
    return [f"{line:{side}{width}}" for line in (*lines, *cells)]


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def pipes(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Return a table in Markdown, numbers to the right; the first column and those in `left` are words."""
    rule = ["---" if heading in (headings[0], *left) else "---:" for heading in headings]
    lines = [headings, rule, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
