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
from functools import lru_cache
from typing import Any, Literal

from nbannot.asking.prompts import answer_object, placeholder
from nbannot.asking.reply_parts import UNWRITABLE, Parts, parts_of, shortened
from nbannot.asking.request_reply import Reply
from nbannot.errors import listed
from nbannot.study.field import INTEGER, MINUS, NO, YES, Field
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
    r"^\W*(?:(?:(?:unfortunately|regrettably)\W+(?:i|we)|(?:i\W*a?m|we\W*a?re)\s+(?:very\s+|really\s+|so\s+)?sorry|sorry"
    r"|(?:i|my|we)\s+apologi[sz]e?s?|my\s+apologies|apologies)\b"
    r"|(?:as|being)\s+an?\s+(?:\w+\s+){0,3}(?:ai|assistant|language\s+model)\b"
    r"|(?:i|we)(?:\W*a?m|\W*a?re)?\s+(?:can(?:no|['’])?t|(?:not\s+able|unable)\s+to|won['’]?t|will\s+not|must\s+decline"
    r"|(?:have\s+to|need\s+to)\s+decline|decline\s+to|refuse\s+to|(?:do\s+not|don['’]t)\s+feel\s+comfortable"
    r"|not\s+comfortable)\b"
    r"|(?:es\s+tut\s+mir\s+leid|tut\s+mir\s+leid|leider\s+kann\s+ich|entschuldigung|ich\s+kann\s+(?:\w+\s+){0,4}nicht"
    r"|(?:je\s+suis\s+)?d[ée]sol[ée]e?|je\s+ne\s+peux\s+pas|je\s+m['’]excuse|lo\s+siento|lo\s+lamento|no\s+puedo"
    r"|mi\s+dispiace|non\s+posso|desculpe|sinto\s+muito|n[ãa]o\s+posso|het\s+spijt\s+me|helaas\s+kan\s+ik|ik\s+kan\s+niet)\b"
    r"|对不起|抱歉|很抱歉|非常抱歉|我无法|我不能|申し訳|すみません|ごめんなさい|죄송)",
    re.IGNORECASE,
)
"""How replies begin that decline; they count as unanswered like all without an answer, under a name of their own."""
WELL_ENDED = ("", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "complete", "length")
HIDDEN_FROM = 16
"""Tokens from which on a reply without a word was thinking that the provider keeps to itself."""
CUT = ("length", "max_tokens", "max_output_tokens", "model_length")
"""How servers call a reply that ended at max_tokens."""

PLACEHOLDERS = ("…", "...")
SUM_TOLERANCE = 1e-3
"""Shares given as percentages or with three digits sum to one only about so closely."""
ONLY_THOUGHT = "the reply is empty, the model only thought"


@dataclass(frozen=True, slots=True)
class Answer:
    """One field's answer for one text.

    Attributes
    ----------
    value
        As in `nbannot.study.field.Value`; ``None`` unless `status` is ``"ok"``.
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


_Read = tuple[Any, bool, tuple[str, ...]]
"""A value, whether it was put right, and the quotes of a span answer that are not in the text."""


REPORTED = "the server reports a refusal"
"""How the reason of such an answer begins."""


class _Bad(ValueError):
    """A value that the field does not have; its text is the reason."""


def read_reply(group: Sequence[Field], text: str, reply: Reply, attempt: int = 1) -> dict[str, Answer]:
    """Return the answer to each field of the group (column -> `Answer`) that a reply holds; never raises.

    Several whole objects that answer a field differently are no answer to it.
    """

    def all_of(status: Status, reason: str) -> dict[str, Answer]:
        return {f.column: Answer(f.column, status, reason=reason, attempt=attempt) for f in group}

    if reply.finish_reason == "context":
        return all_of("not_asked", reply.error or "the text does not fit the context window")
    if reply.error is not None:
        return all_of("failed", reply.error or "no reply")
    if (reply.finish_reason or "").partition(":")[0] in ("refusal", "content_filter"):
        why = (reply.finish_reason or "").partition(": ")[2]
        if reply.text and "{" not in reply.text:  # a provider's words, and no part of an answer
            why = shortened(reply.text, 200)
        return all_of("refused", f"{REPORTED}{': ' if why else ''}{why}")
    if reply.probabilities and not are_probabilities(reply.probabilities):
        return all_of("invalid", f"label probabilities that are none: {listed(reply.probabilities, 4)}")
    keys = ["response"] if len(group) == 1 else [field.column for field in group]
    raw = reply.text or ""
    parts = parts_of(raw, keys, _formats(group, raw))
    if not parts.objects:
        return all_of(*_why_none(reply, parts, keys))
    return {
        field.column: _answer(field, key, parts.objects, text, reply, attempt)
        for field, key in zip(group, keys, strict=True)
    }


def _formats(group: Sequence[Field], raw: str) -> list[str]:
    """Return the prompt's lines that show how an answer looks, if the reply may quote one."""
    shown = any(word in raw for word in ("…", placeholder(group[0])))
    if not shown or any(word in field.options for field in group for word in PLACEHOLDERS):
        return []
    return [answer_object(group, reasons=reasons) for reasons in (True, False)]


