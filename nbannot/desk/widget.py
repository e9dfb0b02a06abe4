"""The desk in a notebook: Python holds what is kept, the browser draws what is on the screen and sends actions.

What goes to the browser: the coder's own answers, one text at a time and the codebook. No id, no other column of the
data that was not asked for, nobody else's label.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import anywidget
import traitlets

from nbannot.desk.labels import Key, applicable
from nbannot.desk.session import Session
from nbannot.errors import NbannotError
from nbannot.page.blocks import Block, Facts, Heading, Para
from nbannot.page.digits import duration
from nbannot.page.fragment import Fragment
from nbannot.study.field import Field
from nbannot.tools.files import seen_from_here

FOUND_AT_MOST = 50


@cache
def _source(name: str) -> str:
    return (resources.files("nbannot") / "desk" / name).read_text(encoding="utf-8")


class DeskWidget(anywidget.AnyWidget):
    """The widget of a desk.

    Attributes
    ----------
    questions
        The codebook, as far as the browser draws it.
    view
        What is on the screen: the text, the coder's own answers to it, how far the coder is.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    questions = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, desk: Session) -> None:
        self._desk = desk
        self._place = desk.first_open() or 0
        self._after: tuple[Key, Mapping[str, Any]] | None = None
        self._told: list[Any] = []
        super().__init__(
            _esm=_source("desk.js"), _css=_source("desk.css"), questions=questions_of(desk), view=self._seen()
        )
        self.on_msg(self._on_message)

    # ---- what the browser does ----------------------------------------------------------------------------------

    def _on_message(self, _: Any, message: Any, buffers: Any = None) -> None:
        """Carry out one action and confirm it: the confirmation is sent when everything is on the disk."""
        number = message.get("n")
        extra: dict[str, Any] = {}
        try:
            extra = self._acts[message["act"]](message) or {}
            refused = ""
        except NbannotError as error:
            refused = str(error)
        self.view = self._seen() | extra
        self.send({"ack": number, "refused": refused})
        self._say_where()

    @property
    def _acts(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        return {
            "answer": self._answer,
            "go": self._go,
            "open": self._next_open,
            "undo": self._undo,
            "decide": self._decide,
            "memo": lambda m: self._desk.memo(*self._at(m), m["words"], repeat=self._key(m).repeat),
            "flag": lambda m: self._desk.flag(*self._at(m), m["on"], repeat=self._key(m).repeat),
            "search": self._search,
            "ping": lambda m: None,
        }

    def _key(self, message: Mapping[str, Any]) -> Key:
        return self._desk.items[int(message["place"])]

    def _at(self, message: Mapping[str, Any]) -> tuple[str]:
        return (self._key(message).text_id,)

    def _answer(self, message: Mapping[str, Any]) -> None:
        """Keep an answer and go on: to the next text when this one is done, unless the coder came back to it."""
        key = self._key(message)
        self._desk.answer(
            key.text_id,
            message["column"],
            message["value"],
            repeat=key.repeat,
            seconds=message.get("seconds"),
        )
        self._place = int(message["place"])
        if self._desk.open_fields(key) or (message.get("stay") and self._after is None):
            return
        shown = self._desk.after(key)
        if shown is not None:
            self._after = (key, shown)
        else:
            self._next_open({"place": self._place})

    def _go(self, message: Mapping[str, Any]) -> None:
        self._place = max(0, min(len(self._desk.items) - 1, int(message["place"])))

    def _next_open(self, message: Mapping[str, Any]) -> None:
        place = self._desk.first_open(int(message["place"]))
        self._place = int(message["place"]) if place is None else place

    def _undo(self, _: Mapping[str, Any]) -> None:
        key = self._desk.undo()
        if key in self._desk.items:
            self._place = self._desk.items.index(key)

    def _decide(self, message: Mapping[str, Any]) -> None:
        key = self._key(message)
        self._desk.settle(key, message.get("reason"))
        self._next_open(message)

    def _search(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the places of the texts that hold the words, or are flagged, or were given to another question."""
        desk, words = self._desk, str(message["words"])
        if words == "flagged":
            ids = desk.flagged
        elif words == "changed":
            ids = [i for some in desk.stale.values() for i in some]
        else:
            ids = desk.search(words)
        wanted = set(ids)
        places = [place for place, key in enumerate(desk.items) if key.text_id in wanted]
        shown = [[place, desk.text(desk.items[place])[:120]] for place in places[:FOUND_AT_MOST]]
        return {"found": {"words": words, "n": len(places), "places": shown}}

    # ---- what the browser sees ----------------------------------------------------------------------------------

    def _seen(self) -> dict[str, Any]:
        desk = self._desk
        left = desk.seconds_left
        seen: dict[str, Any] = {
            "place": self._place,
            "total": len(desk.items),
            "done": desk.done,
            "left": duration(left) if left else "",
            "notices": desk.notices,
            "trouble": desk.trouble,
        }
        if not desk.items:
            return seen
        key = desk.items[self._place]
        if not desk.open_fields(key) and not desk.is_done(key):
            self._after = (key, desk.after(key) or {})  # answered before, not yet decided
        coded = desk.coded(key)
        row = desk.row_number(key.text_id)
        return seen | {
            "text": desk.text(key),
            "context": [[name, desk.task.data[name][row]] for name in desk.context],
            "values": {column: value for column, value in coded.values.items() if column in self._columns},
            "applies": [f.column for f in applicable(desk.task.codebook, coded.values)],
            "finished": not desk.open_fields(key),
            "after": self._after[1] if self._after is not None and self._after[0] == key else None,
            "memo": coded.memo,
            "flagged": coded.flagged,
            "kept_in": desk.path.name,
        }

    @property
    def _columns(self) -> set[str]:
        return {f.column for f in self._desk.task.codebook}

    # ---- what stays in a saved notebook -------------------------------------------------------------------------

    def show(self) -> None:
        """Show the desk, and below it the line that stays when there is no kernel any more."""
        from IPython.display import display

        # What anywidget says of itself: in Colab, also where its widgets are loaded from.
        view, about = self._repr_mimebundle_() or ({}, {})
        display({**view, **static_twin(self._desk).bundle()}, metadata=about, raw=True)  # type: ignore[no-untyped-call]
        bundle = _where(self._desk)
        self._told.append(display(bundle, raw=True, display_id=True))  # type: ignore[no-untyped-call]

    def _say_where(self) -> None:
        for handle in self._told:
            handle.update(_where(self._desk), raw=True)


def _where(desk: Session) -> dict[str, str]:
    """Return the line that says what was done and where it is kept."""
    line = desk.summary()
    return {
        "text/plain": line,
        "text/html": f'<div style="opacity:.72;font-size:12px">{html.escape(line)}</div>',
    }


def static_twin(desk: Session) -> Fragment:
    """Return what is seen of a desk where no script runs."""
    fields = ", ".join(f.name for f in desk.task.codebook)
    blocks: list[Block] = [
        Heading(f"Desk of {desk.coder}", 1, desk.task.name),
        Facts([("coded", f"{desk.done:,} of {len(desk.items):,} texts"), ("questions", fields),
               ("labels", seen_from_here(desk.path)), ("log", seen_from_here(desk.log_path))]),
        *(Para(notice, "notice") for notice in desk.notices),
        Para("To go on, run the cell again: it begins at the first open text.", "quiet"),
    ]  # fmt: skip
    return Fragment.of(blocks)


def questions_of(desk: Session) -> dict[str, Any]:
    """Return the codebook as the browser draws it."""
    codebook = desk.task.codebook
    names = {f.column: f.name for f in codebook}
    return {
        "title": f"{desk.task.name}, coded by {desk.coder}",
        "order": [f.column for f in codebook],
        "fields": {f.column: _question(f, names) for f in codebook},
    }


def _question(f: Field, names: Mapping[str, str]) -> dict[str, Any]:
    described = dict(f.option_descriptions)
    when = f"{names[f.condition.column]} = {f.condition.value}" if f.condition else ""
    return {
        "name": f.name,
        "section": f.section,
        "instruction": f.instruction,
        "type": f.type,
        "guidance": f.tooltip,
        "labels": list(f.labels),
        "described": [described.get(str(label), "") for label in f.labels],
        "examples": [example.raw for example in f.examples],
        "when": when,
    }
