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

from nbannot.asking.request_reply import Reply
from nbannot.errors import listed
from nbannot.study.codebook import NO, YES, Field
from nbannot.study.spans import locate

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
    r"^\W*((i\W*a?m\s+)?sorry\b|i\s+(can(no|['’])?t|am\s+unable|won['’]t)\b|as\s+an\s+ai\b|i\s+must\s+decline)",
    re.IGNORECASE,
)
THINKING_ENDS = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
MARK = re.compile(r"<(?P<close>/?)think(?:ing)?>|\{", re.IGNORECASE)
"""What parts a reply: where thinking aloud begins and ends, and the brace that may open the answer."""

OBJECT = re.compile(r"\{\s*[\"}]")
"""A brace that opens a JSON object."""

UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
"""What no table can hold: control characters and halves of surrogate pairs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One field's answer for one text.

    Attributes
    ----------
    value
        As in `nbannot.study.codebook.Value`; ``None`` unless `status` is ``"ok"``.
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
        return all_of("failed", reply.error or "no reply")
    if (reply.finish_reason or "").partition(":")[0] in ("refusal", "content_filter"):
        said = (reply.finish_reason or "").partition(": ")[2]
        if reply.text and "{" not in reply.text:  # a provider's words, and no part of an answer
            said = shortened(reply.text, 200)
        return all_of("refused", f"the server reports a refusal{': ' if said else ''}{said}")
    keys = ["response"] if len(group) == 1 else [field.column for field in group]
    found, why = first_object(reply.text, keys)
    if found is None:
        if reply.finish_reason == "length":
            return all_of("truncated", "the reply ended at max_tokens before the answer was whole")
        if _declines(reply.text):
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
    except RecursionError:
        return Answer(field.column, "invalid", reason="lists in lists, too deep to read", attempt=attempt)
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


def _declines(raw: str) -> bool:
    said = THINKING_ENDS.split(raw)[-1]
    return bool(REFUSAL.match(said)) and "{" not in said


def first_object(raw: str, keys: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """Return the first whole JSON object in a reply that has one of `keys`, or ``None`` and why there is none.

    What is thought aloud is no answer: ``<think>…</think>``, also where the reply begins inside it or ends before it
    does. An object that starts and is not whole ends the search, and braces that hold no JSON are passed over with
    all that is in them: what stands inside either is no answer.
    """
    text = raw.strip()
    found: dict[str, Any] | None = None
    why, thoughts, at = "", 0, 0
    while match := MARK.search(text, at):
        at = match.end()
        if match["close"]:
            if not thoughts:  # the reply began inside its thoughts: everything so far was thinking
                found, why = None, ""
            thoughts = max(0, thoughts - 1)
        elif match["close"] is not None:
            thoughts += 1
        elif not thoughts and found is None and not why:
            found, why, at = _object_at(text, match.start())
            if found is not None and not any(key in found for key in keys):
                found = None
    if found is not None:
        return found, ""
    return None, why or _nothing(text, keys[0])


def _nothing(text: str, key: str) -> str:
    """Return why a reply in which no object broke off, and none had the key, holds no answer."""
    if not text:
        return "the reply is empty"
    said = re.split("<think", THINKING_ENDS.split(text)[-1], flags=re.IGNORECASE)[0]
    if not said.strip():
        return "the reply ended with its thinking"
    if OBJECT.search(said):
        return f"the answer has no key {key!r}: {shortened(said)!r}"
    return _not_json(said)


def _not_json(said: str) -> str:
    return f"not JSON: {shortened(said)!r}"


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, str, int]:
    """Return the object that begins at `start`, or ``None`` and why it is not whole, and where the search goes on."""
    if not OBJECT.match(text, start):
        end = _closing(text, start)
        return (None, "", end) if end else (None, _not_json(text), len(text))
    try:
        found, end = _DECODER.raw_decode(text, start)
    except _Bad as bad:
        return None, str(bad), len(text)
    except json.JSONDecodeError as error:  # up to where it fails all was JSON: a mark in there is in a string
        return (
            None,
            _not_json(text),
            len(text) if error.msg.startswith("Unterminated") else max(error.pos, start + 1),
        )
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists
        return None, _not_json(text), len(text)
    return found, "", end


def _closing(text: str, start: int) -> int:
    """Return where the brace that opens at `start` is closed again, or 0."""
    level = 0
    for match in re.compile("[{}]").finditer(text, start):
        level += 1 if match[0] == "{" else -1
        if not level:
            return match.end()
    return 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and (type(found[key]) is not type(value) or found[key] != value):
            raise _Bad(f"several answers: {shortened(key)!r} is given twice")
        found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, strict=False)


def shortened(text: str, length: int = 60) -> str:
    """Return the text on one line, cut after `length` characters; what cannot be written becomes �."""
    flat = " ".join(UNWRITABLE.sub("�", text[: 100 * length]).split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _shown(raw: Any) -> str:
    return shortened(json.dumps(raw, ensure_ascii=False))


def _value(field: Field, raw: Any, text: str) -> tuple[Any, bool, tuple[str, ...]]:
    if field.type == "span":
        return _spans(field, raw, text)
    if field.type == "textbox":
        if not isinstance(raw, str):
            raise _Bad(f"not a text: {_shown(raw)}")
        clean = UNWRITABLE.sub("�", raw).strip()
        return clean, clean != raw.strip(), ()
    if isinstance(raw, list):
        if len(raw) != 1:
            raise _Bad(f"{'several answers' if raw else 'no answer'}: {_shown(raw)}")
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
    if isinstance(raw, int | float | str) and said in YES | NO:
        return int(said in YES), True
    raise _Bad(f"not true or false: {_shown(raw)}")


def _step(field: Field, raw: Any) -> tuple[int, bool]:
    number: Any = raw
    if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?\d{1,15}(\.0+)?\s*", raw):
        number = int(float(raw))
    elif isinstance(raw, float) and raw.is_integer():
        number = int(raw)
    if not isinstance(number, int) or isinstance(number, bool):
        raise _Bad(f"not an integer: {_shown(raw)}")
    if not field.min_value <= number <= field.max_value:
        raise _Bad(
            f"out of range: {shortened(str(number), 20)} is not from {field.min_value} to {field.max_value}"
        )
    return number, not isinstance(raw, int)


def folded(text: str) -> str:
    """Return a text as it is compared when the exact one is no option: NFC, stripped, case folded."""
    return unicodedata.normalize("NFC", text).strip().casefold()


def _option(field: Field, raw: Any) -> tuple[str, bool]:
    option = _among(field.options, raw)
    if option is None:
        raise _Bad(f"not an option: {_shown(raw)}")
    return option, option != raw


def _among(options: Sequence[str], raw: Any) -> str | None:
    """Return the option that is meant: exactly this one, else the only one that is the same when `folded`."""
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return None
    if raw in options:
        return str(raw)
    alike = [option for option in options if folded(option) == folded(str(raw))]
    return alike[0] if len(alike) == 1 else None


def _spans(field: Field, raw: Any, text: str) -> tuple[Any, bool, tuple[str, ...]]:
    if not isinstance(raw, list):
        raise _Bad(f"not a list of passages: {_shown(raw)}")
    quotes = [_quote(field, item) for item in raw]
    found = locate(text, quotes)
    missing = tuple(UNWRITABLE.sub("�", quote) for quote in found.missing)
    if quotes and not found.spans:
        raise _Bad(f"no such quote in the text: {listed([repr(shortened(q)) for q in missing], 3)}")
    worded = any(span["text"] not in {quote["text"] for quote in quotes} for span in found.spans)
    labelled = bool(field.label_options) and any(
        item["label"] != quote["label"] for item, quote in zip(raw, quotes, strict=True)
    )
    return found.spans, worded or labelled, missing


def _quote(field: Field, item: Any) -> dict[str, Any]:
    """Return one passage of a reply as text, label and (where given) start."""
    quote = {"text": item} if isinstance(item, str) and not field.label_options else item
    if not isinstance(quote, dict) or not isinstance(quote.get("text"), str):
        raise _Bad(f"a passage without its text: {_shown(item)}")
    if not field.label_options:
        return {**quote, "label": None}
    label = _among(field.label_options, quote.get("label"))
    if label is None:
        raise _Bad(
            f"a passage with a label that is no option: {_shown(quote.get('label'))}; "
            f"the labels are {listed(field.label_options)}"
        )
    return {**quote, "label": label}


def calibrate(
    field: Field, probabilities: Sequence[float], offset: Sequence[float]
) -> tuple[Any, tuple[float, ...]]:
    """Return the most probable label and the label probabilities after subtracting a log offset per label.

    Among labels that are equally probable after it, the one that was more probable before it is taken.

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
    best = max(range(len(logs)), key=lambda i: (round(logs[i], 9), probabilities[i]))
    return field.labels[best], tuple(w / total for w in weights)


def batch_offset(distributions: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the log of the mean probability of each label over several texts.

    >>> [round(v, 3) for v in batch_offset([(0.9, 0.1), (0.7, 0.3)])]
    [-0.223, -1.609]
    """
    n = len(distributions)
    return tuple(math.log(max(sum(column) / n, 1e-12)) for column in zip(*distributions, strict=True))
