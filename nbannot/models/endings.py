"""How a model's reply ended: as an answer, as a refusal of this text, or as a failure of those who serve the model.

A refusal is final: the same text will be refused again. A failure says nothing about the text: it is asked again. A
provider's words are a refusal only where they speak of what was sent or written; what concerns the account is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nbannot.asking.request_reply import Reply
from nbannot.models.exchange import (
    CLOSED_CODES,
    CLOSED_WORDS,
    Exchange,
    code_of,
    error_in,
    server_words,
)

FILTERED = "content_filter"
"""The finish reason of what a provider's filter refused; where the provider has another word for it, that follows."""

MAY_BE_REFUSALS = frozenset({400, 403, 406, 409, 410, 413, 418, 422, 424, 446, 451})
"""HTTP statuses with which providers refuse a text. Others speak of the key, the account, the address or the server."""

FILTER_CODES = re.compile(
    r"content[_ -]?(filter|polic|moderation|management|risk|safety|block|inspection|restrict|flag)|moderation|"
    r"invalid[_ -]?prompt|(prompt|input|output)[_ -]?(block|reject|filter|flagged|moderat)|prohibited[_ -]?content|"
    r"data[_ -]?inspection|(?<!case)(?<!case[_ -])sensitive|responsible[_ -]?ai|guardrail|jailbreak|(\b|_)safety\b|"
    r"safety[_ -](block|filter|violat|check|system)|blocklist|\bspii\b|recitation|toxic|usage[_ -]?polic|"
    r"cyber[_ -]?polic|polic(y|ies)[_ -]?violation|unsafe|harmful|(?<![a-z])refusal(?![a-z])|"
    r"prompt[_ -]?injection|nsfw",
    re.I,
)
ACCOUNT_CODES = re.compile(r"account|organi[sz]ation|billing|access|permission|auth", re.I)
FILTER_WORDS = re.compile(
    r"content (management|filter\w*|polic\w+|moderation|inspection|safety)|content exists risk|"
    r"usage (polic\w+|guidelines)|(was|were|been|is|are|input|prompt|output|content) flagged|flagged (as|for|by)|"
    r"(inappropriate|unsafe|sensitive|prohibited|harmful|objectionable)[ _](content|information|words?|material)|"
    r"safety (system|filter\w*|check\w*|polic\w+|reasons|guidelines)|safety_check|moderation|guardrail|"
    r"responsible ai|data_inspection|\bnsfw\b|considered high[- ]risk|(rejected|refused) by [^.]{0,30}(filter|guard)|"
    r"model (refused|declined) to|敏感|不安全|违规|内容安全|不当内容|"
    r"\b(prompt|input|output|content|text|messages?)\b[^.]{0,60}\b(blocked|filtered|violat\w+|moderated|censored)\b|"
    r"\b(blocked|filtered|violat\w+)\b[^.]{0,60}\b(prompt|input|output|content|text|messages?)\b",
    re.I,
)
NOT_THE_TEXT = re.compile(
    r"\b(account|organi[sz]ation|access|workspace|subscription|project)\b[^.]{0,60}"
    r"\b(suspend\w*|deactivat\w*|terminat\w*|disabled?|block\w*|bann\w*|restrict\w*|flagged|limited)|"
    r"\b(suspended|deactivated|banned|terminated)\b|"
    r"(invalid|unknown|unsupported|unrecogni[sz]ed|missing|must be|is required|not a valid)[^.]{0,40}"
    r"(field|parameter|argument|setting|value|key|header|property)",
    re.I,
)
OUT_OF_ORDER = re.compile(
    r"unavailable|time[d-]? ?out|overload|internal|try again|retry|fail(ed|ure)|busy", re.I
)


def _any_of(words: str) -> re.Pattern[str]:
    """Return what finds one of the words in a finish reason, whole, with anything before and after it."""
    return re.compile(rf"(?<![a-z])({words})(?![a-z])")


REFUSED_WORDS = _any_of(
    r"content_?filter(ed|ing)?|safety|prohibited|blocklist(ed)?|spii|recitation|sensitive|moderat(ion|ed)|"
    r"guardrails?|block(ed)?|flagged|filter(ed)?|polic(y|ies)_?violations?|(content|usage)_?polic(y|ies)|"
    r"toxic|risk|unsafe|harmful|nsfw|model_armor|jailbreak|prompt_injection"
)
"""Words of finish reasons that are refusals; what follows a colon is the provider's own."""
DECLINED_WORDS = _any_of("refusal|refused|declined")
BROKEN_WORDS = _any_of(
    r"\w*error|fail(ed|ure)?|abort(ed)?|cancel+ed|time_?out|timed_out|interrupted|preempted|unavailable|"
    r"insufficient_\w+|\w*overload(ed)?|network\w*|disconnect(ed)?|expired|malformed\w*|exception|crash(ed)?|"
    r"killed|evicted|shut_?down|oom|out_of_memory|internal|(rate|time|quota|request|capacity)_?limit(ed|s)?|"
    r"throttled|quota|capacity|unload(ed)?|offline"
)
CUT_WORDS = _any_of(
    r"length|max(imum|imal)?(_output|_completion|_new|_total)?_?tokens?|token_limit|limit|too_long|"
    r"context_window\w*|incomplete|truncated"
)

