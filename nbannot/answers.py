"""Answers: a model's reply becomes a value of the codebook, or a named status that says why not.

Nothing is guessed from prose, nothing is clamped into a scale, nothing is matched by likeness. A bad answer is data.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nbannot.codebook import NO, YES, Field
from nbannot.errors import listed
from nbannot.models.base import Reply
from nbannot.spans import locate

Status = Literal["ok", "invalid", "refused", "truncated", "failed", "not_applicable", "not_asked"]
STATUSES: tuple[Status, ...] = (
    "ok",
    "invalid",
    "refused",
    "truncated",
    "failed",
    "not_applicable",
    "not_asked",
)

REFUSAL = re.compile(
    r"^\W*(i\s*('|’)?\s*(a)?m\s+sorry|sorry|i\s+(can(no|'|’)?t|cannot|am unable|won('|’)t)|as an ai\b|i\s+must decline)",
    re.IGNORECASE,
)
THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
OBJECT = re.compile(r"\{\s*(?=[\"}])")


@dataclass(frozen=True, slots=True)
class Answer:
    """One field's answer for one text.

    Attributes
    ----------
    value
        As in `nbannot.codebook.Value`; ``None`` unless `status` is ``"ok"``.
    reason
        Why there is no value, e.g. ``"not an option: 'maybe'"``.
    repaired
        Whether the reply was a value only after Unicode, case, white space or a JSON type were put right.
    unaligned
        Quotes of a span answer that are not in the text.
    probabilities
        For a scored answer: one number per label of the field, after calibration.
    """

    column: str
    status: Status
    value: Any = None
    reason: str = ""
    repaired: bool = False
    unaligned: tuple[str, ...] = ()
    probabilities: tuple[float, ...] | None = None
    attempt: int = 1


class _Bad(ValueError):
    """A value that the field does not have; its text is the reason."""


def read_reply(group: Sequence[Field], text: str, reply: Reply, attempt: int = 1) -> dict[str, Answer]:
    """Return the answer to each field of the group (column -> `Answer`) that a reply holds."""

    def all_of(status: Status, reason: str) -> dict[str, Answer]:
        return {f.column: Answer(f.column, status, reason=reason, attempt=attempt) for f in group}

    if reply.finish_reason == "context":
        return all_of("not_asked", reply.error or "the text does not fit the context window")
    if reply.error is not None:
        return all_of("failed", reply.error)
    if reply.finish_reason in ("refusal", "content_filter"):
        return all_of("refused", "the server reports a refusal")
    keys = ["response"] if len(group) == 1 else [field.column for field in group]
    found, why = first_object(reply.text, keys)
    if found is None:
        if reply.finish_reason == "length":
            return all_of("truncated", "the reply ended at max_tokens before the answer was whole")
        if REFUSAL.match(reply.text) and "{" not in reply.text:
            return all_of("refused", "the reply declines to answer")
        return all_of("invalid", why)
    return {
        field.column: _answer(field, key, found, text, reply, attempt)
        for field, key in zip(group, keys, strict=True)
    }


def _answer(
    field: Field, key: str, found: Mapping[str, Any], text: str, reply: Reply, attempt: int
) -> Answer:
    if key not in found:
        return Answer(field.column, "invalid", reason=f"the answer has no key {key!r}", attempt=attempt)
    try:
        value, repaired, unaligned = _value(field, found[key], text)
    except _Bad as bad:
        return Answer(field.column, "invalid", reason=str(bad), attempt=attempt)
    scored = reply.probabilities if len(reply.probabilities or ()) == len(field.labels) else None
    return Answer(
        field.column,
        "ok",
        value,
        repaired=repaired,
        unaligned=unaligned,
        probabilities=scored,
        attempt=attempt,
    )


def first_object(raw: str, keys: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """Return the first whole JSON object in a reply that has one of `keys`, or ``None`` and why there is none.

    An object that starts and is not whole ends the search: what stands inside it is not an answer.
    """
    text = THINKING.sub("", raw).strip()
    if not text:
        return None, "the reply is empty"
    at = 0
    seen_other = False
    while match := OBJECT.search(text, at):
        try:
            found, at = _DECODER.raw_decode(text, match.start())
        except _Bad as bad:
            return None, str(bad)
        except (json.JSONDecodeError, RecursionError):
            return None, f"not JSON: {shortened(text)!r}"
        if any(key in found for key in keys):
            return found, ""
        seen_other = True
    if seen_other:
        return None, f"the answer has no key {keys[0]!r}: {shortened(text)!r}"
    return None, f"not JSON: {shortened(text)!r}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise _Bad(f"several answers: {key!r} is given twice")
        found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, strict=False)


def shortened(text: str, length: int = 60) -> str:
    """Return the text on one line, cut after `length` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _value(field: Field, raw: Any, text: str) -> tuple[Any, bool, tuple[str, ...]]:
    if field.type == "span":
        return _spans(field, raw, text)
    if field.type == "textbox":
        if not isinstance(raw, str):
            raise _Bad(f"not a text: {shortened(json.dumps(raw, ensure_ascii=False))}")
        return raw.strip(), False, ()
    if isinstance(raw, list):
        if len(raw) != 1:
            raise _Bad(f"several answers: {shortened(json.dumps(raw, ensure_ascii=False))}")
        return (_label(field, raw[0])[0], True, ())
    value, repaired = _label(field, raw)
    return value, repaired, ()


