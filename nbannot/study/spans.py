"""Spans: passages of a text, as half-open offsets counted in Unicode code points.

Reads the JSON lists of ``{"start", "end", "text", "label"}`` that coders leave, puts right offsets that another program
counted otherwise, and locates the quotes that models give. Nothing is located by likeness: a quote is in the text,
exactly or but for white space, quotation marks and case, or it is not.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbannot.study.span_cells import offset_of, read_marks
from nbannot.study.span_offsets import (
    AS_CONTRACTED,
    HOW_TO_SAY,
    LIKELY,
    RARE,
    Counting,
    Mark,
    Place,
    place_of,
    places_of,
    proven,
    ways_that_fit,
)

Span = dict[str, Any]
"""``{"start": int, "end": int, "text": str, "label": str | None}``, 0-based, end exclusive, code points."""

QUOTES = str.maketrans(dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛‹›`", "'"))

CLUSTERS = re.compile(r"\s+|\S[\u0300-\u036f\u3099\u309a\u1160-\u11ff]*")
"""White space, or a character with what combines with it: accents, kana voicing marks, the rest of a syllable."""

ReadCell = tuple[list[Span] | None, int] | ValueError
"""The spans of a cell and how many of them were moved, or why it cannot be read."""


def make_span(text: str, start: int, end: int, label: str | None) -> Span:
    """Return the span of `text` from `start` to `end`."""
    return {"start": start, "end": end, "text": text[start:end], "label": label}


def read_spans(cell: str, text: str, label_options: Sequence[str]) -> tuple[list[Span] | None, int]:
    """Return the spans that a table cell holds, and how many of them needed their offsets repaired.

    See `read_span_column`, of which this is one cell.

    Returns
    -------
    spans
        ``None`` for a blank cell (not coded), ``[]`` for "coded, nothing found".
    repaired
        Number of spans whose offsets were changed.

    Raises
    ------
    ValueError
        If the cell is not a JSON list of spans, a label is not in the codebook, a quote is not in the text, or its
        place cannot be proven.
    """
    cell_read = read_span_column([cell], [text], label_options)[0]
    if isinstance(cell_read, ValueError):
        raise cell_read
    return cell_read


def read_span_column(
    cells: Sequence[str], texts: Sequence[str], label_options: Sequence[str]
) -> list[ReadCell]:
    """Return per cell its spans and how many needed their offsets repaired, or why it cannot be read.

    Where quotes and offsets disagree, another program has counted otherwise: one way of counting under which every
    quote stands at its offsets, in the whole column or else in the cell, is taken (see `nbannot.study.span_offsets`).
    A quote that occurs once in its text needs no offsets. Any other place is not proven, and is refused. Without
    ``label_options`` a span has no label, whatever the cell says.

    Parameters
    ----------
    cells, texts
        One cell per text. A span is an object with start, end, text and label; names that other tools use are known
        (see `nbannot.study.span_cells`).
    """
    cells_read: list[ReadCell] = []
    marks: dict[int, list[Mark]] = {}
    for row, cell in enumerate(cells):
        try:
            read = read_marks(cell, label_options)
        except ValueError as error:
            cells_read.append(error)
            continue
        cells_read.append((None if read is None else [], 0))
        if read:
            marks[row] = read
    for row, (ways, own) in _ways_of(marks, texts).items():
        try:
            cells_read[row] = _spans_at(own, _places(own, ways, texts[row]), texts[row])
        except ValueError as error:
            cells_read[row] = error
    return cells_read


def _ways_of(
    marks: Mapping[int, list[Mark]], texts: Sequence[str]
) -> dict[int, tuple[set[Counting], list[Mark]]]:
    """Return for each row the ways of counting under which its quotes stand where they say, and its marks.

    One tool wrote the whole column: where some rows do not fit the contracted way, one that fits all rows is taken
    for all, also for rows that fit the contracted one by chance.
    """
    proofs = {
        row: [m for m in own if m.start is not None and m.quote is not None] for row, own in marks.items()
    }
    odd = [row for row, proof in proofs.items() if places_of(proof, texts[row], AS_CONTRACTED) is None]
    ways = {row: ways_that_fit(proofs[row], texts[row], LIKELY) for row in odd}
    if not all(ways.values()) or not _common(ways.values()):
        ways = {row: fits | ways_that_fit(proofs[row], texts[row], RARE) for row, fits in ways.items()}
    common = _common(ways.values())
    fitting = [row for row in marks if row not in ways]
    common = {way for way in common if all(places_of(proofs[r], texts[r], way) is not None for r in fitting)}
    return {
        row: ((common if ways.get(row, True) else set()) or ways.get(row, {AS_CONTRACTED}), own)
        for row, own in marks.items()
    }


def _common(ways: Iterable[set[Counting]]) -> set[Counting]:
    """Return the ways that fit every row that any fits."""
    several = [fitting for fitting in ways if fitting]
    return set.intersection(*several) if several else set()


def _places(marks: Sequence[Mark], ways: set[Counting], text: str) -> list[Place]:
    """Return the place of every mark.

    It is proven by a way of counting that fits every quote, else by offsets at which every quote stands but for white
    space, quotation marks and case, else by being the only place where the quote stands.

    Raises
    ------
    ValueError
        If a place is not proven.
    """
    placed = [mark for mark in marks if mark.start is not None]
    places, why = proven(placed, text, ways)
    if places is None and not why:
        loose = [_loosely(mark, text) for mark in placed]
        places = [place for place in loose if place is not None]
        places = places if len(places) == len(placed) else None
    known = iter(places or ())
    return [
        next(known) if places is not None and mark.start is not None else _only_place(mark, text, why)
        for mark in marks
    ]


def _loosely(mark: Mark, text: str) -> Place | None:
    """Return the place that the offsets say as contracted, if the passage there is the quote but for its looks."""
    place = place_of(Mark(mark.start, mark.end, None, None), text, AS_CONTRACTED)
    if place is None or mark.quote is None:
        return place
    passage, quote = (_fold(words)[0].strip() for words in (text[slice(*place)], mark.quote))
    return place if quote and passage == quote else None


def _only_place(mark: Mark, text: str, why: str) -> Place:
    if mark.quote is None:
        raise ValueError(
            why or f"offsets {mark.start}–{mark.end} are outside the text ({len(text)} characters)"
        )
    places = find_all(text, mark.quote, overlapping=True)
    if not places:
        raise ValueError(f"the quote {mark.quote!r} is not in the text")
    if len(places) > 1:
        offsets = (
            "has no offsets"
            if mark.start is None
            else f"does not stand at its offsets {mark.start}–{mark.end}"
        )
        raise ValueError(
            why
            or f"the quote {mark.quote!r} stands {len(places)} times in the text and {offsets}: {HOW_TO_SAY}"
        )
    return places[0]


def _spans_at(marks: Sequence[Mark], places: Sequence[Place], text: str) -> tuple[list[Span], int]:
    """Return the spans and how many were moved; a mark given twice counts once, two on one place are refused."""
    spans, repaired = [], 0
    taken: dict[tuple[Place, str | None], Mark] = {}
    for mark, place in zip(marks, places, strict=True):
        first = taken.setdefault((place, mark.label), mark)
        if first is mark:
            spans.append(make_span(text, *place, mark.label))
            repaired += place != (mark.start, mark.end)
        elif first != mark:
            raise ValueError(
                f"two marks stand at the same place, {place[0]}–{place[1]}: {text[slice(*place)]!r}"
            )
    return spans, repaired


def find_all(text: str, quote: str, *, overlapping: bool = False) -> list[Place]:
    """Return every place of `quote` in `text` as (start, end); exact places first choice, else normalised ones.

    Normalised means: any quotation mark for another of its kind, any run of white space as one space, case folded,
    composed characters equal to decomposed ones. Nothing fuzzier. Places do not overlap unless asked for.

    >>> find_all("An “odd”  word, an ODD word", '"odd" word')
    [(3, 14)]
    """
    return _Searched(text).places(quote, overlapping=overlapping)


class _Searched:
    """A text in which many quotes are looked for: it is folded once, and each quote is looked for once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.known: dict[str, list[Place]] = {}
        self.folded: tuple[str, list[Place]] | None = None

    def places(self, quote: str, *, overlapping: bool = False) -> list[Place]:
        """Return every place of a quote; see `find_all`."""
        if quote not in self.known:
            self.known[quote] = self._search(quote, overlapping) if quote.strip() else []
        return self.known[quote]

    def _search(self, quote: str, overlapping: bool) -> list[Place]:
        places = _occurrences(self.text, quote, overlapping)
        wanted = _fold(quote)[0].strip() if not places else ""
        if not wanted:
            return places
        if self.folded is None:
            self.folded = _fold(self.text)
        folded, places_of = self.folded
        matches = _occurrences(folded, wanted, overlapping)
        return [(places_of[a][0], places_of[b - 1][1]) for a, b in matches if _whole(places_of, a, b)]


