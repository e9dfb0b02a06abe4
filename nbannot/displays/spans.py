"""Spans: what people and the model marked, on the text itself.

People's passages are underlined, the model's overlined, and tinted by who marked them; where a passage begins, a small
sign says whose it is and with which label. In plain text the marks stand below the lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from nbannot.displays.rows import Row, field_of, rows_of, who_of
from nbannot.errors import ScoringError, listed, nearest
from nbannot.page.blocks import WIDTH, Block, Heading, Para
from nbannot.page.digits import count
from nbannot.page.fragment import Fragment
from nbannot.page.html import as_html, element, escape, isolated
from nbannot.page.widths import clean, clipped, right_to_left, width_of, wrap
from nbannot.report.words import STATUS_WORDS, plural
from nbannot.study.field import Field

if TYPE_CHECKING:
    from nbannot.record.scoring import Scored

Side = Literal["human", "model"]
SIGN = {"human": "H", "model": "M"}
KEYS = "abcdefghijklmnopqrstuvwxyz"
HUMAN, MODEL = "rgba(46,134,193,.95)", "rgba(222,110,30,.95)"
TINTS = {
    frozenset({"human"}): "rgba(46,134,193,.22)",
    frozenset({"model"}): "rgba(222,110,30,.22)",
    frozenset({"human", "model"}): "rgba(70,150,90,.30)",
}
SIGN_CHARS = 28
SIGN_STYLE = "font-size:10px;opacity:.85;padding-right:4px;white-space:nowrap"


@dataclass(frozen=True, slots=True)
class Marked:
    """One marked passage: half-open offsets in code points, whose it is, and its label ("" for none)."""

    start: int
    end: int
    side: Side
    label: str

    @property
    def name(self) -> str:
        """Whose it is and with which label."""
        return f"{SIGN[self.side]} {self.label}".rstrip()


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with the passages marked on it.

    Attributes
    ----------
    keys
        Label -> the letter that stands for it in plain text.
    """

    text: str
    marks: Sequence[Marked]
    keys: Mapping[str, str]

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the text in lines, below each the marks of people (H) and of the model (M)."""
        if right_to_left(self.text):
            return self._quoted(width)
        plain = "".join(clean(c) or " " for c in self.text)
        lines = []
        for start, end in _breaks(plain, width - 3):
            lines.append(f"  {plain[start:end]}".rstrip())
            for side in ("human", "model"):
                for track in _tracks([m for m in self.marks if m.side == side]):
                    line = self._underlined(plain, track, start, end)
                    if line:
                        lines.append(f"{SIGN[side]} {line}")
        return lines

    def _underlined(self, plain: str, track: Sequence[Marked], start: int, end: int) -> str:
        """Return one line of marks: a span begins with the letter of its label and goes on as a line."""
        signs = [" "] * (end - start)
        for mark in track:
            for place in range(max(mark.start, start), min(mark.end, end)):
                signs[place - start] = self.keys.get(mark.label, "*") if place == mark.start else "─"
        return "".join(
            sign + (" " if sign == " " else "─") * (width_of(character) - 1) if width_of(character) else ""
            for sign, character in zip(signs, plain[start:end], strict=True)
        ).rstrip()

    def _quoted(self, width: int) -> list[str]:
        """Return the text and its passages as quotes: below text from right to left, marks would be misplaced."""
        quoted = [f"  {line}" for line in wrap(clean(self.text), width - 2)]
        for mark in sorted(self.marks, key=lambda m: (m.side, m.start, m.end)):
            quote = clean(self.text[mark.start : mark.end])
            quoted += [f"{line}" for line in wrap(f"{mark.name}: “{quote}”", width)]
        return quoted


@as_html.register
def _(block: Passage) -> str:
    edges = sorted({0, len(block.text), *(e for m in block.marks for e in (m.start, m.end))})
    pieces = []
    for start, end in pairwise(edges):
        over = [m for m in block.marks if m.start <= start and end <= m.end]
        begins = _merged(m for m in block.marks if m.start == start)
        signs = "".join(
            element("small", escape(clipped(sign, SIGN_CHARS)) + " ", style=SIGN_STYLE) for sign in begins
        )
        inside = escape(block.text[start:end])
        if over:
            title = ", ".join(m.name for m in over)
            inside = element("span", signs + inside, style=_style(over), title=title)
        pieces.append(inside)
    style = "white-space:pre-wrap;line-height:2.1"
    return element("p", f"<bdi>{''.join(pieces)}</bdi>", style=style)


def _style(over: Sequence[Marked]) -> str:
    sides = frozenset(m.side for m in over)
    style = f"background-color:{TINTS[sides]};padding:2px 0"
    if "human" in sides:
        several = sum(m.side == "human" for m in over) > 1
        style += f";border-bottom:{4 if several else 2}px solid {HUMAN}"
    if "model" in sides:
        several = sum(m.side == "model" for m in over) > 1
        style += f";border-top:{4 if several else 2}px solid {MODEL}"
    return style


def _merged(begin: Iterable[Marked]) -> list[str]:
    """Return the signs of passages that begin together; the same label of both sides is one sign."""
    sides: dict[str, list[str]] = {}
    for mark in sorted(begin, key=lambda m: (m.side, m.label)):
        sides.setdefault(mark.label, []).append(SIGN[mark.side])
    return [f"{'+'.join(dict.fromkeys(who))} {label}".rstrip() for label, who in sides.items()]


def _tracks(marks: Sequence[Marked]) -> list[list[Marked]]:
    """Return passages in as few lines as keep those that overlap apart."""
    tracks: list[list[Marked]] = []
    for mark in sorted(marks, key=lambda m: (m.start, -m.end)):
        free = next((track for track in tracks if track[-1].end <= mark.start), None)
        if free is None:
            tracks.append([mark])
        else:
            free.append(mark)
    return tracks


def _breaks(text: str, width: int) -> list[tuple[int, int]]:
    """Return the (start, end) of the lines of a text, broken at spaces where there are any."""
    breaks, start, space, columns = [], 0, -1, 0
    for place, character in enumerate(text):
        columns += width_of(character)
        if character == " ":
            space = place
        if columns > width:
            cut = space + 1 if space >= start else place
            breaks.append((start, cut))
            start, space = cut, -1
            columns = width_of(text[cut : place + 1])
    return [*breaks, (start, len(text))]


def span_view(
    run: Scored, column: str | None = None, text_id: str | None = None, limit: int = 20
) -> Fragment:
    """Return what people and the model marked in the texts.

    Parameters
    ----------
    text_id
        Only this text; otherwise the first `limit` texts in which either marked something.

    Raises
    ------
    ScoringError
        If the field was not asked, is no span, or there is no such text.
    """
    f = field_of(run, column, ("span",), "span_view")
    rows = list(rows_of(run, f))
    if text_id is not None:
        chosen = [row for row in rows if row.text_id == str(text_id)]
        if not chosen:
            ids = run.task.ids
            raise ScoringError(
                f"there is no text '{text_id}'{nearest(str(text_id), ids) or '.'}\n  Its ids: {listed(ids)}."
            )
        aside = f"text {chosen[0].text_id}"
    else:
        marked = [row for row in rows if row.human or row.model]
        chosen = marked[:limit]
        aside = f"{count(len(chosen))} of {plural(len(marked), 'text')} with marked passages"
    keys = keys_of(f)
    blocks: list[Block] = [Heading(f"Spans: {f.name}", 1, aside), Legend(keys, who_of(run))]
    for row in chosen:
        blocks += [
            Heading(row.text_id, 2, _said_of(row, who_of(run, "the "))),
            Passage(row.text, marks_of(row), keys),
        ]
    if not chosen:
        blocks.append(Para(f"Neither people nor {who_of(run, 'the ')} marked anything."))
    return Fragment.of(blocks)


@dataclass(frozen=True, slots=True)
class Legend:
    """What the marks mean."""

    keys: Mapping[str, str]
    who: str = "model"

    def lines(self, width: int = WIDTH) -> list[str]:
        """Return the meaning of the signs below the lines."""
        labels = ", ".join(f"{key} = {label}" for label, key in self.keys.items() if label)
        words = f"H marked by people, M by {'the model' if self.who == 'model' else self.who}" + (
            f"; {labels}" if labels else ""
        )
        return wrap(
            clean(f"{words}. A passage begins with its letter (* without a label) and goes on as ─."), width
        )


@as_html.register
def _(block: Legend) -> str:
    def sample(words: str, *sides: Side) -> str:
        return element("span", isolated(words), style=_style([Marked(0, 1, side, "") for side in sides]))

    parts = [
        sample("H people only", "human"),
        sample(f"M {block.who} only", "model"),
        sample("H+M both", "human", "model"),
    ]
    return element("p", " &nbsp; ".join(parts) + " &nbsp; the sign before a passage names its label")


def keys_of(f: Field) -> dict[str, str]:
    """Return label -> letter; its own first letter where that is free."""
    keys: dict[str, str] = {}
    for label in map(str, f.labels):
        wanted = [c for c in label.casefold() if c in KEYS] + list(KEYS)
        keys[label] = next((c for c in wanted if c not in keys.values()), "*")
    return keys


def marks_of(row: Row) -> list[Marked]:
    """Return the passages of both sides of a row."""
    both: tuple[tuple[Side, Any], ...] = (("human", row.human), ("model", row.model))
    return [
        Marked(s["start"], s["end"], side, str(s.get("label") or ""))
        for side, spans in both
        for s in spans or ()
    ]


def _said_of(row: Row, who: str) -> str:
    people = "not coded by people" if row.human is None else f"{len(row.human)} by people"
    model = STATUS_WORDS.get(row.status, row.status) if row.model is None else f"{len(row.model)} by {who}"
    return f"{people}, {model if row.model is not None else who.removeprefix('the ') + ': ' + model}"
