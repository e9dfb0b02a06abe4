"""The codebook: what is asked of every text, in the format that CodeBook Studio exports.

`Codebook.load` reads and checks a ``codebook.json``; a `Field` is one question with its type, options, scale,
guidance, worked examples and condition. A field knows its column name, the values it can take, its level of
measurement, the JSON schema of an answer, and how a value is written in a table cell.

`Codebook.build` writes a codebook in Python, with one short function per type of question (`checkbox`, `dropdown`,
`likert`, `textbox`, `span`); `Codebook.save` writes it down in Studio's format.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from nbannot.errors import CodebookError, listed, nearest, problems
from nbannot.page.shown import Shown

FieldType = Literal["checkbox", "dropdown", "likert", "textbox", "span"]
TYPES: tuple[FieldType, ...] = ("checkbox", "dropdown", "likert", "textbox", "span")
LEVELS = {
    "checkbox": "nominal",
    "dropdown": "nominal",
    "likert": "ordinal",
    "textbox": "text",
    "span": "unitizing",
}

YES = {"1", "true", "yes", "1.0"}
NO = {"0", "false", "no", "0.0"}
INTEGER = re.compile(r"([+-]?\d{1,15})(\.0+)?")
MOST_SCALE_POINTS = 10_001
TEXT_SETTINGS = ("header_column", "id_column", "codebook_id", "version", "language")

Value = int | str | list[dict[str, Any]]
"""One coder's value: checkbox 0/1, dropdown the option, likert an integer, textbox text, span a list of spans."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The field applies only where the field with `column` has `value`."""

    column: str
    value: int | str


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example: a text and the response it should get (`None` where it could not be read)."""

    text: str
    response: Any
    raw: str


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
        labels; empty for a textbox and for unlabelled spans.
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
        """The level of measurement: nominal, ordinal, text or unitizing."""
        return LEVELS[self.type]

    @property
    def labels(self) -> tuple[int | str, ...]:
        """Every value the field can take, in codebook order."""
        if self.type == "checkbox":
            return (0, 1)
        if self.type == "likert":
            return tuple(range(self.min_value, self.max_value + 1))
        return self.options if self.type == "dropdown" else self.label_options

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

    def read(self, cell: str) -> int | str | None:
        """Return the value that a table cell holds; ``None`` for a blank cell. Spans: see `nbannot.study.spans`.

        An option matches exactly, or else but for blanks around it and the way its accents are encoded (NFC);
        upper and lower case are different options.

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
            number = INTEGER.fullmatch(word)
            if number and self.min_value <= int(number[1]) <= self.max_value:
                return int(number[1])
            raise ValueError(f"must be an integer from {self.min_value} to {self.max_value}")
        if self.type == "span":
            raise ValueError("is read together with its text: nbannot.study.spans.read_spans")
        option = known_word(cell, self.options)
        if option is not None:
            return option
        raise ValueError(f"must be one of {listed(self.options, at_most=10)}{nearest(word, self.options)}")

    def to_json(self, value: Any) -> Any:
        """Return a value as it stands in a model's JSON answer (a checkbox is true or false, no value is null)."""
        if value is None:
            return None
        if self.type == "checkbox":
            return bool(value)
        if self.type == "span":
            keys = ("text", "label") if self.label_options else ("text",)
            return [{key: span.get(key) for key in keys} for span in value]
        return value

    def to_cell(self, value: Any) -> str:
        """Return a value as it stands in ``output.csv``; a blank for ``None``."""
        if value is None:
            return ""
        if self.type == "span":
            return json.dumps(value, ensure_ascii=False)
        return str(int(value)) if self.type in ("checkbox", "likert") else str(value)


@dataclass(frozen=True)
class Section:
    """A group of fields under one instruction."""

    key: str
    name: str
    instruction: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, repr=False)