def _occurrences(text: str, part: str, overlapping: bool) -> list[Place]:
    places = []
    at = text.find(part)
    while at >= 0:
        places.append((at, at + len(part)))
        at = text.find(part, at + (1 if overlapping else len(part)))
    return places


def _whole(places_of: list[Place], a: int, b: int) -> bool:
    """Return whether a match neither begins nor ends inside what was one character of the text."""
    clean_start = a == 0 or places_of[a - 1] != places_of[a]
    clean_end = b == len(places_of) or places_of[b] != places_of[b - 1]
    return clean_start and clean_end


def _fold(text: str) -> tuple[str, list[Place]]:
    """Return the text normalised, and for each character of it the (start, end) in the text that it came from."""
    folded: list[str] = []
    places: list[Place] = []
    for match in CLUSTERS.finditer(text):
        cluster = match[0]
        plain = (
            " " if cluster.isspace() else unicodedata.normalize("NFC", cluster).translate(QUOTES).casefold()
        )
        folded.extend(plain)
        places.extend([match.span()] * len(plain))
    return "".join(folded), places


@dataclass(frozen=True, slots=True)
class Located:
    """Quotes of a model placed in the text: the spans, the quotes that are not in it, and how many were ambiguous."""

    spans: list[Span]
    missing: list[str]
    ambiguous: int