ENDINGS = (
    (FILTERED, REFUSED_WORDS),
    ("refusal", DECLINED_WORDS),
    ("error", BROKEN_WORDS),
    ("length", CUT_WORDS),
)


def ending(word: object) -> str | None:
    """Return how a reply ended in words that all providers share: stop, length, content_filter, error, or its own.

    >>> [ending(word) for word in ("STOP", "MAX_TOKENS", "content_filter", "SAFETY", "insufficient_system_resource")]
    ['stop', 'length', 'content_filter', 'content_filter: SAFETY', 'error: insufficient_system_resource']
    >>> ending("content_filter: PROHIBITED_CONTENT"), ending("eos"), ending(None)
    ('content_filter: PROHIBITED_CONTENT', 'eos', None)
    """
    if word == "stop":
        return "stop"
    if isinstance(word, Mapping):
        word = word.get("type") or word.get("reason")
    if not word:
        return None
    reason = str(word).strip()[:80]
    name = reason.partition(":")[0].strip().removeprefix("FinishReason.").removeprefix("FINISH_REASON_")
    if name.casefold() == "stop":
        return "stop"
    plain = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).casefold()
    for shared, pattern in ENDINGS:
        if pattern.search(plain):
            return reason if name == shared else shared if shared == "length" else f"{shared}: {reason}"
    return reason


def is_refused(reply: Reply) -> bool:
    """Return whether a provider's filter refused this text, for good; a model that declines may be asked again."""
    return (reply.finish_reason or "").partition(":")[0] == FILTERED


def refusal_in(status: int, error: object, words: str) -> bool:
    """Return whether an error of a provider is the refusal of this text.

    Parameters
    ----------
    status
        The HTTP status, or what stands for it in the error.
    error
        The error as the server sent it.
    words
        What it says, as it came.
    """
    codes = code_of(error)
    if isinstance(error, Mapping):
        further = error.get("metadata")
        if isinstance(further, Mapping) and (further.get("flagged_input") or further.get("reasons")):
            codes += " moderation"
        if any(
            isinstance(error.get(k), list | Mapping) and error[k]
            for k in ("contentFilter", "content_filter_result")
        ):
            codes += " content_filter"
    if re.search(
        r"\b(1301|1026|1027|10013|10014|10019)\b", codes
    ):  # Zhipu, MiniMax, Spark have numbers for it
        return True
    if CLOSED_CODES.search(codes):  # "guardrail_budget": spent, and no guardrail has seen the text
        return False
    if FILTER_CODES.search(codes):
        return (status in MAY_BE_REFUSALS or status >= 500) and not ACCOUNT_CODES.search(codes)
    # Where a provider numbers its errors by itself, in a reply with status 200, no HTTP status says whose fault it is.
    numbered = status == 502 and re.search(r"(?<!\d)\d{4,}(?!\d)", codes) and not OUT_OF_ORDER.search(words)
    return bool(
        (status in MAY_BE_REFUSALS or numbered)
        and FILTER_WORDS.search(words)
        and not NOT_THE_TEXT.search(words)
        and not CLOSED_WORDS.search(words)
    )


def refused(words: str, seconds: float, unanswered: int = 0) -> Reply:
    """Return the reply for a text that a provider's filter refused; its words stand as the reply's text."""
    return Reply(text=words, finish_reason=FILTERED, seconds=seconds, unanswered=unanswered)


def refusal_of(exchange: Exchange) -> Reply | None:
    """Return the reply where a failed exchange is a provider's refusal of this text, else ``None``."""
    error: Any = error_in(exchange.data)
    if not isinstance(error, Mapping):
        error = exchange.data
    if exchange.data and refusal_in(exchange.status, error, exchange.said):
        return refused(exchange.error or "", exchange.seconds, exchange.unanswered)
    return None


def blocked(data: Mapping[str, Any]) -> str:
    """Return why a reply without an answer was blocked, in the provider's words; "" where it was not."""
    feedback = data.get("promptFeedback") or data.get("prompt_feedback")
    if isinstance(feedback, Mapping) and (
        reason := feedback.get("blockReason") or feedback.get("block_reason")
    ):
        return f"blocked: {reason}"
    results = data.get("prompt_filter_results")
    for result in results if isinstance(results, list) else ():
        kinds = result.get("content_filter_results") if isinstance(result, Mapping) else None
        if isinstance(kinds, Mapping):
            filtered = [
                name for name, one in kinds.items() if isinstance(one, Mapping) and one.get("filtered")
            ]
            if filtered:
                return f"filtered: {', '.join(filtered)}"
    return server_words(data) if FILTER_CODES.search(code_of(data)) else ""
