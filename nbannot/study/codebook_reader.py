"""Reads one codebook in the format that CodeBook Studio exports, and collects every problem before it complains."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbannot.errors import CodebookError, listed, nearest, problems
from nbannot.study.field import (
    INTEGER,
    TYPES,
    Condition,
    Example,
    Field,
    Section,
    example_blocks,
    known_word,
    plain_word,
    read_example,
)
from nbannot.tools.given import parse_json

MOST_SCALE_POINTS = 10_001
"""The tables of a scale hold a cell for each pair of points; beyond 0 to 10,000 it is a measurement, no scale."""
TEXT_SETTINGS = ("header_column", "id_column", "codebook_id", "version", "language")


def own_copy(raw: Any, where: str) -> Any:
    """Return what JSON makes of something: a copy that nobody else holds."""
    try:
        return json.loads(json.dumps(raw))
    except RecursionError:
        raise CodebookError(f"{where} is nested too deep to be a codebook.") from None
    except (TypeError, ValueError) as error:
        raise CodebookError(
            f"{where} holds something that JSON cannot: {error}.\n  Use strings, numbers, lists and dictionaries."
        ) from None


def half_characters(raw: Any, where: str = "") -> list[str]:
    """Return one line for every text in a codebook that holds half a character, which no file can hold."""
    if isinstance(raw, str):
        if not re.search("[\ud800-\udfff]", raw):
            return []
        shown = re.sub("[\ud800-\udfff]", "�", raw)
        cut = shown if len(shown) <= 60 else "…" + shown[max(0, shown.index("�") - 30) :][:58] + "…"
        return [f"{where or 'a key'}: half a character ({cut!r}): cut inside an emoji? Write that text again"]
    if isinstance(raw, Mapping):
        pairs = [(str(key), value) for key, value in raw.items()]
        inside = [
            line for key, value in pairs for line in half_characters(value, f"{where} / {key}".strip(" /"))
        ]
        return [*(line for key, _ in pairs for line in half_characters(key, where)), *inside]
    if isinstance(raw, list):
        return [line for item in raw for line in half_characters(item, where)]
    return []


class _KeyTwice(Exception):
    """A key that one JSON object has twice."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise _KeyTwice(key)
        members[key] = value
    return members


def read_json_file(path: Path) -> Any:
    """Return what a JSON file of a codebook holds; raise `CodebookError` where it cannot be read."""
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_key_twice)
    except FileNotFoundError:
        raise CodebookError(
            f"no codebook at {path}.\n  Give a codebook.json or its folder; nbannot.build_codebook() writes one."
        ) from None
    except UnicodeDecodeError as error:
        raise CodebookError(f"{path} is not UTF-8 (byte {error.start}).\n  Save it as UTF-8.") from None
    except _KeyTwice as error:
        raise CodebookError(
            f"{path} has the key '{error}' twice in one object, so that one of them would be lost.\n"
            "  Give each section and annotation its own number."
        ) from None
    except OSError as error:
        raise CodebookError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise CodebookError(
            f"{path} is not JSON: {error}.\n  Export it again, or correct that line."
        ) from None


class CodebookReader:
    """Reads one codebook and collects every problem before it complains."""

    def __init__(self, raw: Mapping[str, Any], where: str, faults: Sequence[str] = ()) -> None:
        self.raw, self.where = raw, where
        self.faults = list(faults)
        self.notes: list[str] = []
        self.places: dict[tuple[str, str], Field | None] = {}

    def parts(self) -> dict[str, Any]:
        """Return the attributes of the `Codebook`; raise `CodebookError` with every problem at once."""
        if not isinstance(self.raw, Mapping):
            raise CodebookError(f"{self.where} must hold one JSON object. Got {type(self.raw).__name__}.")
        if halves := half_characters(self.raw):
            raise CodebookError(problems(f"{self.where} cannot be used", halves, at_most=len(halves)))
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
        return {
            "text_column": text_column,
            "sections": tuple(sections),
            "metadata_columns": metadata,
            "notes": tuple(self.notes),
            "source": self.raw,
            **text,
        }

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
        has_options = kind in ("dropdown", "multiselect")
        options = self.strings(where, raw, "options", needed=True) if has_options else ()
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
            given = raw.get(key) or {}
            if not isinstance(given, Mapping):
                self.faults.append(f"{where}: {key} must be an object, option: text. Got {given!r}")
            elif given and key == "point_descriptions" and raw.get("type") != "likert":
                self.faults.append(
                    f"{where}: point_descriptions describes a likert scale; use option_descriptions"
                )
            else:
                pairs |= {str(option): str(text) for option, text in given.items()}
        return tuple(pairs.items())

    def strings(self, where: str, raw: Mapping[str, Any], key: str, *, needed: bool) -> tuple[str, ...]:
        values = raw.get(key) or []
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            self.faults.append(f"{where}: {key} must be a list of strings. Got {values!r}")
            return ()
        if needed and not values:
            self.faults.append(f"{where}: a {raw.get('type')} needs options")
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
        examples = tuple(read_example(field, block) for block in example_blocks(raw))
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
        conditions: dict[str, Condition] = {}
        for (section_key, key), field in self.places.items():
            raw = self.raw[section_key]["annotations"][key].get("condition") if field else None
            if field and raw and (condition := self.condition(field, raw)):
                conditions[field.column] = condition
        self.check_circles(fields, conditions)
        return conditions

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

    def check_circles(self, fields: list[Field], conditions: Mapping[str, Condition]) -> None:
        by_column = {field.column: field for field in fields}
        done: set[str] = set()
        for start in conditions:
            path: dict[str, None] = {}
            column = start
            while column in conditions and column not in done and column not in path:
                path[column] = None
                column = conditions[column].column
            if column in path:
                circle = list(path)[list(path).index(column) :]
                names = " → ".join(f"{by_column[c].where} '{by_column[c].name}'" for c in [*circle, column])
                self.faults.append(f"conditions go in a circle: {names}")
            done |= set(path)


def _with_condition(field: Field, conditions: Mapping[str, Condition]) -> Field:
    return replace(field, condition=conditions[field.column]) if field.column in conditions else field


def _number(key: str) -> tuple[float, str]:
    digits = key[len(key.rstrip("0123456789")) :][-15:]
    return (int(digits) if digits else float("inf"), key)


def _condition_value(parent: Field, raw: Any) -> int | str | None:
    if parent.type == "span" or raw is None or isinstance(raw, list | dict):
        return None
    if parent.type == "multiselect":
        return known_word(str(raw), parent.options)
    try:
        value: int | str | None = parent.read(str(raw))
    except ValueError:
        return None
    return value


def _can_take(field: Field) -> str:
    if field.type == "span":
        return "a condition cannot be on a span field"
    if field.type == "likert":
        return f"{field.min_value} to {field.max_value}"
    return "a text" if field.type == "textbox" else listed(field.labels, at_most=10)