def locate(text: str, quotes: Iterable[Mapping[str, Any]]) -> Located:
    """Return where each quoted passage stands in the text.

    A quote that occurs several times takes the occurrence nearest to the start offset given with it, else the first
    one that no earlier quote with the same label has taken. The same quote with the same label and start counts once,
    and so does one that occurs less often than it was given.
    """
    spans: list[Span] = []
    missing: list[str] = []
    ambiguous = 0
    searched = _Searched(text)
    free: dict[tuple[str, str | None], _Free] = {}
    taken: set[tuple[Place, str | None]] = set()
    given: set[tuple[str, str | None, int]] = set()
    for item in quotes:
        quote, label, start = str(item["text"]), item.get("label") or None, offset_of(item.get("start"))
        if start is not None:
            if (quote, label, start) in given:
                continue
            given.add((quote, label, start))
        places = searched.places(quote)
        if not places:
            missing.append(quote)
            continue
        ambiguous += len(places) > 1
        own = free.setdefault((quote, label), _Free(places))
        place = own.next(taken, label) if start is None else own.nearest(start, taken, label)
        if place is not None:
            taken.add((place, label))
            spans.append(make_span(text, *place, label))
    return Located(sorted(spans, key=lambda span: (span["start"], span["end"])), missing, ambiguous)


class _Free:
    """The places of one quote, of which each is given away once, in time that grows with their number only."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.first = 0

    def next(self, taken: set[tuple[Place, str | None]], label: str | None) -> Place | None:
        """Return the first place that no mark with this label has taken."""
        while self.first < len(self.places) and (self.places[self.first], label) in taken:
            self.first += 1
        return self.places[self.first] if self.first < len(self.places) else None

    def nearest(self, start: int, taken: set[tuple[Place, str | None]], label: str | None) -> Place | None:
        """Return the free place that is nearest to an offset; of two the first."""
        right = bisect_left(self.places, start, key=lambda place: place[0])
        left = right - 1
        while left >= 0 and (self.places[left], label) in taken:
            left -= 1
        while right < len(self.places) and (self.places[right], label) in taken:
            right += 1
        near = [self.places[i] for i in (left, right) if 0 <= i < len(self.places)]
        return min(near, key=lambda place: abs(place[0] - start)) if near else None
