"""What a person's answer may be, and what a log of answers amounts to."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbannot.errors import DeskError, listed
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field, known_word
from nbannot.study.spans import Span, make_span

KINDS = {
    "checkbox": "1 or 0",
    "dropdown": "one of its options",
    "likert": "a whole number",
    "textbox": "a text",
    "span": "a list of spans",
    "multiselect": "a list of its options",
}


class Key(NamedTuple):
    """One coding of a text: its id and, for a text that is coded again, which time it is."""

    text_id: str
    repeat: int = 1


@dataclass
class Coded:
    """What one coding of a text has come to.

    Attributes
    ----------
    values
        column -> value; a value that was taken back is not there.
    asked_as
        column -> hash of the question as it was when the value was given.
    of_text
        Hash of the text that was coded, "" if nothing was.
    first, decided
        Of an adjudication: the own answers before the others' were shown, and whether the text is decided.
    seconds
        Time on the text, as far as it was measured.
    """

    values: dict[str, Any] = field(default_factory=dict)
    asked_as: dict[str, str] = field(default_factory=dict)
    of_text: str = ""
    memo: str = ""
    flagged: bool = False
    shown_gold: bool = False
    first: dict[str, Any] = field(default_factory=dict)
    decided: bool = False
    seconds: float = 0.0


class Step(NamedTuple):
    """One answer, as undoing it needs it."""

    key: Key
    column: str
    before: Any
    asked_as: str | None


class Ledger:
    """The state that a log amounts to: every coding of every text, and the answers that can be undone."""

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self.coded: dict[Key, Coded] = {}
        self.steps: list[Step] = []
        self.opened: Mapping[str, Any] | None = None
        self.history: dict[tuple[str, str], list[Any]] = {}
        for line in lines:
            self.take(line)

    def of(self, key: Key) -> Coded:
        """Return what a coding has come to; a blank one where there is none."""
        return self.coded.get(key) or Coded()

    def take(self, line: Mapping[str, Any]) -> None:
        """Take one line of the log into account."""
        action = line.get("action")
        if action == "open":
            self.opened = line
        if "text_id" not in line:
            return
        key = Key(str(line["text_id"]), int(line.get("repeat", 1)))
        coded = self.coded.setdefault(key, Coded())
        coded.seconds += float(line.get("seconds") or 0.0)
        if action in ("answer", "import", "undo"):
            self._answer(key, coded, line)
        elif action == "memo":
            coded.memo = str(line.get("memo") or "")
        elif action == "flag":
            coded.flagged = bool(line.get("value"))
        elif action == "shown":
            coded.first = dict(line.get("first") or {})
            coded.shown_gold = not coded.first
        elif action == "decide":
            coded.decided = True

    def _answer(self, key: Key, coded: Coded, line: Mapping[str, Any]) -> None:
        column, value = str(line["column"]), line.get("value")
        if line["action"] == "undo":
            if self.steps:
                self.steps.pop()
        else:
            before = coded.values.get(column)
            self.steps.append(Step(key, column, before, coded.asked_as.get(column)))
        if key.repeat == 1:
            self.history.setdefault((key.text_id, column), []).append(value)
        coded.decided = False
        coded.of_text = str(line.get("text") or coded.of_text)
        if value is None:
            coded.values.pop(column, None)
            coded.asked_as.pop(column, None)
        else:
            coded.values[column] = value
            coded.asked_as[column] = str(line.get("asked_as") or "")


def value_given(f: Field, text: str, value: Any) -> Any:
    """Return a person's answer as it is kept; ``None`` takes an answer back.

    Parameters
    ----------
    value
        Checkbox: 1, 0, True, False or a word for them. Dropdown: an option. Likert: an integer of the scale. Textbox: a
        text, "" for nothing to write. Span: a list of ``{"start", "end", "label"}`` in code points of the text, a
        ``"text"`` in it must be what stands there; ``[]`` for nothing found. Multiselect: a list of options, ``[]``
        where none applies.

    Raises
    ------
    DeskError
        If the field cannot take that value.
    """
    if value is None:
        return None
    if f.type == "span":
        return _spans(f, text, value)
    if f.type == "multiselect":
        return _options(f, value)
    if f.type == "checkbox" and isinstance(value, bool):
        return int(value)
    fits = isinstance(value, str) or (f.type in ("checkbox", "likert") and not isinstance(value, bool))
    if not fits:
        raise DeskError(f"'{f.name}' takes {KINDS[f.type]}. Got {value!r}.")
    if f.type == "textbox":
        return value if value.strip() else ""
    try:
        read = f.read(str(value))
    except ValueError as error:
        raise DeskError(_not_taken(f, value, error)) from None
    if read is None:
        raise DeskError(f"'{f.name}' takes {KINDS[f.type]}. Got a blank; None takes an answer back.")
    return read


def _not_taken(f: Field, value: Any, error: ValueError) -> str:
    return f"'{f.name}': {value!r} {error}{'' if str(error).endswith('?') else '.'}"


def _options(f: Field, value: Any) -> list[str]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise DeskError(f"'{f.name}' takes a list of its options, [] where none applies. Got {value!r}.")
    try:
        return f.chosen(list(value))
    except ValueError as error:
        raise DeskError(_not_taken(f, value, error)) from None


def _spans(f: Field, text: str, value: Any) -> list[Span]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise DeskError(f"'{f.name}' takes a list of spans, [] for nothing found. Got {value!r}.")
    spans: dict[tuple[int, int, str | None], Span] = {}
    for item in value:
        span = _span(f, text, item)
        spans[span["start"], span["end"], span["label"]] = span
    return sorted(spans.values(), key=lambda s: (s["start"], s["end"], s["label"] or ""))


def _span(f: Field, text: str, item: Any) -> Span:
    if not isinstance(item, Mapping):
        raise DeskError(f'\'{f.name}\': a span is {{"start", "end", "label"}}. Got {item!r}.')
    start, end = (_whole(item.get(name)) for name in ("start", "end"))
    if start is None or end is None or not 0 <= start < end <= len(text):
        raise DeskError(
            f"'{f.name}': start and end must be places in the text, 0 ≤ start < end ≤ {len(text)}. "
            f"Got {item.get('start')!r} and {item.get('end')!r}."
        )
    quote = item.get("text")
    if quote is not None and quote != text[start:end]:
        raise DeskError(
            f"'{f.name}': from {start} to {end} the text reads {text[start:end]!r}, not {quote!r}.\n"
            "  Places are counted in code points of the text as it is stored."
        )
    label = item.get("label")
    if not f.label_options:
        return make_span(text, start, end, None)
    known = known_word(str(label), f.label_options) if label is not None else None
    if known is None:
        raise DeskError(
            f"'{f.name}': a span needs one of the labels {listed(f.label_options, 10)}. Got {label!r}."
        )
    return make_span(text, start, end, known)


def _whole(value: Any) -> int | None:
    """Return a whole number, numpy's too, as Python's own; ``None`` for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def said(f: Field, value: Any) -> str:
    """Return a value in words."""
    if f.type == "checkbox":
        return "yes" if value else "no"
    if f.type == "span":
        return ", ".join(f"“{s['text']}” {s['label'] or ''}".strip() for s in value) or "nothing found"
    if f.type == "multiselect":
        return ", ".join(value) or "none of them"
    return str(value) if value != "" else "nothing"


def still_fits(f: Field, text: str, value: Any) -> bool:
    """Return whether a kept value is one that the field and the text can have as they are now."""
    try:
        return bool(value_given(f, text, value) == value)
    except DeskError:
        return False


def applicable(codebook: Codebook, values: Mapping[str, Any]) -> list[Field]:
    """Return the fields that apply given the answers so far, in codebook order."""
    return [f for f in codebook if codebook.applies(f, values)]


def row_of(codebook: Codebook, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels of one text: column -> value, only of fields that apply."""
    return {f.column: values[f.column] for f in applicable(codebook, values) if f.column in values}


def question_hash(f: Field) -> str:
    """Return a short hash of everything in a field that can change a person's answer."""
    condition = [f.condition.column, f.condition.value] if f.condition else None
    words = [f.section, f.instruction, f.name, f.type, f.tooltip, [e.raw for e in f.examples]]
    content = [*words, list(f.labels), list(f.option_descriptions), condition]
    return _short(json.dumps(content, ensure_ascii=False))


def text_hash(text: str) -> str:
    """Return a short hash of a text."""
    return _short(text)


def _short(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:12]
