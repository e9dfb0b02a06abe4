"""Span cells: the marks that a table cell holds, also under the names and in the shapes that other tools give them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbannot.errors import listed
from nbannot.study.field import known_word
from nbannot.study.span_offsets import Mark

SHAPE = 'must be a JSON list of {"start", "end", "text", "label"}'
STARTS = ("start", "start_offset", "startOffset", "start_char", "start_index", "startIndex", "start_pos", "begin",
          "offset", "from")  # fmt: skip
ENDS = ("end", "end_offset", "endOffset", "end_char", "end_index", "endIndex", "end_pos", "stop", "to")
QUOTES = (
    "text",
    "quote",
    "exact",
    "span_text",
    "surface",
    "surface_form",
    "covered_text",
    "content",
    "selectedText",
)
LABELS = ("label", "labels", "tag", "tags", "category", "entity", "entity_type", "entity_group", "type")
INNER = ("value", "globalOffsets", "points")
"""Where some tools keep the offsets of a mark."""

NUMBER = re.compile(r"\s*[+-]?\d{1,15}(\.0*)?\s*")


def read_marks(cell: str, label_options: Sequence[str]) -> list[Mark] | None:
    """Return the marks of a cell; ``None`` for a blank one (not coded).

    Raises
    ------
    ValueError
        If it is not a JSON list of marks, or a label is not in the codebook.
    """
    if not cell.strip():
        return None
    try:
        raw = json.loads(cell)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg})") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON (nested too deep, or a number too long)") from None
    if isinstance(raw, dict) and isinstance(raw.get("result"), list):
        raw = raw["result"]
    if not isinstance(raw, list):
        raise ValueError(SHAPE)
    return [mark for item in raw for mark in _marks(item, label_options)]


def _marks(item: Any, label_options: Sequence[str]) -> list[Mark]:
    """Return the mark that one item is; one per label where it has several."""
    if isinstance(item, list) and len(item) == 3 and all(offset_of(n) is not None for n in item[:2]):
        item = {"start": item[0], "end": item[1], "label": item[2]}
    if not isinstance(item, Mapping):
        raise ValueError(SHAPE)
    flat = dict(item)
    for name in INNER:
        inner = item.get(name)
        inner = inner[0] if isinstance(inner, list) and len(inner) == 1 else inner
        if isinstance(inner, Mapping):
            flat.update(inner)
    start, end = _offset(flat, STARTS), _offset(flat, ENDS)
    if end is None and start is not None and (length := _offset(flat, ("length", "len"))) is not None:
        end = start + length
    quote = next((flat[name] for name in QUOTES if flat.get(name) is not None), None)
    if quote is not None and not isinstance(quote, str):
        raise ValueError(f"the quote {quote!r} is not a text")
    return [Mark(start, end, quote, label) for label in _labels(flat, label_options)]


def _labels(flat: Mapping[str, Any], label_options: Sequence[str]) -> list[str | None]:
    if not label_options:
        return [None]
    given = next((flat[name] for name in LABELS if flat.get(name)), None)
    labels: list[str | None] = []
    for word in given if isinstance(given, list) else [given]:
        label = known_word(str(word or ""), label_options)
        if label is None:
            raise ValueError(f"label {word!r} is not one of {listed(label_options, 10)}")
        labels.append(label)
    return labels


def _offset(flat: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((offset for name in names if (offset := offset_of(flat.get(name))) is not None), None)


def offset_of(value: Any) -> int | None:
    """Return an offset as an integer, also one that a table made a float or a text; ``None`` for anything else."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return int(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == value // 1 else None
