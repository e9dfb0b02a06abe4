"""A codebook in other shapes: as Markdown, as a table of questions, and what differs between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbannot.errors import CodebookError, listed, problems
from nbannot.study.field import TYPES, Field
from nbannot.study.reading import as_text
from nbannot.study.spreadsheets import QUESTIONS, WORKBOOKS, read_table


def to_markdown(codebook: Any) -> str:
    """Return a codebook as Markdown."""
    lines = ["# Codebook", ""]
    for section in codebook.sections:
        lines += [f"## {section.name}", "", *([section.instruction, ""] if section.instruction else [])]
        for f in section.fields:
            lines += [f"### {f.name}", "", f"*{_kind(f)}*", "", *([f.tooltip, ""] if f.tooltip else [])]
            if f.condition is not None:
                is_ = "holds" if codebook[f.condition.column].type == "multiselect" else "is"
                lines += [f"Asked only where {f.condition.column} {is_} {f.condition.value}.", ""]
            described = dict(f.option_descriptions)
            shown = list(f.options or f.label_options) or list(described)
            lines += [
                f"- **{label}**" + (f": {described[label]}" if described.get(label) else "")
                for label in shown
            ]
            lines += [""] if shown else []
            for example in f.examples:
                text = example.text.replace("\n", "\n> ")
                lines += [f"> {text}", "", f"→ `{f.to_json(example.response)}`", ""]
    return "\n".join(lines).rstrip() + "\n"


def _kind(f: Field) -> str:
    return {
        "checkbox": "yes or no",
        "dropdown": "one of",
        "likert": f"a point from {f.min_value} to {f.max_value}",
        "textbox": "free words",
        "multiselect": "all that apply of",
        "span": "passages" + (" with one label each" if f.label_options else ""),
    }[f.type]


@dataclass(frozen=True)
class Change:
    """One difference between two codebooks.

    Attributes
    ----------
    column
        The field; "" for the codebook as a whole.
    what
        The difference in words.
    labels
        The labels whose meaning or existence it touches; all of the field's where that cannot be narrowed down.
    """

    column: str
    what: str
    labels: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return f"{self.column}: {self.what}" if self.column else self.what


@dataclass(frozen=True)
class CodebookDiff:
    """What differs from one codebook to another; empty (and false) where a coder would notice nothing."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields whose labels were given to other words than they would be now."""
        return tuple(dict.fromkeys(change.column for change in self.changes if change.column))

    def __repr__(self) -> str:
        if not self.changes:
            return "No question differs."
        lines = []
        for change in self.changes:
            touched = f" (touches: {listed(change.labels, 8)})" if change.labels else ""
            lines.append(f"{change}{touched}")
        return "\n".join(lines)


def differences(old: Any, new: Any) -> CodebookDiff:
    """Return what differs from one codebook to another, field by field."""
    before, after = {f.column: f for f in old}, {f.column: f for f in new}
    changes: list[Change] = []
    if old.text_column != new.text_column:
        changes.append(Change("", f"the text is in column '{new.text_column}' (was '{old.text_column}')"))
    changes += [Change(c, "is gone", f.labels) for c, f in before.items() if c not in after]
    changes += [Change(c, "is new", f.labels) for c, f in after.items() if c not in before]
    for column in before:
        if column in after:
            changes += _of_field(before[column], after[column])
    return CodebookDiff(tuple(changes))


def _of_field(a: Field, b: Field) -> list[Change]:
    column, changes = b.column, []
    if a.type != b.type:
        return [Change(column, f"is a {b.type} (was a {a.type})", a.labels)]
    if gone := tuple(label for label in a.labels if label not in b.labels):
        changes.append(Change(column, f"no longer has {listed(gone, 8)}", gone))
    if new := tuple(label for label in b.labels if label not in a.labels):
        # Whoever coded before could not choose it: any label may stand in its place.
        changes.append(Change(column, f"has {listed(new, 8)} as well now", a.labels))
    kept = [label for label in a.labels if label in b.labels]
    if not gone and not new and a.labels != b.labels:
        changes.append(Change(column, "has its labels in another order", b.labels))
    was, now = dict(a.option_descriptions), dict(b.option_descriptions)
    if other := tuple(label for label in kept if was.get(str(label)) != now.get(str(label))):
        changes.append(Change(column, f"describes {listed(other, 8)} otherwise", other))
    for what, x, y in (
        ("has another guidance", a.tooltip, b.tooltip),
        ("has another instruction of its section", a.instruction, b.instruction),
        ("has other examples", [e.raw for e in a.examples], [e.raw for e in b.examples]),
        ("is asked under another condition", a.condition, b.condition),
    ):
        if x != y:
            changes.append(Change(column, what, b.labels))
    return changes


NAMES: dict[str, tuple[str, ...]] = {
    "section": ("section", "section_name", "group"),
    "instruction": ("instruction", "section_instruction", "instructions"),
    "name": ("name", "question", "variable", "field", "code name"),
    "type": ("type", "kind", "question_type"),
    "tooltip": ("tooltip", "guidance", "definition", "help"),
    "options": (
        "options",
        "option",
        "labels",
        "label",
        "label_options",
        "values",
        "value",
        "categories",
        "category",
    ),
    "description": ("description", "option_description", "meaning", "value label"),
    "min": ("min", "min_value", "from", "low"),
    "max": ("max", "max_value", "to", "high"),
    "condition": ("condition", "asked if", "only if", "if"),
}
"""What a column of the table says, and the headers it is known by."""
SEPARATORS = ("\n", "|", ";")


