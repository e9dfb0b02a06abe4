"""The decisions of an adjudication as its log holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.comparing.coder_log import read_log

REASONS = (
    "the codebook is unclear",
    "the text is ambiguous",
    "slip of a coder",
    "slip of the model",
    "agreed anyway",
)


@dataclass(frozen=True)
class Decision:
    """One text decided.

    Attributes
    ----------
    first, values
        column -> the adjudicator's own answer before and after the others' were shown.
    voices
        What the others said, column -> list of values, without names.
    """

    text_id: str
    by: str
    time: str
    values: Mapping[str, Any]
    first: Mapping[str, Any]
    reason: str
    words: str
    disputed: bool
    voices: Mapping[str, list[Any]]

    @property
    def moved(self) -> list[str]:
        """The columns in which the adjudicator changed the answer after seeing the others'."""
        columns = dict.fromkeys([*self.first, *self.values])
        return [column for column in columns if self.first.get(column) != self.values.get(column)]


def decisions_in(path: Path) -> dict[str, Decision]:
    """Return text id -> the last decision on it."""
    decisions: dict[str, Decision] = {}
    for line in read_log(path)[0]:
        if line.get("action") != "decide":
            continue
        decisions[line["text_id"]] = Decision(
            line["text_id"],
            line.get("by", ""),
            line.get("time", ""),
            line["values"],
            line.get("first", {}),
            line.get("reason", ""),
            line.get("words", ""),
            bool(line.get("disputed", True)),
            line.get("voices", {}),
        )
    return decisions


def _words(value: Any) -> str:
    """Return a label in words; of several options all of them, of passages what was marked."""
    if not isinstance(value, list):
        return str(value)
    return ", ".join(str(v.get("text")) if isinstance(v, dict) else str(v) for v in value) or "none"


def proposals(decisions: Mapping[str, Decision], names: Mapping[str, str]) -> list[str]:
    """Return what decisions suggest for the codebook, per field the labels that were confused most.

    Parameters
    ----------
    names
        column -> the field's name.
    """
    unclear = [d for d in decisions.values() if d.reason == REASONS[0]]
    lines = []
    for column, name in names.items():
        about = [d for d in unclear if len(set(map(_words, d.voices.get(column, [])))) > 1]
        if not about:
            continue
        pairs = Counter(" / ".join(sorted(set(map(_words, d.voices[column])))) for d in about)
        confused, n = pairs.most_common(1)[0]
        reasons = "; ".join(dict.fromkeys(d.words for d in about if d.words))
        says = "1 decision says" if len(about) == 1 else f"{len(about)} decisions say"
        lines.append(
            f"{name}: {says} that the codebook is unclear; most often {confused} ({n}). "
            f"Texts: {', '.join(d.text_id for d in about[:6])}." + (f" {reasons}" if reasons else "")
        )
    return lines
