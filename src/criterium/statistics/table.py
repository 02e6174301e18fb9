"""The comparison of objectives as one table of plain values, made from the results of runs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from criterium.statistics import render, words
from criterium.statistics.findings import Findings
from criterium.statistics.verdicts import Verdict


@dataclass(frozen=True)
class Table(Findings):
    """What `judge` found; printed, it is a text table with its sentences below."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """Plain English: first what the whole table says, then one sentence an objective."""
        return words.sentences(self)

    @property
    def verdicts(self) -> list[Verdict]:
        """What was concluded of each objective other than the baseline."""
        judgement = self.judgement
        return [
            Verdict(
                objective=name,
                metric=judgement.metric,
                verdict=of.answer,
                difference=of.spread.mean,
                low=of.low,
                high=of.high,
                p=of.p,
                repeats_needed=of.repeats_needed,
                flags=tuple(flag.name for flag in judgement.flags.get(name, ())),
            )
            for name, of in judgement.assessments.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON has it: NaN is None."""
        verdicts = [dataclasses.asdict(verdict) for verdict in self.verdicts]
        found: dict[str, Any] = _json(
            {**dataclasses.asdict(self), "verdicts": verdicts, "sentences": self.sentences}
        )
        return found

    def to_text(self, width: int | None = None) -> str:
        """Return the table, the differences and the sentences in plain text, at most `width` wide."""
        return render.text(self, width)

    def to_markdown(self) -> str:
        """Return the table, the differences and the sentences in Markdown."""
        return render.markdown(self)

    def __str__(self) -> str:
        """Return `to_text` in full width."""
        return self.to_text()

    def _repr_html_(self) -> str:
        return render.html(self)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
