"""Spans: passages of a text, as half-open offsets counted in Unicode code points.

Reads the JSON lists of ``{"start", "end", "text", "label"}`` that coders leave, repairs offsets that a browser counted
in UTF-16 units, and locates the quotes that models give. Nothing is located by likeness: a quote is in the text,
exactly or but for white space, quotation marks and case, or it is not.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nbannot.errors import listed
from nbannot.study.codebook import known_word

Span = dict[str, Any]
"""``{"start": int, "end": int, "text": str, "label": str | None}``, 0-based, end exclusive, code points."""

QUOTES = str.maketrans(dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("‘’‚‛‹›`", "'"))

CLUSTERS = re.compile(r"\s+|\S[\u0300-\u036f\u3099\u309a\u1160-\u11ff]*")
"""White space, or a character with what combines with it: accents, kana voicing marks, the rest of a syllable."""

SHAPE = 'must be a JSON list of {"start", "end", "text", "label"}'
Place = tuple[int, int]
Reading = Callable[[str, int | None, int | None], Place | None]


def make_span(text: str, start: int, end: int, label: str | None) -> Span:
    """Return the span of `text` from `start` to `end`."""
    return {"start": start, "end": end, "text": text[start:end], "label": label}


def read_spans(cell: str, text: str, label_options: Sequence[str]) -> tuple[list[Span] | None, int]:
    """Return the spans that a table cell holds, and how many of them needed their offsets repaired.

    Where ``text`` and the offsets disagree, the quote decides: first as UTF-16 units, then as the occurrence nearest
    to the offsets given. One tool wrote the whole cell: if only UTF-16 units fit all its quotes, all are read so.
    Without ``label_options`` a span has no label, whatever the cell says.

    Returns
    -------
    spans
        ``None`` for a blank cell (not coded), ``[]`` for "coded, nothing found".
    repaired
        Number of spans whose offsets were changed.

    Raises
    ------
    ValueError
        If the cell is not a JSON list of spans, a label is not in the codebook, or a quote is not in the text.
    """
    if not cell.strip():
        return None, 0
    try:
        raw = json.loads(cell)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg})") from None
    if not isinstance(raw, list):
        raise ValueError(SHAPE)
    units = [_from_utf16, _as_given] if _only_utf16(raw, text) else [_as_given, _from_utf16]
    spans, repaired = [], 0
    for item in raw:
        span = _read_one(item, text, label_options, units)
        spans.append(span)
        repaired += (span["start"], span["end"]) != (item.get("start"), item.get("end"))
    return spans, repaired


def _only_utf16(raw: list[Any], text: str) -> bool:
    """Return whether every quote fits its offsets as UTF-16 units, and not every one as code points."""
    items = [item for item in raw if isinstance(item, Mapping)]
    return not all(_fits(item, text, _as_given) for item in items) and all(
        _fits(item, text, _from_utf16) for item in items
    )


def _fits(item: Mapping[str, Any], text: str, reading: Reading) -> bool:
    place = reading(text, _offset(item.get("start")), _offset(item.get("end")))
    return place is not None and text[slice(*place)] == item.get("text")


def _read_one(item: Any, text: str, label_options: Sequence[str], units: Sequence[Reading]) -> Span:
    if not isinstance(item, Mapping):
        raise ValueError(SHAPE)
    label = known_word(str(item.get("label") or ""), label_options) if label_options else None
    if label_options and label is None:
        raise ValueError(f"label {item.get('label') or None!r} is not one of {listed(label_options, 10)}")
    start, end, quote = _offset(item.get("start")), _offset(item.get("end")), item.get("text")
    if quote is None:
        place = _as_given(text, start, end)
        if place is None:
            raise ValueError(f"offsets {start}–{end} are outside the text ({len(text)} characters)")
        return make_span(text, *place, label)
    if not isinstance(quote, str):
        raise ValueError(f"the quote {quote!r} is not a text")
    for reading in units:
        if _fits(item, text, reading):
            return make_span(text, *cast(Place, reading(text, start, end)), label)
    places = find_all(text, quote, overlapping=True)
    if not places:
        raise ValueError(f"the quote {quote!r} is not in the text")
    return make_span(text, *min(places, key=lambda place: abs(place[0] - (start or 0))), label)


def _offset(value: Any) -> int | None:
    """Return an offset as an integer, also one that a table made a float; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _as_given(text: str, start: int | None, end: int | None) -> Place | None:
    return (start, end) if start is not None and end is not None and 0 <= start < end <= len(text) else None


def _from_utf16(text: str, start: int | None, end: int | None) -> Place | None:
    """Return code-point offsets for offsets counted in UTF-16 units, or ``None`` if they fall inside a character."""
    if start is None or end is None or not 0 <= start < end:
        return None
    units = text.encode("utf-16-le", "surrogatepass")
    try:
        before = units[: 2 * start].decode("utf-16-le")
        inside = units[2 * start : 2 * end].decode("utf-16-le")
    except UnicodeDecodeError:
        return None
    return len(before), len(before) + len(inside)


def find_all(text: str, quote: str, *, overlapping: bool = False) -> list[Place]:
    """Return every place of `quote` in `text` as (start, end); exact places first choice, else normalised ones.

    Normalised means: any quotation mark for another of its kind, any run of white space as one space, case folded,
    composed characters equal to decomposed ones. Nothing fuzzier. Places do not overlap unless asked for.

    >>> find_all("An “odd”  word, an ODD word", '"odd" word')
    [(3, 14)]
    """
    if not quote.strip():
        return []
    places = _occurrences(text, quote, overlapping)
    if places:
        return places
    folded, places_of = _fold(text)
    wanted = _fold(quote)[0].strip()
    if not wanted:
        return []
    matches = _occurrences(folded, wanted, overlapping)
    return [(places_of[a][0], places_of[b - 1][1]) for a, b in matches if _whole(places_of, a, b)]


def _occurrences(text: str, part: str, overlapping: bool) -> list[Place]:
    found = []
    at = text.find(part)
    while at >= 0:
        found.append((at, at + len(part)))
        at = text.find(part, at + (1 if overlapping else len(part)))
    return found


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
    taken: set[tuple[int, int, str | None]] = set()
    given: set[tuple[str, str | None, int]] = set()
    for item in quotes:
        quote, label, start = str(item["text"]), item.get("label") or None, _offset(item.get("start"))
        if start is not None:
            if (quote, label, start) in given:
                continue
            given.add((quote, label, start))
        places = find_all(text, quote)
        if not places:
            missing.append(quote)
            continue
        ambiguous += len(places) > 1
        free = [place for place in places if (*place, label) not in taken]
        if not free:
            continue
        near = min(free, key=lambda place: abs(place[0] - start)) if start is not None else free[0]
        taken.add((*near, label))
        spans.append(make_span(text, *near, label))
    return Located(sorted(spans, key=lambda span: (span["start"], span["end"])), missing, ambiguous)