class Codebook(Shown):
    """Every question that is asked of a text, checked and in order.

    Attributes
    ----------
    text_column
        The column of the data that holds the text.
    header_column, metadata_columns
        Columns that describe a text; never sent to a model unless asked for.
    id_column
        The column that identifies a text, if the codebook names one.
    notes
        What was understood in a particular way, e.g. an example whose response could not be read.
    source
        What the codebook was read from, in Studio's format and with everything that other tools keep there.
    """

    _display: ClassVar[str] = "codebook_card"

    text_column: str
    sections: tuple[Section, ...]
    header_column: str | None = None
    metadata_columns: tuple[str, ...] = ()
    id_column: str | None = None
    codebook_id: str | None = None
    version: str | None = None
    language: str | None = None
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] = attribute(default_factory=dict, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Return the codebook read from a ``codebook.json`` or from the folder that holds one.

        Raises
        ------
        CodebookError
            If the file is missing, is not JSON, or has problems: all of them in one message.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            path = path / "codebook.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_key_twice)
        except FileNotFoundError:
            raise CodebookError(
                f"no codebook at {path}.\n  A task is a folder with codebook.json and ground-truth.csv."
            ) from None
        except UnicodeDecodeError as error:
            raise CodebookError(f"{path} is not UTF-8 (byte {error.start}).\n  Save it as UTF-8.") from None
        except json.JSONDecodeError as error:
            raise CodebookError(
                f"{path} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.\n"
                "  Export it again, or correct that line."
            ) from None
        except _KeyTwice as error:
            raise CodebookError(
                f"{path} has the key '{error}' twice in one object, so that one of them would be lost.\n"
                "  Give each section and annotation its own number."
            ) from None
        except OSError as error:
            raise CodebookError(f"{path} cannot be read: {error.strerror}.") from None
        return cls.from_dict(raw, where=str(path))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "codebook") -> Codebook:
        """Return the codebook that a dictionary of Studio's format describes; see `load`."""
        return _Reader(_own_copy(raw, where), where).codebook()

    @classmethod
    def build(
        cls,
        *,
        text_column: str,
        sections: Mapping[str, Sequence[Question]],
        instructions: Mapping[str, str] | None = None,
        id_column: str | None = None,
        header_column: str | None = None,
        metadata_columns: Sequence[str] = (),
        language: str | None = None,
    ) -> Codebook:
        """Return a codebook written in Python.

        Parameters
        ----------
        text_column, id_column, header_column, metadata_columns
            Columns of the data; see `Codebook`.
        sections
            Section name -> its questions, made with `checkbox`, `dropdown`, `likert`, `textbox` and `span`.
        instructions
            Section name -> what the coder reads before its questions.

        Raises
        ------
        CodebookError
            If something is missing or contradictory: all problems in one message.

        Examples
        --------
        >>> codebook = Codebook.build(
        ...     text_column="text",
        ...     sections={"Tone": [
        ...         checkbox("Evaluates", "Does the text judge a policy?"),
        ...         dropdown("Direction", options=["positive", "negative"], condition=("Evaluates", 1)),
        ...     ]},
        ... )
        >>> [field.column for field in codebook]
        ['Tone_Evaluates', 'Tone_Direction']
        >>> codebook["Direction"].condition
        Condition(column='Tone_Evaluates', value=1)
        """
        told = dict(instructions or {})
        faults = [
            f"instructions for '{name}', which is no section{nearest(name, sections)}"
            for name in told
            if name not in sections
        ]
        raw: dict[str, Any] = {
            "text_column": text_column,
            "id_column": id_column,
            "header_column": header_column,
            "metadata_columns": list(metadata_columns),
            "language": language,
        }
        raw = {key: value for key, value in raw.items() if value not in (None, [])}
        for number, (name, questions) in enumerate(sections.items(), start=1):
            raw[f"section_{number}"] = {
                "section_name": name,
                "section_instruction": told.get(name, ""),
                "annotations": {f"annotation_{n}": dict(q) for n, q in enumerate(questions, start=1)},
            }
        _point_conditions(raw, faults)
        return _Reader(_own_copy(raw, "codebook"), "codebook", faults).codebook()

    def to_dict(self) -> dict[str, Any]:
        """Return the codebook in Studio's format, with everything it was read with; the caller owns the copy."""
        return copy.deepcopy(dict(self.source))

    def save(self, path: str | Path) -> Path:
        """Write the codebook in Studio's format and return where: `path`, or ``codebook.json`` in that folder.

        A path that does not end in ``.json`` is a folder; missing folders are made. An existing file is replaced.
        """
        path = Path(path).expanduser()
        if path.suffix != ".json":
            path = path / "codebook.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.source, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        return path

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Every field, section by section."""
        return tuple(field for section in self.sections for field in section.fields)

    @cached_property
    def _by_column(self) -> dict[str, Field]:
        return {field.column: field for field in self.fields}

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> Field:
        """Return the field with this column, or with this name where only one field has it."""
        if name in self._by_column:
            return self._by_column[name]
        named = [field for field in self.fields if field.name == name]
        if len(named) == 1:
            return named[0]
        if named:
            raise CodebookError(
                f"{len(named)} fields are called '{name}'.\n  Use the column: {listed(f.column for f in named)}."
            )
        known = [field.column for field in self.fields]
        hint = nearest(name, known + [field.name for field in self.fields])
        raise CodebookError(
            f"the codebook has no field '{name}'{hint or '.'}\n  Its fields: {listed(known, 12)}."
        )

    def applies(self, field: Field, values: Mapping[str, Any]) -> bool:
        """Return whether `field` applies, given one coder's values of the other fields (column -> value).

        A field whose parent does not apply does not apply either, and neither does one whose parent has no value.
        """
        condition = field.condition
        if condition is None:
            return True
        parent = self._by_column[condition.column]
        return self.applies(parent, values) and values.get(parent.column) == condition.value

    def depth(self, field: Field) -> int:
        """Return how many conditions stand above the field: 0 for one that always applies."""
        return 0 if field.condition is None else 1 + self.depth(self._by_column[field.condition.column])

    @cached_property
    def in_order(self) -> tuple[Field, ...]:
        """The fields so that a parent always comes before the fields that depend on it, else in file order."""
        placed: list[Field] = []
        waiting = list(self.fields)
        while waiting:
            done = {field.column for field in placed}
            ready = next(f for f in waiting if f.condition is None or f.condition.column in done)
            placed.append(ready)
            waiting.remove(ready)
        return tuple(placed)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of everything in the codebook that can change an answer."""
        content = [
            self.text_column,
            [
                [
                    f.column,
                    f.section,
                    f.instruction,
                    f.name,
                    f.type,
                    f.tooltip,
                    [e.raw for e in f.examples],
                    f.labels,
                    f.option_descriptions,
                    [f.condition.column, f.condition.value] if f.condition else None,
                ]
                for f in self.fields
            ],
        ]
        written = json.dumps(content, ensure_ascii=False)
        return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()

    def __repr__(self) -> str:
        return f"<Codebook: {len(self.sections)} sections, {len(self.fields)} fields>"


