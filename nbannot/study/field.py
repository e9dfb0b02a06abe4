"""One question of a codebook: its type, the values it can take, and how a value is read and written.

A `Field` knows its column name, the values it can take, its level of measurement, the JSON schema of an answer, and
how a value is written in a table cell. A `Section` is a group of fields under one instruction.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from nbannot.errors import listed, nearest

FieldType = Literal["checkbox", "dropdown", "likert", "textbox", "span", "multiselect"]
MINUS = "−"  # as typesetters and spreadsheets write it
TYPES: tuple[FieldType, ...] = ("checkbox", "dropdown", "likert", "textbox", "span", "multiselect")
LEVELS = {
    "checkbox": "nominal",
    "dropdown": "nominal",
    "likert": "ordinal",
    "textbox": "text",
    "span": "unitizing",
    "multiselect": "set",
}

YES = {"1", "true", "yes", "1.0", "1,0"}
NO = {"0", "false", "no", "0.0", "0,0"}
INTEGER = re.compile(r"([+-]?\d{1,15})(\.0+|,00?)?")
"""A whole number, also as spreadsheets write it: 3.0, or 3,0 where the comma is the decimal sign (3,000 is none)."""

Value = int | str | list[str] | list[dict[str, Any]]
"""One coder's value: checkbox 0/1, dropdown the option, likert an integer, textbox text, span a list of spans,
multiselect the list of the options that apply, in the codebook's order (`[]`: none does)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The field applies only where the field with `column` has `value`; of a multiselect, where that is chosen."""

    column: str
    value: int | str

    def met_by(self, value: Any) -> bool:
        """Return whether a coder's value of the field above lets this one apply."""
        return self.value in value if isinstance(value, list) else bool(value == self.value)

    def __str__(self) -> str:
        return f"{self.column} = {self.value}"


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example: a text and the response it should get (`None` where it could not be read)."""

    text: str
    response: Any
    raw: str


class NoOptionError(ValueError):
    """A cell is none of the options; which one is nearest is looked for when the message is read."""

    def __str__(self) -> str:
        word, options = self.args
        return f"must be one of {listed(options, at_most=10)}{nearest(word, options)}"


@dataclass(frozen=True)
class Field:
    """One question of the codebook ("annotation" in Studio's JSON).

    Attributes
    ----------
    column
        ``<section_name>_<name>``: its name in tables and on disk.
    where
        Where it stands in the file, e.g. ``"section_1 / annotation_2"``.
    labels
        Every value the field can take, in codebook order: ``(0, 1)``, the options, the full scale, the span
        labels; empty for a textbox and for unlabelled spans. Of a multiselect any number of them may apply.
    """

    column: str
    name: str
    section: str
    instruction: str
    type: FieldType
    where: str
    tooltip: str = ""
    examples: tuple[Example, ...] = ()
    options: tuple[str, ...] = ()
    option_descriptions: tuple[tuple[str, str], ...] = ()
    min_value: int = 0
    max_value: int = 0
    label_options: tuple[str, ...] = ()
    condition: Condition | None = None

    @property
    def level(self) -> str:
        """The level of measurement: nominal, ordinal, text, unitizing or set."""
        return LEVELS[self.type]

    @property
    def labels(self) -> tuple[int | str, ...]:
        """Every value the field can take, in codebook order."""
        if self.type == "checkbox":
            return (0, 1)
        if self.type == "likert":
            return tuple(range(self.min_value, self.max_value + 1))
        return self.label_options if self.type == "span" else self.options

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of one answer to this field (the value alone, without the object around it)."""
        if self.type == "checkbox":
            return {"type": "boolean"}
        if self.type == "dropdown":
            return {"type": "string", "enum": list(self.options)}
        if self.type == "likert":
            return {"type": "integer", "minimum": self.min_value, "maximum": self.max_value}
        if self.type == "textbox":
            return {"type": "string"}
        if self.type == "multiselect":
            # Not uniqueItems, which OpenAI's strict mode refuses and llguidance does not know; the length is bound
            # instead, so that a small model that repeats itself ends, and a repeated option counts once.
            one = {"type": "string", "enum": list(self.options)}
            return {"type": "array", "items": one, "maxItems": len(self.options)}
        item: dict[str, Any] = {"text": {"type": "string"}}
        if self.label_options:
            item["label"] = {"type": "string", "enum": list(self.label_options)}
        return {
            "type": "array",
            "items": {
                "type": "object",
                "properties": item,
                "required": list(item),
                "additionalProperties": False,
            },
        }

    def read(self, cell: str) -> Any:
        """Return the value that a table cell holds; ``None`` for a blank cell. Spans: see `nbannot.study.spans`.

        An option matches exactly, or else but for blanks around it and the way its accents are encoded (NFC);
        upper and lower case are different options. A multiselect is a JSON list of options, or one option alone.

        Raises
        ------
        ValueError
            If the cell is not a value of this field; the message says what is allowed.
        """
        word = cell.strip()
        if not word:
            return None
        if self.type == "textbox":
            return cell
        if self.type == "checkbox":
            if word.casefold() in YES | NO:
                return int(word.casefold() in YES)
            raise ValueError("must be 1 or 0 (or true/false, yes/no)")
        if self.type == "likert":
            number = INTEGER.fullmatch(word.replace(MINUS, "-"))
            if number and self.min_value <= int(number[1]) <= self.max_value:
                return int(number[1])
            raise ValueError(f"must be an integer from {self.min_value} to {self.max_value}")
        if self.type == "span":
            raise ValueError("is read together with its text: nbannot.study.spans.read_spans")
        if self.type == "multiselect":
            return self._chosen(cell)
        option = known_word(cell, self.options)
        if option is not None:
            return option
        raise NoOptionError(word, self.options)

    def _chosen(self, cell: str) -> list[str]:
        """Return the options that a cell names, in the codebook's order."""
        try:
            given = json.loads(cell)
        except (ValueError, RecursionError):
            given = cell
        if not isinstance(given, list):
            given = [cell]
            if known_word(cell, self.options) is None:
                raise ValueError(
                    f"must be a JSON list of the options that apply, such as {self.to_cell(self.options[:2])}, "
                    "or [] where none does"
                )
        return self.chosen(given)

    def chosen(self, given: Sequence[Any]) -> list[str]:
        """Return the options of a multiselect that a list names, each once and in the codebook's order.

        Raises
        ------
        ValueError
            If an entry is none of the options.
        """
        known = {word: known_word(word, self.options) for word in given if isinstance(word, str)}
        for word in given:
            if not isinstance(word, str) or known[word] is None:
                told = word if isinstance(word, str) else json.dumps(word, ensure_ascii=False, default=str)
                raise ValueError(f"holds {told!r}, and {NoOptionError(told, self.options)}")
        return [option for option in self.options if option in known.values()]

    def to_json(self, value: Any) -> Any:
        """Return a value as it stands in a model's JSON answer (a checkbox is true or false, no value is null)."""
        if value is None:
            return None
        if self.type == "checkbox":
            return bool(value)
        if self.type == "span":
            keys = ("text", "label") if self.label_options else ("text",)
            return [{key: span.get(key) for key in keys} for span in value]
        return list(value) if self.type == "multiselect" else value

    def to_cell(self, value: Any) -> str:
        """Return a value as it stands in ``output.csv``; a blank for ``None``."""
        if value is None:
            return ""
        if self.type in ("span", "multiselect"):
            return json.dumps(value, ensure_ascii=False)
        return str(int(value)) if self.type in ("checkbox", "likert") else str(value)


@dataclass(frozen=True)
class Section:
    """A group of fields under one instruction."""

    key: str
    name: str
    instruction: str
    fields: tuple[Field, ...]


def plain_word(text: str) -> str:
    """Return a label as it is compared when the exact one is unknown: no blanks around it, accents composed (NFC)."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def known_word(word: str, known: Sequence[str]) -> str | None:
    """Return the label that is meant: exactly this one, else the one that is the same as a `plain_word`."""
    return word if word in known else _plain_words(tuple(known)).get(plain_word(word))


@lru_cache(maxsize=64)
def _plain_words(known: tuple[str, ...]) -> dict[str, str]:
    return {plain_word(label): label for label in reversed(known)}  # the first of two that look the same


RULE = re.compile(r"[^\S\n]*---[^\S\n]*")
"""The line between two examples."""


def example_blocks(raw: str) -> list[str]:
    """Return the examples of a codebook's ``example`` string, which stand between lines of three dashes.

    A text may hold such a line itself (a signature, Markdown). A line parts two examples only where a quoted text
    before it is closed and the one before it has its response, or where the next one begins.
    """
    pieces: list[str] = [""]
    for line in raw.splitlines(keepends=True):
        if RULE.fullmatch(line.rstrip("\r\n")):
            pieces += [line, ""]
        else:
            pieces[-1] += line
    blocks = [pieces[0]]
    for rule, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if _is_open(blocks[-1]) or not (piece.lstrip().startswith("Text:") or _has_response(blocks[-1])):
            blocks[-1] += rule + piece
        else:
            blocks.append(piece)
    return [block.strip() for block in blocks if block.strip()]


def _is_open(block: str) -> bool:
    """Return whether a quotation mark opens the text of an example and none closes it before a response."""
    match = re.match(r"\s*Text:\s*\"", block)
    return bool(match) and not _has_response(block) and not re.search(r"\"\s*Response:", block[match.end() :])  # type: ignore[union-attr]


def _has_response(block: str) -> bool:
    """Return whether an example has a response in JSON, behind a text whose quotation mark is closed."""
    match = re.match(r"\s*Text:\s*", block)
    half, response = _halves(block[match.end() :]) if match else ("", None)
    return response is not None and (not half.startswith('"') or (len(half) > 1 and half.endswith('"')))


def read_example(field: Field, block: str) -> Example:
    """Return one ``Text: … Response: …`` block as an `Example`; its response is ``None`` if it does not fit."""
    match = re.search(r"Text:\s*(.*)", block, flags=re.DOTALL)
    text, response = _text_and_response(match[1]) if match else ("", None)
    if response is None:
        return Example(text, None, block)
    if field.type == "span":
        fits = isinstance(response, list) and all(
            isinstance(span, dict)
            and isinstance(span.get("text"), str)
            and (not field.label_options or span.get("label") in field.label_options)
            for span in response
        )
        return Example(text, response if fits else None, block)
    if field.type == "multiselect" and isinstance(response, list):
        try:
            return Example(text, field.chosen(response), block)
        except ValueError:
            return Example(text, None, block)
    try:
        value = field.read(str(response)) if not isinstance(response, list | dict) else None
    except ValueError:
        value = None
    if field.type == "textbox" and response == "":
        value = ""
    return Example(text, value, block)


def _text_and_response(block: str) -> tuple[str, Any]:
    half, response = _halves(block)
    return _unquoted(half), response


def _halves(block: str) -> tuple[str, Any]:
    """Return the two halves of an example; either may speak of a ``Response:`` itself, but only one cut gives JSON."""
    decoder = json.JSONDecoder()
    for cut in re.finditer(r"Response:\s*", block):
        try:
            value, end = decoder.raw_decode(block, cut.end())
            response = value["response"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if not block[end:].strip():
            return block[: cut.start()].strip(), response
    return block.split("Response:", maxsplit=1)[0].strip(), None


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
