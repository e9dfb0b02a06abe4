"""Spans: passages of a text, as half-open offsets counted in Unicode code points.

Reads the JSON lists of ``{"start", "end", "text", "label"}`` that coders leave, repairs offsets that a browser counted
in UTF-16 units, and locates the quotes that models give. Nothing is located by likeness: a quote is in the text,
exactly or but for white space, quotation marks and case, or it is not.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbannot.errors import listed

Span = dict[str, Any]
"""``{"start": int, "end": int, "text": str, "label": str | None}``, 0-based, end exclusive, code points."""

QUOTES = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "`": "'"}
)


def make_span(text: str, start: int, end: int, label: str | None) -> Span:
    """Return the span of `text` from `start` to `end`."""
    return {"start": start, "end": end, "text": text[start:end], "label": label}


def read_spans(cell: str, text: str, label_options: Sequence[str]) -> tuple[list[Span] | None, int]:
    """Return the spans that a table cell holds, and how many of them needed their offsets repaired.

    Where ``text`` and the offsets disagree, the quote decides: first as UTF-16 units, then as the occurrence nearest
    to the offsets given.

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
        raise ValueError('must be a JSON list of {"start", "end", "text", "label"}')
    spans, repaired = [], 0
    for item in raw:
        span, moved = _read_one(item, text, label_options)
        spans.append(span)
        repaired += moved
    return spans, repaired


def _read_one(item: Any, text: str, label_options: Sequence[str]) -> tuple[Span, bool]:
    if not isinstance(item, Mapping):
        raise ValueError('must be a JSON list of {"start", "end", "text", "label"}')
    label = item.get("label") or None
    if label_options and label not in label_options:
        raise ValueError(f"label {label!r} is not one of {listed(label_options, 10)}")
    start, end, quote = item.get("start"), item.get("end"), item.get("text")
    whole = isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)
    if quote is None:
        if not whole:
            raise ValueError(f"offsets {start}–{end} are outside the text ({len(text)} characters)")
        return make_span(text, start, end, label), False  # type: ignore[arg-type]
    if whole and text[start:end] == quote:
        return make_span(text, start, end, label), False  # type: ignore[arg-type]
    found = _from_utf16(text, start, end)
    if found and text[found[0] : found[1]] == quote:
        return make_span(text, *found, label), True
    places = find_all(text, str(quote))
    if not places:
        raise ValueError(f"the quote {quote!r} is not in the text")
    near = start if isinstance(start, int) else 0
    return make_span(text, *min(places, key=lambda place: abs(place[0] - near)), label), True


def _from_utf16(text: str, start: Any, end: Any) -> tuple[int, int] | None:
    """Return code-point offsets for offsets counted in UTF-16 units, or ``None`` if they fall inside a character."""
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
        return None
    units = text.encode("utf-16-le", "surrogatepass")
    try:
        before = units[: 2 * start].decode("utf-16-le")
        inside = units[2 * start : 2 * end].decode("utf-16-le")
    except UnicodeDecodeError:
        return None
    return len(before), len(before) + len(inside)


def find_all(text: str, quote: str) -> list[tuple[int, int]]:
    """Return every place of `quote` in `text` as (start, end); exact places first choice, else normalised ones.

    Normalised means: any quotation mark for another of its kind, any run of white space as one space, case folded,
    composed characters equal to decomposed ones. Nothing fuzzier.
    """
    if not quote.strip():
        return []
    places = [(m.start(), m.end()) for m in re.finditer(re.escape(quote), text)]
    if places:
        return places
    folded, places_of = _fold(text)
    wanted = _fold(quote)[0].strip()
    if not wanted:
        return []
    matches = [(m.start(), m.end()) for m in re.finditer(re.escape(wanted), folded)]
    return [(places_of[a][0], places_of[b - 1][1]) for a, b in matches if _whole(places_of, a, b)]


def _whole(places_of: list[tuple[int, int]], a: int, b: int) -> bool:
    """Return whether a match neither begins nor ends inside what was one character of the text."""
    clean_start = a == 0 or places_of[a - 1] != places_of[a]
    clean_end = b == len(places_of) or places_of[b] != places_of[b - 1]
    return clean_start and clean_end


def _fold(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text normalised, and for each character of it the (start, end) in the text that it came from."""
    folded: list[str] = []
    places: list[tuple[int, int]] = []
    for match in re.finditer(r"\s+|\S[\u0300-\u036f]*", text):
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
    one that no earlier quote with the same label has taken. Identical spans count once.
    """
    spans: list[Span] = []
    missing: list[str] = []
    ambiguous = 0
    taken: set[tuple[int, int, str | None]] = set()
    for item in quotes:
        quote, label, start = str(item["text"]), item.get("label") or None, item.get("start")
        places = find_all(text, quote)
        if not places:
            missing.append(quote)
            continue
        ambiguous += len(places) > 1
        free = [place for place in places if (*place, label) not in taken]
        if not free:
            continue
        near = min(free, key=lambda place: abs(place[0] - start)) if isinstance(start, int) else free[0]
        taken.add((*near, label))
        spans.append(make_span(text, *near, label))
    return Located(sorted(spans, key=lambda span: (span["start"], span["end"])), missing, ambiguous)