Question = dict[str, Any]
"""One question for `Codebook.build`: an annotation in Studio's format, its condition by name."""


def checkbox(
    name: str,
    tooltip: str = "",
    *,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a yes-or-no question for `Codebook.build`.

    Parameters
    ----------
    name
        Its name; the column in tables is ``<section>_<name>``.
    tooltip
        The guidance: what the coder should know to answer it.
    examples
        Worked examples, each a text and the response it should get.
    condition
        ``(name or column of another question, its value)``: asked only where that question has that value.

    Examples
    --------
    >>> checkbox("Evaluates", "Does the text judge a policy?", examples=[("A fine law.", 1)])["type"]
    'checkbox'
    """
    return _question("checkbox", name, tooltip, examples, condition)


def dropdown(
    name: str,
    tooltip: str = "",
    *,
    options: Sequence[str] | Mapping[str, str],
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question with one answer out of `options`, a list or option -> description; see `checkbox`.

    >>> dropdown("Direction", options={"positive": "Praise of any kind.", "negative": ""})["options"]
    ['positive', 'negative']
    """
    return _question("dropdown", name, tooltip, examples, condition, **_described("options", options))


def likert(
    name: str,
    tooltip: str = "",
    *,
    min_value: int,
    max_value: int,
    points: Mapping[int, str] | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered on the scale from `min_value` to `max_value`, both included; see `checkbox`.

    `points` says what some or all points of the scale stand for, e.g. ``{1: "not at all", 5: "entirely"}``.
    """
    ends: dict[str, Any] = {"min_value": min_value, "max_value": max_value}
    if points:
        ends["point_descriptions"] = {str(point): text for point, text in points.items()}
    return _question("likert", name, tooltip, examples, condition, **ends)


def textbox(
    name: str,
    tooltip: str = "",
    *,
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered in free words; see `checkbox`."""
    return _question("textbox", name, tooltip, examples, condition)


def span(
    name: str,
    tooltip: str = "",
    *,
    label_options: Sequence[str] | Mapping[str, str] = (),
    examples: Sequence[tuple[str, Any]] = (),
    condition: tuple[str, int | str] | None = None,
) -> Question:
    """Return a question answered by marking passages, with one of `label_options` each or unlabelled; see `checkbox`.

    The response of an example is a list of passages: ``[{"text": "very angry", "label": "emotion"}]``.
    """
    labels = _described("label_options", label_options)
    return _question("span", name, tooltip, examples, condition, **labels)


def _described(key: str, options: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    if isinstance(options, str):
        return {key: options}  # the reader says that it must be a list
    found: dict[str, Any] = {key: list(options)}
    if isinstance(options, Mapping):
        found["option_descriptions"] = {name: text for name, text in options.items() if text}
    return found


def _question(
    kind: FieldType,
    name: str,
    tooltip: str,
    examples: Sequence[tuple[str, Any]],
    condition: tuple[str, int | str] | None,
    **further: Any,
) -> Question:
    blocks = [
        f'Text: \n"{text}"\n\nResponse: \n{json.dumps({"response": response}, ensure_ascii=False)}'
        for text, response in examples
    ]
    question = {
        "name": name,
        "type": kind,
        "tooltip": tooltip,
        "example": "\n\n---\n\n".join(blocks),
        **further,
    }
    return question if condition is None else {**question, "condition": condition}


def _point_conditions(raw: dict[str, Any], faults: list[str]) -> None:
    """Turn every condition by name, ``(name or column, value)``, into Studio's form, in place.

    One that names no question, or several, is taken away and entered among the faults.
    """
    places = [
        (section_key, key, raw[section_key]["section_name"], question)
        for section_key in raw
        if section_key.startswith("section_")
        for key, question in raw[section_key]["annotations"].items()
    ]
    names = [
        name for _, _, section, q in places for name in (f"{section}_{q.get('name')}", str(q.get("name")))
    ]
    for section_key, key, section, question in places:
        condition = question.get("condition")
        where = f"{section_key} / {key} '{question.get('name')}'"
        if condition is None or isinstance(condition, Mapping):
            continue
        del question["condition"]
        if isinstance(condition, str) or not isinstance(condition, Sequence) or len(condition) != 2:
            faults.append(f"{where}: condition must be (name of another question, value). Got {condition!r}")
            continue
        wanted, value = condition
        found = [p for p in places if wanted == f"{p[2]}_{p[3].get('name')}"]
        found = found or [p for p in places if wanted == p[3].get("name")]
        found = [p for p in found if p[2] == section] or found if len(found) > 1 else found
        if len(found) == 1:
            parent = {"section_key": found[0][0], "annotation_key": found[0][1]}
            question["condition"] = {**parent, "value": value}
        elif found:
            columns = listed(f"'{p[2]}_{wanted}'" for p in found)
            faults.append(
                f"{where}: its condition names '{wanted}', which {len(found)} questions are called: say {columns}"
            )
        else:
            hint = nearest(str(wanted), names)
            faults.append(f"{where}: its condition names '{wanted}', which does not exist{hint}")


def _own_copy(raw: Any, where: str) -> Any:
    """Return what JSON makes of something: a copy that nobody else holds."""
    try:
        return json.loads(json.dumps(raw))
    except (TypeError, ValueError) as error:
        raise CodebookError(
            f"{where} holds something that JSON cannot: {error}.\n  Use strings, numbers, lists and dictionaries."
        ) from None


class _KeyTwice(Exception):
    """A key that one JSON object has twice."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _KeyTwice(key)
        found[key] = value
    return found


class _Reader:
    """Reads one codebook and collects every problem before it complains."""

    def __init__(self, raw: Mapping[str, Any], where: str, faults: Sequence[str] = ()) -> None:
        self.raw, self.where = raw, where
        self.faults = list(faults)
        self.notes: list[str] = []
        self.places: dict[tuple[str, str], Field | None] = {}

    def codebook(self) -> Codebook:
        if not isinstance(self.raw, Mapping):
            raise CodebookError(f"{self.where} must hold one JSON object. Got {type(self.raw).__name__}.")
        text_column = self.raw.get("text_column")
        if not isinstance(text_column, str) or not text_column.strip():
            self.faults.append("text_column is missing: name the column that holds the text")
            text_column = ""
        keys = [key for key in self.raw if key.startswith("section_")]
        if not keys:
            self.faults.append("there is no section: keys like 'section_1' hold the questions")
        sections = [self.section(key, self.raw[key]) for key in keys]
        if keys and not self.places and not self.faults:
            self.faults.append(f"no section has annotations ({listed(keys)}): there is nothing to ask")
        fields = [field for section in sections for field in section.fields]
        metadata = self.metadata()
        self.check_columns(fields, text_column, metadata)
        conditions = self.conditions(fields)
        if self.faults:
            raise CodebookError(
                problems(f"{self.where} cannot be used", self.faults, at_most=len(self.faults))
            )
        sections = [
            Section(s.key, s.name, s.instruction, tuple(_with_condition(f, conditions) for f in s.fields))
            for s in sections
        ]
        text = {
            name: None if self.raw.get(name) in (None, "") else str(self.raw[name]) for name in TEXT_SETTINGS
        }
        return Codebook(
            text_column=text_column,
            sections=tuple(sections),
            metadata_columns=metadata,
            notes=tuple(self.notes),
            source=self.raw,
            **text,
        )

    def metadata(self) -> tuple[str, ...]:
        """Return the metadata columns; complain of settings that are no strings."""
        for key in TEXT_SETTINGS:
            if isinstance(self.raw.get(key), list | dict):
                self.faults.append(f"{key} must be a string. Got {self.raw[key]!r}")
        names = self.raw.get("metadata_columns") or []
        if not isinstance(names, list):
            self.faults.append(f"metadata_columns must be a list of columns. Got {names!r}")
            return ()
        return tuple(dict.fromkeys(map(str, names)))

    def section(self, key: str, raw: Any) -> Section:
        if not isinstance(raw, Mapping):
            self.faults.append(f"{key} must be an object with section_name and annotations")
            return Section(key, key, "", ())
        name = raw.get("section_name")
        if not isinstance(name, str) or not name.strip():
            self.faults.append(f"{key} has no section_name")
            name = key
        annotations = raw.get("annotations") or {}
        if not isinstance(annotations, Mapping):
            self.faults.append(f"{key}: annotations must be an object of annotation_1, annotation_2, …")
            annotations = {}
        instruction = str(raw.get("section_instruction") or "")
        ordered = sorted(annotations, key=_number)
        for k in ordered:
            self.places[key, k] = self.field(key, name, instruction, k, annotations[k])
        fields = [self.places[key, k] for k in ordered]
        return Section(key, name, instruction, tuple(f for f in fields if f))

    def field(self, section_key: str, section: str, instruction: str, key: str, raw: Any) -> Field | None:
        where = f"{section_key} / {key}"
        if not isinstance(raw, Mapping):
            self.faults.append(f"{where} must be an object")
            return None
        name, kind = raw.get("name"), raw.get("type")
        if not isinstance(name, str) or not name.strip():
            self.faults.append(f"{where} has no name")
            name = key
        where = f"{where} '{name}'"
        if kind not in TYPES:
            hint = nearest(str(kind), TYPES)
            self.faults.append(f"{where}: type must be one of {', '.join(TYPES)}. Got {kind!r}{hint}")
            return None
        low, high = self.scale(where, raw) if kind == "likert" else (0, 0)
        options = self.strings(where, raw, "options", needed=True) if kind == "dropdown" else ()
        field = Field(
            column=f"{section}_{name}",
            name=name,
            section=section,
            instruction=instruction,
            type=kind,
            where=f"{section_key} / {key}",
            tooltip=str(raw.get("tooltip") or ""),
            options=options,
            option_descriptions=self.descriptions(where, raw),
            min_value=low,
            max_value=high,
            label_options=self.strings(where, raw, "label_options", needed=False) if kind == "span" else (),
        )
        unknown = [word for word, _ in field.option_descriptions if word not in map(str, field.labels)]
        if unknown:
            self.faults.append(f"{where}: option_descriptions names what is no option: {listed(unknown)}")
        return replace(field, examples=self.examples(where, field, raw.get("example")))

    def scale(self, where: str, raw: Mapping[str, Any]) -> tuple[int, int]:
        ends = []
        for key in ("min_value", "max_value"):
            value = raw.get(key)
            number = INTEGER.fullmatch(str(value).strip())
            if isinstance(value, bool) or not number:
                self.faults.append(f"{where}: {key} must be an integer. Got {value!r}")
                return 0, 1
            ends.append(int(number[1]))
        low, high = ends
        if low >= high:
            self.faults.append(f"{where}: min_value must be below max_value. Got {low} and {high}")
        if high - low >= MOST_SCALE_POINTS:
            self.faults.append(
                f"{where}: a scale has at most {MOST_SCALE_POINTS:,} points. Got {low} to {high}; "
                "use a textbox for open numbers"
            )
            return 0, 1
        return low, high

    def descriptions(self, where: str, raw: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return what the codebook says of each option, or of points of a scale under their own key."""
        pairs: dict[str, str] = {}
        for key in ("option_descriptions", "point_descriptions"):
            found = raw.get(key) or {}
            if not isinstance(found, Mapping):
                self.faults.append(f"{where}: {key} must be an object, option: text. Got {found!r}")
            elif found and key == "point_descriptions" and raw.get("type") != "likert":
                self.faults.append(
                    f"{where}: point_descriptions describes a likert scale; use option_descriptions"
                )
            else:
                pairs |= {str(option): str(text) for option, text in found.items()}
        return tuple(pairs.items())

    def strings(self, where: str, raw: Mapping[str, Any], key: str, *, needed: bool) -> tuple[str, ...]:
        values = raw.get(key) or []
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            self.faults.append(f"{where}: {key} must be a list of strings. Got {values!r}")
            return ()
        if needed and not values:
            self.faults.append(f"{where}: a dropdown needs options")
        plain = [plain_word(v) for v in values]
        twice = dict.fromkeys(v for v, word in zip(values, plain, strict=True) if plain.count(word) > 1)
        if twice:
            self.faults.append(
                f"{where}: {key} lists {listed(map(repr, twice))} more than once (blanks around it and how accents "
                "are encoded do not count)"
            )
        if any(not v.strip() for v in values):
            self.faults.append(f"{where}: {key} holds a blank entry; a blank cell means 'not coded'")
        return tuple(values)

    def examples(self, where: str, field: Field, raw: Any) -> tuple[Example, ...]:
        if not raw:
            return ()
        if not isinstance(raw, str):
            self.faults.append(f"{where}: example must be one string. Got {type(raw).__name__}")
            return ()
        blocks = [block.strip() for block in re.split(r"(?m)^\s*---\s*$", raw) if block.strip()]
        examples = tuple(read_example(field, block) for block in blocks)
        unread = sum(example.response is None for example in examples)
        if unread:
            self.notes.append(f"{where}: {unread} of {len(examples)} examples are sent as they stand "
                              "(no JSON response that fits the field)")  # fmt: skip
        return examples

    def check_columns(self, fields: list[Field], text_column: str, metadata: Sequence[str]) -> None:
        seen: dict[str, Field] = {}
        for field in fields:
            if field.column in seen:
                first = seen[field.column].where
                self.faults.append(f"{first} and {field.where} have the same column '{field.column}'")
            seen[field.column] = field
        reserved = {text_column: "text_column"}
        for key in ("id_column", "header_column"):
            reserved[str(self.raw.get(key) or "")] = key
        reserved |= dict.fromkeys(metadata, "metadata_columns")
        for field in fields:
            if field.column in reserved:
                self.faults.append(
                    f"{field.where} '{field.name}': its column '{field.column}' is also named "
                    f"in {reserved[field.column]}, where no label may stand"
                )

    def conditions(self, fields: list[Field]) -> dict[str, Condition]:
        found: dict[str, Condition] = {}
        for (section_key, key), field in self.places.items():
            raw = self.raw[section_key]["annotations"][key].get("condition") if field else None
            if field and raw and (condition := self.condition(field, raw)):
                found[field.column] = condition
        self.check_circles(fields, found)
        return found

    def condition(self, field: Field, raw: Any) -> Condition | None:
        who = f"{field.where} '{field.name}'"
        if not isinstance(raw, Mapping) or not {"section_key", "annotation_key", "value"} <= set(raw):
            self.faults.append(f"{who}: condition needs section_key, annotation_key and value. Got {raw!r}")
            return None
        place = (str(raw["section_key"]), str(raw["annotation_key"]))
        target = " / ".join(place)
        if place not in self.places:
            self.faults.append(f"{who}: its condition names {target}, which does not exist")
            return None
        parent = self.places[place]
        if parent is None:  # its own fault is already in the list
            return None
        if parent is field:
            self.faults.append(f"{who}: its condition is on {target} '{field.name}', itself")
            return None
        value = _condition_value(parent, raw["value"])
        if value is None:
            self.faults.append(
                f"{who}: its condition wants {raw['value']!r} of {target} "
                f"'{parent.name}', which cannot take that value ({_can_take(parent)})"
            )
            return None
        return Condition(parent.column, value)

    def check_circles(self, fields: list[Field], found: Mapping[str, Condition]) -> None:
        by_column = {field.column: field for field in fields}
        reported: set[str] = set()
        for start in found:
            path = [start]
            while path[-1] in found and found[path[-1]].column not in path:
                path.append(found[path[-1]].column)
            if path[-1] in found and found[path[-1]].column == start and not reported & set(path):
                reported |= set(path)
                names = " → ".join(f"{by_column[c].where} '{by_column[c].name}'" for c in [*path, start])
                self.faults.append(f"conditions go in a circle: {names}")


def plain_word(text: str) -> str:
    """Return a label as it is compared when the exact one is unknown: no blanks around it, accents composed (NFC)."""
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def known_word(word: str, known: Sequence[str]) -> str | None:
    """Return the label that is meant: exactly this one, else the one that is the same as a `plain_word`."""
    if word in known:
        return word
    plain = plain_word(word)
    return next((label for label in known if plain_word(label) == plain), None)


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
    try:
        value = field.read(str(response)) if not isinstance(response, list | dict) else None
    except ValueError:
        value = None
    if field.type == "textbox" and response == "":
        value = ""
    return Example(text, value, block)


def _text_and_response(block: str) -> tuple[str, Any]:
    """Return the two halves of an example; either may speak of a ``Response:`` itself, but only one cut gives JSON."""
    first = re.split(r"\s*Response:", block, maxsplit=1)[0]
    for cut in re.finditer(r"\s*Response:\s*", block):
        try:
            response = json.loads(block[cut.end() :])["response"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
        return _unquoted(block[: cut.start()]), response
    return _unquoted(first), None


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _with_condition(field: Field, conditions: Mapping[str, Condition]) -> Field:
    return replace(field, condition=conditions[field.column]) if field.column in conditions else field


def _number(key: str) -> tuple[float, str]:
    match = re.search(r"(\d+)$", key)
    return (int(match[1]) if match else float("inf"), key)


def _condition_value(parent: Field, raw: Any) -> int | str | None:
    if parent.type == "span" or raw is None or isinstance(raw, list | dict):
        return None
    try:
        return parent.read(str(raw))
    except ValueError:
        return None


def _can_take(field: Field) -> str:
    if field.type == "span":
        return "a condition cannot be on a span field"
    if field.type == "likert":
        return f"{field.min_value} to {field.max_value}"
    return "a text" if field.type == "textbox" else listed(field.labels, at_most=10)