def _why_none(reply: Reply, parts: Parts, keys: Sequence[str]) -> tuple[Status, str]:
    """Return the status and the reason of a reply in which no answer stands."""
    thought = (reply.reasoning or "").strip()
    only_thought = not parts.said and not parts.thoughts and bool(thought)
    if (reply.finish_reason or "").casefold() in CUT:
        why = "the reply ended at max_tokens before the answer was whole"
        if not parts.said and not thought and (reply.output_tokens or 0) >= HIDDEN_FROM:
            return "truncated", (
                f"{why}; all {reply.output_tokens:,} tokens of it were thinking that is not shown: more max_tokens, "
                "or less reasoning, leave room for an answer"
            )
        return "truncated", f"{why}; all of it was thinking" if only_thought else why
    if REFUSAL.match(parts.said) and "{" not in parts.said:
        return "refused", "the reply declines to answer"
    if only_thought and parts_of(thought, keys).objects:
        return "invalid", (
            f"{ONLY_THOUGHT}: an answer stands in its reasoning, where drafts stand too; "
            "start the server without a reasoning parser, or set reasoning = false"
        )
    if only_thought:
        return "invalid", f"{ONLY_THOUGHT} ({len(thought):,} characters of reasoning)"
    ended = (reply.finish_reason or "").strip()
    return (
        "invalid",
        parts.why if ended in WELL_ENDED else f"{parts.why} (finish_reason {shortened(ended)!r})",
    )


def are_probabilities(shares: Sequence[float]) -> bool:
    """Return whether the numbers are finite, from 0 to 1, and sum to 1 within a thousandth."""
    return all(math.isfinite(p) and 0 <= p <= 1 + SUM_TOLERANCE for p in shares) and (
        abs(sum(shares) - 1) <= SUM_TOLERANCE
    )


def _answer(
    field: Field, key: str, objects: Sequence[Mapping[str, Any]], text: str, reply: Reply, attempt: int
) -> Answer:
    try:
        value, repaired, unaligned = _only_value(field, key, objects, text)
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


def _only_value(field: Field, key: str, objects: Sequence[Mapping[str, Any]], text: str) -> _Read:
    """Return what the objects answer to a field, if they all answer the same.

    Raises
    ------
    _Bad
        If they do not, if the first has no such key, or if what they say is not a value of the field.
    """
    if key not in objects[0]:
        raise _Bad(f"the answer has no key {key!r}")
    given = [item[key] for item in objects if key in item]
    if len(given) > 1:
        given = list({json.dumps(raw): raw for raw in given}.values())
    answers = [raw for raw in given if not _is_placeholder(field, raw)]
    if not answers:
        raise _Bad("the reply repeats the format and gives no answer")
    first, *others = answers
    read, why = _attempted(field, first, text)
    for other in others:
        again, _ = _attempted(field, other, text)
        if read is None or again is None or again[0] != read[0] or again[2] != read[2]:
            raise _Bad(f"several answers: {_shown(first)} and {_shown(other)}")
    if read is None:
        raise _Bad(why)
    return read[0], read[1] or bool(others), read[2]


