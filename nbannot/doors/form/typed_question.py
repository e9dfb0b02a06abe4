"""One question of a codebook as it is typed into the form: every entry a text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbannot.errors import CodebookError
from nbannot.study import questions
from nbannot.study.codebook import Codebook
from nbannot.study.field import MINUS, Field, FieldType

TYPE_WORDS: dict[FieldType, str] = {
    "checkbox": "yes or no (checkbox)",
    "dropdown": "one of several options (dropdown)",
    "multiselect": "all options that apply (multiselect)",
    "likert": "a point on a scale (likert)",
    "textbox": "free words (textbox)",
    "span": "passages of the text (span)",
}
"""Type of question -> what the form calls it, in the order of the form."""
RULE = re.compile(r"^[^\S\n]*---[^\S\n]*$", re.MULTILINE)
ANSWER = re.compile(r"\s*=>(.*)\Z", re.DOTALL)
WORDS = {"yes": 1, "true": 1, "no": 0, "false": 0}


@dataclass
class TypedQuestion:
    """One question as typed; the names are those of the entries.

    Attributes
    ----------
    options, points
        One per line, ``option = what it means``.
    condition
        ``question = value``.
    examples
        A text, then a line ``=> answer``; a line ``---`` between two.
    kept
        The question as it was read, with what the form has no entry for.
    """

    section: str = "Questions"
    name: str = ""
    type: str = "checkbox"
    guidance: str = ""
    options: str = ""
    low: str = ""
    high: str = ""
    points: str = ""
    condition: str = ""
    examples: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)
    told: str = ""

    @property
    def blank(self) -> bool:
        """Whether nothing was typed yet."""
        return not any((self.name, self.guidance, self.options, self.low, self.high, self.examples))

    def copy(self) -> TypedQuestion:
        """Return the same question under another name."""
        return replace(self, name=f"{self.name} copy" if self.name else "")

    def raw(self) -> dict[str, Any]:
        """Return the question for `Codebook.build`.

        Raises
        ------
        CodebookError
            If an entry cannot be understood.
        """
        made: dict[str, Any] = {
            k: v for k, v in self.kept.items() if k not in (*_OWN, "condition", "example")
        }
        examples = _examples(self) if self.examples.strip() != self.told.strip() else []
        means = _described(self.options)
        options: Any = means if any(means.values()) else list(means)
        named: dict[str, Any] = {"examples": examples}
        if self.type in ("dropdown", "multiselect"):
            named["options"] = options
        elif self.type == "span":
            named["label_options"] = options
        elif self.type == "likert":
            points = {label: words for label, words in _described(self.points).items() if words}
            named |= {"min_value": _whole(self.low), "max_value": _whole(self.high), "points": points}
        made |= getattr(questions, self.type)(self.name.strip(), self.guidance.strip(), **named)
        if not examples and self.examples.strip():
            made["example"] = self.kept.get("example", "")
        if self.condition.strip():
            made["condition"] = self._condition()
        return made

    def _condition(self) -> tuple[str, str]:
        parent, sign, value = self.condition.partition("=")
        if not sign or not parent.strip() or not value.strip():
            raise CodebookError(
                f"'{self.name}': the condition must read question = value. Got {self.condition!r}."
            )
        return parent.strip(), value.strip()


_OWN = ("name", "type", "tooltip", "options", "label_options", "option_descriptions", "min_value", "max_value",
        "point_descriptions")  # fmt: skip


def typed_questions(codebook: Codebook) -> list[TypedQuestion]:
    """Return the questions of a codebook as one would have typed them."""
    raw = codebook.to_dict()
    typed = []
    for f in codebook:
        section, annotation = f.where.split(" / ")
        kept = raw[section]["annotations"][annotation]
        described = dict(f.option_descriptions)
        labels = "\n".join(
            f"{label} = {described[str(label)]}" if described.get(str(label)) else str(label)
            for label in (f.options or f.label_options)
        )
        points = (
            "\n".join(f"{point} = {words}" for point, words in described.items())
            if f.type == "likert"
            else ""
        )
        told = _told(f)
        typed.append(
            TypedQuestion(
                section=f.section, name=f.name, type=f.type, guidance=f.tooltip, options=labels,
                low=str(f.min_value) if f.type == "likert" else "",
                high=str(f.max_value) if f.type == "likert" else "",
                points=points, condition=str(f.condition) if f.condition else "", examples=told, kept=kept, told=told,
            )
        )  # fmt: skip
    return typed


def _told(f: Field) -> str:
    """Return the examples of a field as they are typed; one that could not be read stands as it is."""
    blocks = []
    for example in f.examples:
        if example.response is None:
            blocks.append(example.raw)
            continue
        answer = f.to_json(example.response)
        shown = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        blocks.append(f"{example.text}\n=> {shown}")
    return "\n---\n".join(blocks)


def _examples(typed: TypedQuestion) -> list[tuple[str, Any]]:
    pairs = []
    for block in RULE.split(typed.examples):
        if not block.strip():
            continue
        place = block.rfind("\n=>")
        match = ANSWER.match(block[place:]) if place >= 0 else None
        if match is None:
            raise CodebookError(
                f"'{typed.name}': an example is the text, then a line that begins with => and the answer. "
                f"Got {' '.join(block.split())[:60]!r}."
            )
        pairs.append((block[:place].strip(), _answer(typed.type, match[1].strip())))
    return pairs


def _answer(kind: str, word: str) -> Any:
    """Return a typed answer as the codebook keeps it; what it cannot be is told when the codebook is read."""
    if kind == "checkbox":
        return WORDS.get(word.casefold(), word)
    if kind in ("likert", "span", "multiselect"):
        try:
            return json.loads(word)
        except ValueError:
            return word
    return word


def _whole(word: str) -> int | str:
    """Return a typed number; what is none as it stands, for the codebook to complain of."""
    plain = word.strip().replace(MINUS, "-")
    return int(plain) if re.fullmatch(r"[+-]?\d{1,15}", plain) else word.strip()


def _described(lines: str) -> dict[str, str]:
    """Return option -> what it means, "" where nothing is said."""
    parts = [line.partition(" = ") for line in lines.splitlines() if line.strip()]
    return {label.strip(): words.strip() for label, _, words in parts}
