"""Where marks stand whose offsets another program counted: proven by their quotes, or refused.

Programs count differently: code points, UTF-16 units or bytes; a line break as one character or two; accents composed
or decomposed; the last character inside or outside; from 0 or from 1. A way of counting is proven when every quote
stands where its offsets say under it, and no other way that is as likely puts a quote elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

Place = tuple[int, int]

TOKENS = re.compile(r"\r\n|\s|\S[\u0300-\u036f\u3099\u309a\u1160-\u11ff]*")
"""A line break, other white space, or a character with what combines with it."""

BREAKS = re.compile(r"\r\n|\r|\n")
HOW_TO_SAY = "count code points of the text as it stands in the file, the first is 0, the end is not included"


@dataclass(frozen=True, slots=True)
class Counting:
    """One way to count: what is done to the text first, in which unit, and where counting begins and ends.

    Attributes
    ----------
    breaks
        What a line break is counted as; "" for what it is.
    form
        Unicode normal form of the text that was counted; "" for what it is, "blanks" for white space at its ends left
        out and any other run of it counted as one.
    first, last
        The number of the first character, and what is to be added to an end to get the number of characters up to it.
    """

    breaks: str = ""
    form: str = ""
    unit: str = "code points"
    first: int = 0
    last: int = 0

    def __str__(self) -> str:
        words = [self.unit if self.unit == "bytes" else f"in {self.unit}"]
        words += [f"line breaks as {self.breaks!r}"] if self.breaks else []
        words += ["white space run together"] if self.form == "blanks" else []
        words += [f"text in {self.form}"] if self.form.startswith("NF") else []
        words += ["from 1"] if self.first else []
        words += ["the end included"] if self.first or self.last else []
        return ", ".join(words)


AS_CONTRACTED = Counting()
UNITS = ("code points", "UTF-16 units")
LIKELY = tuple(Counting(breaks, unit=unit) for breaks in ("", "\n", "\r\n") for unit in UNITS)[1:]
RARE = (
    *(Counting(breaks, unit="bytes") for breaks in ("", "\n", "\r\n")),
    *(
        Counting(breaks, form, unit)
        for form in ("NFC", "NFD")
        for breaks in ("", "\n", "\r\n")
        for unit in (*UNITS, "bytes")
    ),
    *(Counting("", "blanks", unit) for unit in (*UNITS, "bytes")),
    *(Counting(b, "", unit, 0, 1) for b in ("", "\n", "\r\n") for unit in UNITS),
    *(Counting(b, "", unit, 1, 0) for b in ("", "\n", "\r\n") for unit in UNITS),
)
TIERS = ((AS_CONTRACTED,), LIKELY, RARE)


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark as a cell has it: offsets (``None`` where there are none) and the words (``None`` where not told)."""

    start: int | None
    end: int | None
    quote: str | None
    label: str | None


def place_of(mark: Mark, text: str, way: Counting) -> Place | None:
    """Return where the mark stands in the text under one way of counting, or ``None`` if its quote does not."""
    if mark.start is None:
        return None
    seen = _seen(text, _reduced(way, text))
    start = seen.index(mark.start - way.first)
    if start is None:
        return None
    if mark.end is not None:
        end = seen.index(mark.end + way.last)
    else:
        end = None if mark.quote is None else start + len(mark.quote)
    place = seen.place(start, end)
    return place if place is None or mark.quote is None or _alike(seen.text[start:end], mark.quote) else None


def _alike(passage: str, quote: str) -> bool:
    return passage == quote or (
        not quote.isascii() and unicodedata.normalize("NFC", passage) == unicodedata.normalize("NFC", quote)
    )


def places_of(marks: Sequence[Mark], text: str, way: Counting) -> list[Place] | None:
    """Return where the marks stand, or ``None`` unless every one stands where its offsets say under this way."""
    places = []
    for mark in marks:
        place = place_of(mark, text, way)
        if place is None:
            return None
        places.append(place)
    return places