def _attempted(field: Field, raw: Any, text: str) -> tuple[_Read | None, str]:
    try:
        return _value(field, raw, text), ""
    except _Bad as bad:
        return None, str(bad)


def _is_placeholder(field: Field, raw: Any) -> bool:
    """Return whether a value only repeats what the prompt shows in the place of an answer."""
    if isinstance(raw, list):
        texts = [str(item.get("text")) if isinstance(item, dict) else str(item)[:9] for item in raw]
        if field.type == "multiselect" and any(text in field.options for text in texts):
            return False
        return field.type in ("span", "multiselect") and bool(raw) and all(t in PLACEHOLDERS for t in texts)
    if not isinstance(raw, str) or raw in field.options:
        return False
    return raw.strip() in (*PLACEHOLDERS, placeholder(field))


def _shown(raw: Any) -> str:
    return shortened(json.dumps(raw, ensure_ascii=False))


def _value(field: Field, raw: Any, text: str) -> _Read:
    if field.type == "span":
        return _spans(field, raw, text)
    if field.type == "multiselect":
        return _options(field, raw)
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
    word = str(raw).strip().casefold()
    if isinstance(raw, int | float | str) and word in YES | NO:
        return int(word in YES), True
    raise _Bad(f"not true or false: {_shown(raw)}")


def _step(field: Field, raw: Any) -> tuple[int, bool]:
    number: Any = raw
    if isinstance(raw, str) and (whole := INTEGER.fullmatch(raw.strip().replace(MINUS, "-"))):
        number = int(whole[1])
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


def _options(field: Field, raw: Any) -> _Read:
    """Return the options that a list names, or one option that stands alone; one stranger spoils the whole answer."""
    alone = False
    if not isinstance(raw, list):
        if _among(field.options, raw) is None:
            raise _Bad(f"not a list of options: {_shown(raw)}")
        alone, raw = True, [raw]
    named = [(_among(field.options, word), word) for word in raw]
    strangers = [_shown(word) for option, word in named if option is None]
    if strangers:
        raise _Bad(f"not an option: {listed(strangers, 3)}")
    chosen = {option for option, _ in named}
    value = [option for option in field.options if option in chosen]
    repaired = alone or len(chosen) < len(named) or any(option != word for option, word in named)
    return value, repaired, ()


def _among(options: Sequence[str], raw: Any) -> str | None:
    """Return the option that is meant: exactly this one, else the only one that is the same when `folded`."""
    if isinstance(raw, float) and math.isfinite(raw):  # a number that is an option, as JSON writes it
        return str(raw) if str(raw) in options else None
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return None
    if raw in options:
        return str(raw)
    alike = _folded_options(tuple(options)).get(folded(str(raw)), ())
    return alike[0] if len(alike) == 1 else None


@lru_cache(maxsize=256)
def _folded_options(options: tuple[str, ...]) -> dict[str, list[str]]:
    by_key: dict[str, list[str]] = {}
    for option in options:
        by_key.setdefault(folded(option), []).append(option)
    return by_key


def _spans(field: Field, raw: Any, text: str) -> _Read:
    if not isinstance(raw, list):
        raise _Bad(f"not a list of passages: {_shown(raw)}")
    quotes = [_quote(field, item) for item in raw]
    located = locate(text, quotes)
    missing = tuple(UNWRITABLE.sub("�", quote) for quote in located.missing)
    if quotes and not located.spans:
        raise _Bad(f"no such quote in the text: {listed([repr(shortened(q)) for q in missing], 3)}")
    worded = any(span["text"] not in {quote["text"] for quote in quotes} for span in located.spans)
    labelled = bool(field.label_options) and any(
        item["label"] != quote["label"] for item, quote in zip(raw, quotes, strict=True)
    )
    return located.spans, worded or labelled, missing


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