def _label(field: Field, raw: Any) -> tuple[int | str, bool]:
    if field.type == "checkbox":
        return _truth(raw)
    return _step(field, raw) if field.type == "likert" else _option(field, raw)


def _truth(raw: Any) -> tuple[int, bool]:
    if isinstance(raw, bool):
        return int(raw), False
    said = str(raw).strip().casefold()
    if isinstance(raw, int | str) and said in YES | NO:
        return int(said in YES), True
    raise _Bad(f"not true or false: {shortened(json.dumps(raw, ensure_ascii=False))}")


def _step(field: Field, raw: Any) -> tuple[int, bool]:
    number: Any = raw
    if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?\d+(\.0+)?\s*", raw):
        number = float(raw)
    whole = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    if not whole or number != int(number):
        raise _Bad(f"not an integer: {shortened(json.dumps(raw, ensure_ascii=False))}")
    if not field.min_value <= number <= field.max_value:
        raise _Bad(f"out of range: {int(number)} is not from {field.min_value} to {field.max_value}")
    return int(number), not isinstance(raw, int)


def folded(text: str) -> str:
    """Return a text as it is compared when the exact one is no option: NFC, stripped, case folded."""
    return unicodedata.normalize("NFC", text).strip().casefold()


def _option(field: Field, raw: Any) -> tuple[str, bool]:
    if isinstance(raw, str) and raw in field.options:
        return raw, False
    if isinstance(raw, str | int) and not isinstance(raw, bool):
        alike = [option for option in field.options if folded(option) == folded(str(raw))]
        if len(alike) == 1:
            return alike[0], True
    raise _Bad(f"not an option: {shortened(json.dumps(raw, ensure_ascii=False))}")


def _spans(field: Field, raw: Any, text: str) -> tuple[Any, bool, tuple[str, ...]]:
    if not isinstance(raw, list):
        raise _Bad(f"not a list of passages: {shortened(json.dumps(raw, ensure_ascii=False))}")
    quotes = []
    for item in raw:
        quote = {"text": item} if isinstance(item, str) and not field.label_options else item
        if not isinstance(quote, dict) or not isinstance(quote.get("text"), str):
            raise _Bad(f"a passage without its text: {shortened(json.dumps(item, ensure_ascii=False))}")
        if field.label_options and quote.get("label") not in field.label_options:
            raise _Bad(
                f"a passage with a label that is no option: {shortened(json.dumps(quote.get('label')))}; "
                f"the labels are {listed(field.label_options)}"
            )
        quotes.append(quote if field.label_options else {**quote, "label": None})
    found = locate(text, quotes)
    if quotes and not found.spans:
        raise _Bad(f"no such quote in the text: {listed([repr(shortened(q)) for q in found.missing], 3)}")
    repaired = any(span["text"] not in {q["text"] for q in quotes} for span in found.spans)
    return found.spans, repaired, tuple(found.missing)


def calibrate(
    field: Field, probabilities: Sequence[float], offset: Sequence[float]
) -> tuple[Any, tuple[float, ...]]:
    """Return the most probable label and the label probabilities after subtracting a log offset per label.

    Parameters
    ----------
    probabilities
        One per label of the field, summing to 1.
    offset
        Log of the mean probability of each label over the calibration texts (see `batch_offset`).
    """
    logs = [math.log(max(p, 1e-12)) - o for p, o in zip(probabilities, offset, strict=True)]
    top = max(logs)
    weights = [math.exp(value - top) for value in logs]
    total = sum(weights)
    best = logs.index(top)
    return field.labels[best], tuple(w / total for w in weights)


def batch_offset(distributions: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the log of the mean probability of each label over several texts.

    >>> [round(v, 3) for v in batch_offset([(0.9, 0.1), (0.7, 0.3)])]
    [-0.223, -1.609]
    """
    n = len(distributions)
    return tuple(math.log(max(sum(column) / n, 1e-12)) for column in zip(*distributions, strict=True))
