"""The codebook: what is asked of every text, in the format that CodeBook Studio exports.

`Codebook.load` reads and checks a ``codebook.json``; a `Field` is one question with its type, options, scale,
guidance, worked examples and condition. A field knows its column name, the values it can take, its level of
measurement, the JSON schema of an answer, and how a value is written in a table cell.

`Codebook.build` writes a codebook in Python, with one short function per type of question (`checkbox`, `dropdown`,
`likert`, `textbox`, `span`, `multiselect`); `Codebook.save` writes it down in Studio's format.
"""

from __future__ import annotations

import copy
import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nbannot.errors import CodebookError, listed, nearest
from nbannot.page.shown import Shown
from nbannot.study.codebook_reader import CodebookReader, own_copy, read_json_file
from nbannot.study.field import Field, Section
from nbannot.study.questions import Question, point_conditions
from nbannot.tools.given import given_path

if TYPE_CHECKING:
    from nbannot.study.codebook_views import CodebookDiff


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
        try:
            place = given_path(path)
        except (TypeError, ValueError) as error:
            raise CodebookError(f"no codebook: {error}.\n  Give the path of a codebook.json.") from None
        if place.is_dir():
            place = place / "codebook.json"
        return cls.from_dict(read_json_file(place), where=str(place))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "codebook") -> Codebook:
        """Return the codebook that a dictionary of Studio's format describes; see `load`."""
        return cls(**CodebookReader(own_copy(raw, where), where).parts())

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
            Section name -> its questions, made with `checkbox`, `dropdown`, `likert`, `textbox`,
            `span` and `multiselect`.
        instructions
            Section name -> what the coder reads before its questions.

        Raises
        ------
        CodebookError
            If something is missing or contradictory: all problems in one message.

        Examples
        --------
        >>> from nbannot.study.questions import checkbox, dropdown
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
        instructed = dict(instructions or {})
        faults = [
            f"instructions for '{name}', which is no section{nearest(name, sections)}"
            for name in instructed
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
                "section_instruction": instructed.get(name, ""),
                "annotations": {f"annotation_{n}": dict(q) for n, q in enumerate(questions, start=1)},
            }
        point_conditions(raw, faults)
        return cls(**CodebookReader(own_copy(raw, "codebook"), "codebook", faults).parts())

    @classmethod
    def from_table(cls, table: Any, *, text_column: str = "text", encoding: str = "utf-8") -> Codebook:
        """Return the codebook that a table of questions describes.

        Parameters
        ----------
        table
            A CSV file, an Excel workbook (its first sheet) or a frame with one row per question, or one per option:
            columns ``name`` and ``type``, and as needed ``section``, ``instruction``, ``tooltip``, ``options`` (parted
            by ``|``, ``;`` or line breaks), ``description`` (of the one option of a row), ``min``, ``max`` and
            ``condition`` (``question = value``). A blank section or name is that of the row above.
        text_column
            The column of the data that holds the text.

        Raises
        ------
        CodebookError, TaskError
            If the table cannot be read or a row cannot be understood: all problems in one message.
        """
        from nbannot.study.codebook_views import raw_from_table

        raw = raw_from_table(table, text_column, encoding)
        types = {
            q["name"]: q["type"]
            for s in raw.values()
            if isinstance(s, dict)
            for q in s["annotations"].values()
        }
        for section in (s for s in raw.values() if isinstance(s, dict)):
            for question in section["annotations"].values():
                if "condition" in question:
                    parent, value = question["condition"]
                    kind = next(
                        (k for name, k in types.items() if parent == name or parent.endswith(f"_{name}")),
                        None,
                    )
                    question["condition"] = (parent, condition_value(kind, value))
        faults: list[str] = []
        point_conditions(raw, faults)
        where = "the table of questions"
        return cls(**CodebookReader(own_copy(raw, where), where, faults).parts())

    def to_markdown(self) -> str:
        """Return the codebook as Markdown: to print, to hand to coders, to put into an appendix."""
        from nbannot.study.codebook_views import to_markdown

        return to_markdown(self)

    def diff(self, other: Codebook) -> CodebookDiff:
        """Return what differs from this codebook to `other`, and which labels each difference touches."""
        from nbannot.study.codebook_views import differences

        return differences(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Return the codebook in Studio's format, with everything it was read with; the caller owns the copy."""
        return copy.deepcopy(dict(self.source))

    def save(self, path: str | Path) -> Path:
        """Write the codebook in Studio's format and return where: `path`, or ``codebook.json`` in that folder.

        A path that does not end in ``.json`` is a folder; missing folders are made. An existing file is replaced.
        """
        try:
            place = given_path(path)
            if place.suffix != ".json":
                place = place / "codebook.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(self.source, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CodebookError(f"the codebook cannot be written: {why}.\n  Choose another path.") from None
        return place

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

    def plainly_named(self, columns: Iterable[str]) -> dict[str, str]:
        """Return the columns of somebody's table that bear the plain name of one field -> the column of that field.

        A field whose own column is there is found by that; a name that two fields have, or that means something else
        in the codebook, means none of them.
        """
        known = set(columns)
        taken = {self.text_column, self.header_column, *self.metadata_columns, *self._by_column}
        times = Counter(field.name for field in self.fields)
        return {
            field.name: field.column
            for field in self.fields
            if field.name in known - taken and field.column not in known and times[field.name] == 1
        }

    def applies(self, field: Field, values: Mapping[str, Any]) -> bool:
        """Return whether `field` applies, given one coder's values of the other fields (column -> value).

        A field whose parent does not apply does not apply either, and neither does one whose parent has no value.
        """
        while field.condition is not None:
            condition, parent = field.condition, self._by_column[field.condition.column]
            if not condition.met_by(values.get(parent.column)):
                return False
            field = parent
        return True

    def depth(self, field: Field) -> int:
        """Return how many conditions stand above the field: 0 for one that always applies."""
        return self._depths[field.column]

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths: dict[str, int] = {}
        for field in self.in_order:
            depths[field.column] = 0 if field.condition is None else 1 + depths[field.condition.column]
        return depths

    @cached_property
    def in_order(self) -> tuple[Field, ...]:
        """The fields so that a parent always comes before the fields that depend on it, else in file order."""
        children: dict[str, list[int]] = {}
        for i, field in enumerate(self.fields):
            if field.condition is not None:
                children.setdefault(field.condition.column, []).append(i)
        ready = [i for i, field in enumerate(self.fields) if field.condition is None]  # sorted, and so a heap
        placed: list[Field] = []
        while ready:
            field = self.fields[heapq.heappop(ready)]
            placed.append(field)
            for i in children.get(field.column, ()):
                heapq.heappush(ready, i)
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


def condition_value(kind: Any, value: str) -> int | str:
    """Return a value of a condition, as written, as its parent's type has it: a number for a checkbox and a scale."""
    if kind == "checkbox" and value.casefold() in ("yes", "no", "true", "false"):
        return int(value.casefold() in ("yes", "true"))
    return int(value) if kind in ("checkbox", "likert") and value.lstrip("+-").isdigit() else value
