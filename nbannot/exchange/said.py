"""What somebody said of a text in the terms of any tool, and how that becomes cells of a codebook's columns.

A tool knows marks in a text, choices, numbers and free words, each under the name of a control or under none. With a
codebook a statement finds its field by the control's name, else by its word; without one, the codebook is made from
what was seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nbannot.errors import TaskError, problems
from nbannot.study import questions
from nbannot.study.codebook import Codebook
from nbannot.study.field import Field

Kind = Literal["mark", "choice", "number", "words"]
YES_NO = ("yes", "no")
UNLABELLED = "mark"
"""The label of a passage in tools that need one, where the codebook has none."""


@dataclass(frozen=True, slots=True)
class Said:
    """One statement about a text.

    Attributes
    ----------
    key
        The control it was said with; "" in tools that have one list of labels for everything.
    value
        mark: ``{"start", "end", "text", "label"}``; choice and words: a string; number: an integer.
    """

    kind: Kind
    key: str
    value: Any


@dataclass(slots=True)
class GivenText:
    """One text of a project: what identifies it, further columns, and coder -> what was said ("" = nobody named)."""

    text_id: str
    text: str
    metadata: dict[str, str] = field(default_factory=dict)
    people: dict[str, list[Said]] = field(default_factory=dict)
    models: dict[str, list[Said]] = field(default_factory=dict)


@dataclass(slots=True)
class Control:
    """What a tool declares of one of its controls; the labels in its order."""

    kind: Kind
    labels: list[str] = field(default_factory=list)
    several: bool = False
    scale: tuple[int, int] | None = None
    condition: tuple[str, str] | None = None


@dataclass(slots=True)
class Project:
    """What a reader of a tool's files found.

    Attributes
    ----------
    controls
        What the tool declares, by name; what is not declared is taken from what was said.
    told
        Whether an entry of a coder without marks says "nothing found"; else it may as well not have been looked at.
    silent
        Whether a coder who said nothing of a text has no entry for it.
    """

    texts: list[GivenText]
    controls: dict[str, Control] = field(default_factory=dict)
    told: bool = False
    silent: bool = False
    notices: list[str] = field(default_factory=list)


def slug(name: str) -> str:
    """Return a name as every tool can take it: ASCII letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "field"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Return name -> its slug, unique."""
    by_key: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        plain = base = slug(name)
        number = 2
        while plain in taken:
            plain, number = f"{base}_{number}", number + 1
        taken.add(plain)
        by_key[name] = plain
    return by_key


def keys_of(codebook: Codebook) -> dict[str, str]:
    """Return column -> the name of its control, unique."""
    return slugs(f.column for f in codebook)


def words_of(codebook: Codebook) -> dict[str, dict[Any, str]]:
    """Return column -> value -> the word it has in a tool with one list of labels for everything.

    An option stands alone where no other field has it, else with its field before it: ``Direction: positive``.
    """
    plain: dict[str, list[Any]] = {}
    for f in codebook:
        plain[f.column] = list(f.labels) or ([UNLABELLED] if f.type == "span" else [])
    often: dict[str, int] = {}
    for values in plain.values():
        for value in values:
            often[str(value)] = often.get(str(value), 0) + 1
    names = [f.name for f in codebook]
    words: dict[str, dict[Any, str]] = {}
    for f in codebook:
        name = f.name if names.count(f.name) == 1 else f.column
        alone = f.type in ("dropdown", "span", "multiselect") and all(
            often[str(v)] == 1 for v in plain[f.column]
        )
        words[f.column] = {v: str(v) if alone else f"{name}: {_shown(f, v)}" for v in plain[f.column]}
    return words


def mark_types(codebook: Codebook, words: Mapping[str, Mapping[Any, str]]) -> dict[str, str]:
    """Return word -> type of its marks in tools whose types are names; `words` as `words_of` makes them."""
    return slugs(w for f in codebook if f.type == "span" for w in words[f.column].values())


def _shown(f: Field, value: Any) -> str:
    return YES_NO[0 if value else 1] if f.type == "checkbox" else str(value)


def statements(f: Field, key: str, value: Any) -> list[Said]:
    """Return a value of a field as statements made with a control of its own."""
    if value is None:
        return []
    if f.type == "span":
        return [Said("mark", key, {**s, "label": s.get("label") or UNLABELLED}) for s in value]
    if f.type == "textbox":
        return [Said("words", key, value)]
    if f.type == "likert":
        return [Said("number", key, value)]
    if f.type == "multiselect":
        return [Said("choice", key, option) for option in value]
    return [Said("choice", key, _shown(f, value))]


def flat_statements(f: Field, words: Mapping[Any, str], value: Any) -> list[Said]:
    """Return a value of a field as statements in a tool with one list of labels; free words keep their column."""
    if value is None:
        return []
    if f.type == "span":
        return [Said("mark", "", {**s, "label": words[s.get("label") or UNLABELLED]}) for s in value]
    if f.type == "textbox":
        return [Said("words", f.column, value)]
    return [Said("choice", "", words[one]) for one in (value if f.type == "multiselect" else [value])]


class Reader:
    """Statements of a project read to cells under a codebook."""

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.faults: dict[str, list[str]] = {}
        self._by_key: dict[str, Field] = {}
        names = [f.name for f in codebook]
        for f in codebook:
            if names.count(f.name) == 1:
                self._by_key[f.name] = self._by_key[slug(f.name)] = f
        keys = keys_of(codebook)
        for f in codebook:
            self._by_key[f.column] = self._by_key[keys[f.column]] = f
        self._by_word: dict[str, list[tuple[Field, Any]]] = {}
        words = words_of(codebook)
        plain = mark_types(codebook, words)
        for column, own in words.items():
            for value, word in own.items():
                self._by_word.setdefault(word, []).append((codebook[column], value))
        for column, own in words.items():
            for value, word in own.items():
                if plain.get(word, word) not in self._by_word:
                    self._by_word[plain[word]] = [(codebook[column], value)]

    def cells(self, said: Iterable[Said], where: str) -> dict[str, str]:
        """Return column -> cell of what one coder said of one text; what fits nowhere is entered among the faults."""
        marks: dict[str, list[dict[str, Any]]] = {}
        chosen: dict[str, list[Any]] = {}
        cells: dict[str, str] = {}
        for one in said:
            f, value = self._placed(one)
            if f is None:
                word = one.value.get("label") if one.kind == "mark" else one.value
                prefix = f"{one.key}: " if one.key else ""
                self.faults.setdefault(f"{prefix}{str(word)[:60]!r} is no label of the codebook", []).append(
                    where
                )
            elif f.type == "span":
                marks.setdefault(f.column, []).append({**one.value, "label": value})
            elif f.type == "multiselect":
                chosen.setdefault(f.column, []).extend(_options(value) if one.kind == "words" else [value])
            elif cells.get(f.column, value) != value:
                why = f"{f.column} has two values ({cells[f.column]!r} and {value!r}), and takes one"
                self.faults.setdefault(why, []).append(where)
            else:
                cells[f.column] = value
        for column, own in (*marks.items(), *chosen.items()):
            cells[column] = json.dumps(own, ensure_ascii=False)
        return cells

    def _placed(self, one: Said) -> tuple[Field | None, Any]:
        """Return the field of a statement, and its cell or, of a mark, its label."""
        f = self._by_key.get(one.key) if one.key else None
        if one.kind == "mark":
            label = str(one.value.get("label") or UNLABELLED)
            if f is not None and f.type == "span":
                return f, None if not f.label_options else label
            for g, value in self._by_word.get(label, []):
                if g.type == "span":
                    return g, None if not g.label_options else value
            spans = [g for g in self.codebook if g.type == "span"]
            return (spans[0], None) if len(spans) == 1 and not spans[0].label_options else (None, None)
        word = str(one.value)
        if f is not None and f.type != "span":
            if f.type in ("dropdown", "multiselect") and one.kind != "words" and word not in f.options:
                word = {plain: option for option, plain in slugs(f.options).items()}.get(word, word)
            return f, word
        boxes = self._by_key.get(word)
        if boxes is not None and boxes.type == "checkbox" and one.kind == "choice":
            return boxes, "yes"
        for g, value in self._by_word.get(word, []):
            if g.type != "span":
                return g, value if g.type == "multiselect" else g.to_cell(value)
        return None, None

    def refuse_faults(self, name: str) -> None:
        """Raise one letter with everything that fitted nowhere."""
        if self.faults:
            lines = [
                f"{why}; {', '.join(places[:3])}{f' and {len(places) - 3} more' if len(places) > 3 else ''}"
                for why, places in self.faults.items()
            ]
            raise TaskError(
                problems(f"labels of '{name}' do not fit the codebook", lines)
                + "\n  Correct them in the tool, or pass the codebook they were made with: codebook=..."
            )


def _options(words: Any) -> list[Any]:
    """Return the options that a tool without choices keeps as words: a JSON list, else the words themselves."""
    try:
        named = json.loads(words)
    except (TypeError, ValueError):
        return [words]
    return named if isinstance(named, list) else [words]


SECTION = "Labels"


def codebook_of(project: Project) -> tuple[Codebook, dict[str, list[str]]]:
    """Return a codebook made from what a tool declares and what was said, and control of several choices -> its boxes.

    A control of several choices becomes one checkbox per choice, named after it.
    """
    controls = dict(project.controls)
    for text in project.texts:
        for said in (*text.people.values(), *text.models.values()):
            _observe(controls, said)
    every: list[questions.Question] = []
    boxes: dict[str, list[str]] = {}
    names = {name: _name(name, control) for name, control in controls.items()}
    for name, control in controls.items():
        if control.several:
            many = len([c for c in controls.values() if c.several]) > 1
            boxes[name] = [f"{names[name]}: {label}" if many else label for label in control.labels]
            every += [questions.checkbox(box) for box in boxes[name]]
        else:
            every.append(_question(names[name], control, names, controls))
    if not every:
        raise TaskError(
            "the project has texts, but no labels and no description of them.\n  Pass the codebook: codebook=..."
        )
    return Codebook.build(text_column="text", id_column="id", sections={SECTION: every}), boxes


def _observe(controls: dict[str, Control], said: Sequence[Said]) -> None:
    chosen: dict[str, int] = {}
    for one in said:
        key = one.key or f"\0{one.kind}"
        control = controls.setdefault(key, Control(one.kind))
        word = one.value.get("label") if one.kind == "mark" else one.value
        if one.kind in ("mark", "choice") and str(word or UNLABELLED) not in control.labels:
            control.labels.append(str(word or UNLABELLED))
        if one.kind == "choice":
            chosen[key] = chosen.get(key, 0) + 1
            control.several = control.several or chosen[key] > 1


def _name(key: str, control: Control) -> str:
    if not key.startswith("\0"):
        return key
    return {"mark": "Passages", "choice": "Label", "number": "Score", "words": "Comment"}[control.kind]


def _question(
    name: str, control: Control, names: Mapping[str, str], controls: Mapping[str, Control]
) -> questions.Question:
    condition: Any = None
    if control.condition is not None and control.condition[0] in names:
        parent, wanted = control.condition
        is_box = {w.casefold() for w in controls[parent].labels} == set(YES_NO)
        condition = (names[parent], (1 if wanted.casefold() == "yes" else 0) if is_box else wanted)
        if controls[parent].several:
            condition = None
    if control.kind == "mark":
        return questions.span(name, label_options=control.labels, condition=condition)
    if control.kind == "words" or (control.kind == "number" and control.scale is None):
        return questions.textbox(name, condition=condition)
    if control.kind == "number" and control.scale:
        low, high = control.scale
        return questions.likert(name, min_value=low, max_value=high, condition=condition)
    if {label.casefold() for label in control.labels} == set(YES_NO):
        return questions.checkbox(name, condition=condition)
    return questions.dropdown(name, options=control.labels, condition=condition)