def raw_from_table(table: Any, text_column: str, encoding: str) -> dict[str, Any]:
    """Return the codebook in Studio's format that a table describes, conditions by name.

    Raises
    ------
    CodebookError
        If a column is missing or a row cannot be understood: all problems at once.
    """
    if isinstance(table, str | Path):
        named = read_table(table, sheet=QUESTIONS) if Path(table).suffix.lower() in WORKBOOKS else None
        data = read_table(table, encoding=encoding) if named is None else named
    else:
        data = as_text(table)
    columns = {name.strip().casefold(): name for name in data.columns}
    places = {key: next((columns[n] for n in names if n in columns), None) for key, names in NAMES.items()}
    missing = [key for key in ("name", "type") if places[key] is None]
    if missing:
        raise CodebookError(
            f"the table of questions has no column {listed(missing)}. Its columns: {listed(data.columns, 12)}.\n"
            f"  One row per question (or per option): {listed(NAMES, 12)}."
        )
    faults: list[str] = []
    by_section: dict[tuple[str, str], dict[str, Any]] = {}
    instructions: dict[str, str] = {}
    section = name = ""
    for number, row in enumerate(data.iter_rows(named=True), start=2):
        cell = {key: str(row[place]).strip() if place else "" for key, place in places.items()}
        section, name = cell["section"] or section or "Codebook", cell["name"] or name
        if not name:
            faults.append(f"row {number} has no name")
            continue
        if cell["instruction"]:
            instructions.setdefault(section, cell["instruction"])
        question = by_section.setdefault(
            (section, name), {"name": name, "tooltip": "", "told": {}, "options": []}
        )
        question["tooltip"] = question["tooltip"] or cell["tooltip"]
        _take(question, cell, number, faults)
    sections: dict[str, dict[str, Any]] = {}
    for (section, _), question in by_section.items():
        key = f"section_{list(dict.fromkeys(s for s, _ in by_section)).index(section) + 1}"
        own = {
            "section_name": section,
            "section_instruction": instructions.get(section, ""),
            "annotations": {},
        }
        annotations = sections.setdefault(key, own)["annotations"]
        annotations[f"annotation_{len(annotations) + 1}"] = _question(question)
    faults += [
        f"'{q['name']}' has one option, {q['options'][0]!r}: part several by | or ; (or give each a row)"
        for q in by_section.values()
        if q.get("type") in ("dropdown", "multiselect") and len(q["options"]) == 1 and "," in q["options"][0]
    ]
    if faults:
        raise CodebookError(problems("the table of questions cannot be used", faults))
    return {"text_column": text_column, **sections}


def _take(question: dict[str, Any], cell: Mapping[str, str], number: int, faults: list[str]) -> None:
    kind = cell["type"].casefold()
    if kind:
        if kind not in TYPES:
            faults.append(f"row {number}: type must be one of {listed(TYPES)}. Got {cell['type']!r}")
        elif question.setdefault("type", kind) != kind:
            faults.append(
                f"row {number}: '{question['name']}' is a {question['type']} above, and a {kind} here"
            )
    options = _split(cell["options"])
    question["options"] += [option for option in options if option not in question["options"]]
    if cell["description"] and len(options) == 1:
        question["told"][options[0]] = cell["description"]
    elif cell["description"]:
        question["tooltip"] = question["tooltip"] or cell["description"]
    for key in ("min", "max"):
        if cell[key]:
            try:
                question[key] = int(float(cell[key]))
            except ValueError:
                faults.append(f"row {number}: {key} must be an integer. Got {cell[key]!r}")
    if cell["condition"]:
        parent, sign, value = cell["condition"].partition("=")
        if not sign:
            faults.append(f"row {number}: condition must be 'question = value'. Got {cell['condition']!r}")
        else:
            question["condition"] = (parent.strip(), value.strip().strip("=").strip())


def _split(cell: str) -> Sequence[str]:
    mark = next((mark for mark in SEPARATORS if mark in cell), None)
    return [part.strip() for part in cell.split(mark) if part.strip()] if mark else [cell] if cell else []


def _question(question: Mapping[str, Any]) -> dict[str, Any]:
    kind, options = question.get("type"), question["options"]
    raw = {"name": question["name"], "type": kind, "tooltip": question["tooltip"], "example": ""}
    if kind in ("dropdown", "multiselect"):
        raw["options"] = options
    elif kind == "span" and options:
        raw["label_options"] = options
    elif kind == "likert":
        points = [int(o) for o in options if o.lstrip("+-").isdigit()]
        raw["min_value"] = question.get("min", min(points, default=None))
        raw["max_value"] = question.get("max", max(points, default=None))
    if question["told"]:
        raw["point_descriptions" if kind == "likert" else "option_descriptions"] = question["told"]
    if "condition" in question:
        raw["condition"] = question["condition"]
    return raw
