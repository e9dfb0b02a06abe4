"""A form that writes a codebook: the questions, its card beside them as one types, ``codebook.json`` on a click."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from nbannot.displays.cards import codebook_card
from nbannot.doors.form.style import CSS
from nbannot.doors.form.typed_question import TYPE_WORDS, TypedQuestion, typed_questions
from nbannot.errors import CodebookError, NbannotError
from nbannot.page.html import escape
from nbannot.report.words import plural
from nbannot.study.codebook import Codebook, condition_value
from nbannot.study.spreadsheets import TABLES
from nbannot.tools.given import path_or

FILE = "codebook.json"
SHORT = {"description_width": "initial"}
USES: dict[str, tuple[str, ...]] = {
    "options": ("dropdown", "multiselect", "span"),
    "low": ("likert",),
    "high": ("likert",),
    "points": ("likert",),
}
"""The entries that only some types of question have."""


class CodebookForm:
    """A form for a codebook; show it by naming it on the last line of a cell.

    Made by `build_codebook`. What is typed is checked at every key: the card shows the codebook, or, where something is
    missing, what.

    Attributes
    ----------
    widget
        The ipywidgets box, to be put into a layout of one's own.
    questions
        The questions as typed, in order.
    fault
        What keeps them from being a codebook; "" where nothing does.
    """

    def __init__(self, source: Codebook | None, path: Path, text_column: str) -> None:
        self.path = path
        self.fault = ""
        self._kept: Mapping[str, Any] = source.to_dict() if source is not None else {}
        self._ours = path if source is not None else None
        self.questions = typed_questions(source) if source is not None else [TypedQuestion()]
        self.instructions = {s.name: s.instruction for s in source.sections} if source is not None else {}
        self._text_column = source.text_column if source is not None else text_column
        self._at, self._quiet, self._sure = 0, False, False
        self._codebook: Codebook | None = None
        self._entries = self._made_entries()
        self._card = widgets.HTML()
        self._said = widgets.HTML()
        self.widget = self._laid_out()
        self._show(0)

    # ---- what it says -------------------------------------------------------------------------------------------

    @property
    def codebook(self) -> Codebook:
        """The codebook as typed.

        Raises
        ------
        CodebookError
            Listing everything that needs a change.
        """
        if self._codebook is None:
            raise CodebookError(self.fault)
        return self._codebook

    def add(self, name: str = "", type: str = "checkbox", **typed: str) -> TypedQuestion:  # noqa: A002 - the codebook's word
        """Add a question behind the one that is shown, show it, and return it.

        Parameters
        ----------
        typed
            What would be typed into its entries: ``section``, ``guidance``, ``options`` (one per line, ``option =
            description``), ``low``, ``high``, ``points``, ``condition`` (``question = value``), ``examples``.
        """
        section = self.questions[self._at].section if self.questions else TypedQuestion.section
        given: dict[str, Any] = {"section": section, **typed}
        self.questions.insert(self._at + 1, TypedQuestion(name=name, type=type, **given))
        if self.questions[self._at].blank and len(self.questions) == 2:
            del self.questions[self._at]
            self._show(0)
        else:
            self._show(self._at + 1)
        return self.questions[self._at]

    def save(self, path: str | Path | None = None) -> Path:
        """Write ``codebook.json`` and return where; an existing file is replaced."""
        place = self.codebook.save(self.path if path is None else path)
        self._ours = self.path = place
        return place

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        made = self.widget._repr_mimebundle_()  # the twin stays where widgets are not shown
        return {**made, "text/plain": repr(self)}

    def __repr__(self) -> str:
        state = f"incomplete: {self.fault.splitlines()[0]}" if self.fault else "complete"
        return f"<Form of a codebook: {plural(len(self.questions), 'question')}, {state}>"

    # ---- the layout ---------------------------------------------------------------------------------------------

    def _made_entries(self) -> dict[str, Any]:
        def text(label: str, hint: str = "", width: str = "100%") -> Any:
            return widgets.Text(description=label, placeholder=hint, style=SHORT, layout={"width": width},
                                continuous_update=True)  # fmt: skip

        def area(label: str, hint: str, rows: int) -> Any:
            return widgets.Textarea(
                description=label, placeholder=hint, rows=rows, style=SHORT, layout={"width": "100%"}
            )

        kinds = [(words, kind) for kind, words in TYPE_WORDS.items()]
        return {
            "section": text("Section", "a heading over some questions"),
            "instruction": area("Instruction of the section", "what coders read before its questions", 2),
            "name": text("Question", "a short name, e.g. Direction"),
            "type": widgets.Dropdown(
                options=kinds, description="Answer", style=SHORT, layout={"width": "100%"}
            ),
            "guidance": area("Guidance", "what a coder should know to answer it", 3),
            "options": area(
                "Options", "one per line; a meaning behind =, e.g.\npositive = praise of any kind", 4
            ),
            "low": text("from", "1", "7em"),
            "high": text("to", "5", "7em"),
            "points": area("Points", "one per line, where wanted: 1 = not at all", 2),
            "condition": text("Only if", "another question = a value, e.g. Evaluates = 1"),
            "examples": area("Examples", "the text, then a line => answer; a line --- between two", 4),
        }

    def _laid_out(self) -> Any:
        self._list = widgets.Select(rows=6, description="Questions", style=SHORT, layout={"width": "100%"})
        self._column = widgets.Text(
            value=self._text_column, description="Column of the texts", style=SHORT, layout={"width": "22em"}
        )
        self._place = widgets.Text(
            value=str(self.path), description="File", style=SHORT, layout={"width": "22em"}
        )
        acts: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("Add", "a new question behind this one", self.add),
            ("Copy", "the same question again", self._copy),
            ("Remove", "take this question away", self._remove),
            ("Up", "earlier", lambda: self._move(-1)),
            ("Down", "later", lambda: self._move(1)),
        )
        buttons = [self._button(*act) for act in acts]
        scale = widgets.HBox([self._entries["low"], self._entries["high"]])
        shown = [e for name, e in self._entries.items() if name not in ("low", "high")]
        shown.insert(shown.index(self._entries["points"]), scale)
        self._scale = scale
        left = widgets.VBox(
            [self._list, widgets.HBox(buttons).add_class("nbannot-row"), *shown],
            layout={"flex": "1 1 24em", "min_width": "min(22em,100%)", "max_width": "100%"},
        ).add_class("nbannot-field")
        save = self._button("Save", "write codebook.json", self._save)
        save.button_style = "primary"
        right = widgets.VBox(
            [self._card], layout={"flex": "1.2 1 26em", "min_width": "min(22em,100%)", "max_width": "100%"}
        )
        top = widgets.HBox([self._column, self._place, save]).add_class("nbannot-row")
        both = widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "1em"})
        self._listen()
        return (
            widgets.VBox([widgets.HTML(f"<style>{CSS}</style>"), top, self._said, both])
            .add_class("nbannot-form")
            .add_class("nbannot-questions")
        )

    def _button(self, label: str, tip: str, act: Callable[[], object]) -> Any:
        button = widgets.Button(description=label, tooltip=tip, layout={"width": "auto"})
        button.on_click(lambda _: act())
        return button

    def _listen(self) -> None:
        for name, entry in self._entries.items():
            entry.observe(lambda change, name=name: self._typed(name, change["new"]), "value")
        self._list.observe(lambda change: self._chosen(change["new"]), "value")
        self._column.observe(lambda change: self._changed(), "value")
        self._place.observe(lambda change: self._changed(), "value")

    # ---- what happens -------------------------------------------------------------------------------------------

    def _typed(self, name: str, value: str) -> None:
        if self._quiet:
            return
        question = self.questions[self._at]
        before = question.name, f"{question.section}_{question.name}"
        if name == "instruction":
            self.instructions[question.section] = value
        elif name == "section":
            # The instruction goes along with a section that is renamed while it has only this question.
            alone = sum(q.section == question.section for q in self.questions) == 1
            told = self.instructions.pop(question.section, "") if alone else ""
            question.section = value
            if told and not self.instructions.get(value):
                self.instructions[value] = told
            with self._hushed():
                self._entries["instruction"].value = self.instructions.get(value, "")
        else:
            setattr(question, name, value)
        self._follow(before, question)
        self._changed()

    def _follow(self, before: tuple[str, str], question: TypedQuestion) -> None:
        """Let the conditions on a question go along with its new name, as long as no other has the old one."""
        after = question.name, f"{question.section}_{question.name}"
        names = [word for q in self.questions for word in (q.name, f"{q.section}_{q.name}")]
        for old, new in zip(before, after, strict=True):
            if old == new or not before[0] or not question.name or old in names:
                continue
            for other in self.questions:
                parent, sign, value = other.condition.partition("=")
                if sign and parent.strip() == old:
                    other.condition = f"{new} ={value}"

    def _chosen(self, place: int | None) -> None:
        if not self._quiet and place is not None:
            self._show(place)

    def _copy(self) -> None:
        self.questions.insert(self._at + 1, self.questions[self._at].copy())
        self._show(self._at + 1)

    def _remove(self) -> None:
        del self.questions[self._at]
        self.questions = self.questions or [TypedQuestion()]
        self._show(min(self._at, len(self.questions) - 1))

    def _move(self, by: int) -> None:
        to = self._at + by
        if 0 <= to < len(self.questions):
            self.questions.insert(to, self.questions.pop(self._at))
            self._show(to)

    def _save(self) -> None:
        place = path_or(CodebookError, self._place.value.strip() or FILE)
        place = place if place.suffix == ".json" else place / FILE
        if self.fault:
            return self._say(f"Not saved: {self.fault.splitlines()[0]}", bad=True)
        if place.exists() and place != self._ours and not self._sure:
            self._sure = True
            return self._say(
                f"{place} is there already. Save once more to replace it, or name another file.", bad=True
            )
        try:
            kept = self.save(place)
        except NbannotError as error:
            return self._say(f"Not saved: {error}", bad=True)
        self._sure = False
        self._say(f'Saved: {kept}. Use it: nba.load_task("texts.csv", codebook="{kept}").')
        return None

    def _show(self, place: int) -> None:
        """Show a question in the entries."""
        self._at = place
        question = self.questions[place]
        with self._hushed():
            for name, entry in self._entries.items():
                entry.value = (
                    self.instructions.get(question.section, "")
                    if name == "instruction"
                    else getattr(question, name)
                )
        self._changed()

    @contextmanager
    def _hushed(self) -> Iterator[None]:
        """Set entries without taking that for typing."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _changed(self) -> None:
        """Make the codebook anew, and show it or what it lacks."""
        question = self.questions[self._at]
        for name, kinds in USES.items():
            self._entries[name].layout.display = None if question.type in kinds else "none"
        self._scale.layout.display = None if question.type == "likert" else "none"
        with self._hushed():
            self._list.options = [
                (f"{q.section}: {q.name or '(no name yet)'}", i) for i, q in enumerate(self.questions)
            ]
            self._list.value = self._at
        self._sure = False
        self._text_column = self._column.value.strip()
        try:
            self._codebook, self.fault = self._made(), ""
        except CodebookError as error:
            self._codebook, self.fault = None, str(error)
        if self._codebook is not None:
            self._card.value = codebook_card(self._codebook).html
            self._say("")
        elif not any(q.name for q in self.questions):  # nothing was typed yet: no fault of anybody
            self._card.value = "<p>Give the question a name: the card that coders read appears here.</p>"
        else:
            lines = "".join(f"<div>{escape(line)}</div>" for line in self.fault.splitlines())
            self._card.value = f'<div class="nbannot-fault" role="alert">{lines}</div>'

    def _made(self) -> Codebook:
        sections: dict[str, list[dict[str, Any]]] = {}
        faults: list[str] = []
        for q in self.questions:
            try:
                sections.setdefault(q.section, []).append(q.raw())
            except CodebookError as error:
                faults.append(str(error))
        if faults:
            raise CodebookError("\n".join(faults))
        kinds = {name: q.type for q in self.questions for name in (q.name, f"{q.section}_{q.name}")}
        for question in (q for of_section in sections.values() for q in of_section):
            if "condition" in question:
                parent, value = question["condition"]
                question["condition"] = (parent, condition_value(kinds.get(parent), value))
        told = {name: self.instructions.get(name, "") for name in sections}
        made = Codebook.build(text_column=self._text_column, sections=sections, instructions=told)
        others = {k: v for k, v in self._kept.items() if k != "text_column" and not k.startswith("section_")}
        return Codebook.from_dict({**made.to_dict(), **others}) if others else made

    def _say(self, words: str, *, bad: bool = False) -> None:
        role = "alert" if bad else "status"
        inside = (
            f'<div class="{"nbannot-fault" if bad else "nbannot-said"}" role="{role}">{escape(words)}</div>'
        )
        self._said.value = inside if words else ""


def build_codebook(
    source: Codebook | str | Path | None = None, *, path: str | Path = FILE, text_column: str = "text"
) -> CodebookForm:
    """Return a form that writes a codebook, with its card beside it as one types.

    Parameters
    ----------
    source
        What to begin with: a `Codebook`, the path of a ``codebook.json`` or its folder, or a table of questions
        (``.csv``, ``.xlsx``; see `Codebook.from_table`). Nothing: an empty codebook.
    path
        Where *Save* writes it. A ``codebook.json`` that was the source is what is written to.
    text_column
        The column of the data that holds the text, for a new codebook.

    Raises
    ------
    CodebookError, TaskError
        If the source cannot be read.
    """
    place = path_or(CodebookError, path)
    if source is None or isinstance(source, Codebook):
        return CodebookForm(source, place, text_column)
    given = path_or(CodebookError, source)
    if given.suffix.lower() in TABLES:
        return CodebookForm(Codebook.from_table(given, text_column=text_column), place, text_column)
    if str(path) == FILE:
        place = given if given.suffix == ".json" else given / FILE
    return CodebookForm(Codebook.load(given), place, text_column)