def ways_that_fit(marks: Sequence[Mark], text: str, ways: Sequence[Counting]) -> set[Counting]:
    """Return which of these ways of counting put every mark where its quote stands."""
    known: dict[Counting, bool] = {}
    for way in ways:
        plain = _reduced(way, text)
        if plain not in known:
            known[plain] = places_of(marks, text, plain) is not None
    return {way for way in ways if known[_reduced(way, text)]}


def proven(marks: Sequence[Mark], text: str, ways: set[Counting]) -> tuple[list[Place] | None, str]:
    """Return the places that the likeliest of these ways agree on; ``None`` and why if there are none."""
    for tier in TIERS:
        fitting: dict[tuple[Place, ...], Counting] = {}
        for way in tier:
            if way in ways and (places := places_of(marks, text, way)) is not None:
                fitting.setdefault(tuple(places), way)
        if len(fitting) == 1:
            return list(next(iter(fitting))), ""
        if fitting:
            named = " or ".join(str(way) for way in list(fitting.values())[:3])
            return None, f"the quotes fit their offsets in {len(fitting)} ways ({named}): {HOW_TO_SAY}"
    return None, ""


@dataclass(frozen=True)
class _Seen:
    """A text as another program saw it, and where each of its characters stands in ours (-1: inside of one)."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    units: dict[int, int] | None

    def index(self, offset: int) -> int | None:
        """Return the number of code points before an offset, or ``None`` if it is outside or within a character."""
        if self.units is not None:
            return self.units.get(offset)
        return offset if 0 <= offset <= len(self.text) else None

    def place(self, start: int, end: int | None) -> Place | None:
        if end is None or not 0 <= start < end <= len(self.text):
            return None
        a, b = self.starts[start], self.ends[end]
        return (a, b) if 0 <= a < b else None


def _reduced(way: Counting, text: str) -> Counting:
    """Return the simplest way that counts this text just so."""
    breaks, form, unit = way.breaks, way.form, way.unit
    if breaks and all(match[0] == breaks for match in BREAKS.finditer(text)):
        breaks = ""
    if form.startswith("NF") and (text.isascii() or unicodedata.is_normalized(form, text)):  # type: ignore[arg-type]
        form = ""
    if text.isascii():
        unit = "code points"
    return Counting(breaks, form, unit, way.first, way.last)


@lru_cache(maxsize=64)
def _seen(text: str, way: Counting) -> _Seen:
    if not way.breaks and not way.form:
        places: Sequence[int] = range(len(text) + 1)
        return _Seen(text, places, places, _units(text, way.unit))
    pieces: list[str] = []
    starts, ends = [0], [0]
    for piece, a, b in _blanks(text) if way.form == "blanks" else _tokens(text, way):
        starts[-1] = a
        pieces.append(piece)
        if b - a == len(piece):
            starts += range(a + 1, b + 1)
            ends += range(a + 1, b + 1)
        else:
            inside = [-1] * (len(piece) - 1)
            starts += [*inside, b]
            ends += [*inside, b]
    whole = "".join(pieces)
    return _Seen(whole, starts, ends, _units(whole, way.unit))


def _tokens(text: str, way: Counting) -> list[tuple[str, int, int]]:
    tokens = []
    for match in TOKENS.finditer(text):
        piece = match[0]
        if way.breaks and piece in ("\r\n", "\r", "\n"):
            piece = way.breaks
        elif way.form:
            piece = unicodedata.normalize(way.form, piece)  # type: ignore[arg-type]
        tokens.append((piece, *match.span()))
    return tokens


def _blanks(text: str) -> list[tuple[str, int, int]]:
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    runs = re.finditer(r"\s+|\S+", text)
    return [
        (" " if run[0].isspace() else run[0], *run.span())
        for run in runs
        if run.start() >= first and run.end() <= last
    ]


def _units(text: str, unit: str) -> dict[int, int] | None:
    if unit == "code points" or text.isascii():
        return None
    if unit == "bytes":
        lengths = (len(c.encode("utf-8", "surrogatepass")) for c in text)
    else:
        lengths = (2 if c > "\uffff" else 1 for c in text)
    return {offset: number for number, offset in enumerate(accumulate(lengths, initial=0))}
