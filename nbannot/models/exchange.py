"""How one HTTP exchange with a model server went, and what the server says of it."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from nbannot.asking.request_reply import Reply
from nbannot.tools.json_bytes import unpacked

RETRIABLE = frozenset({408, 425, 429}) | frozenset(range(500, 600)) - {501, 505}
"""Statuses after which the same request may succeed; 501 and 505 say that it never will."""
WORDS = 300
"""Most characters of a server's own words in an error."""
READ_WORDS = 20_000
"""Most characters of a reply in which a server's words are looked for: error pages can be of any length."""
DEPTH = 8
"""How deep in a reply a server's words are looked for."""

WAIT_NAMES = {
    "retrydelay": 1.0,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retryaftersecs": 1.0,
    "retryaftersec": 1.0,
    "retryafterms": 0.001,
    "retryaftermilliseconds": 0.001,
    "waitseconds": 1.0,
}
"""Members of an error that state a wait, without their marks and capitals, and the seconds of their unit."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*"
    r"(milliseconds?|millis|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)(?![a-z])",
    re.I,
)
WAIT_WORDS = re.compile(
    r"\b(?:(?:re)?try(?:ing)?(?: again| your request)?|wait(?:ing)?|available(?: again)?|resets?|retry[- ]after)"
    r"\W{0,3}(?:again )?(?:in|after|for|at least|about|approximately|another|\s){0,4}\W{0,3}"
    r"(?P<wait>\d{1,9}(?:\.\d{1,9})?\s*(?:milliseconds?|millis|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?"
    r"|h)(?![a-z])[\s\dhms.]{0,24})",
    re.I,
)

ACCOUNT = "account"
"""The finish reason of a request that a provider refuses for the account's sake."""
CLOSED_CODES = re.compile(
    r"insufficient_(quota|balance|credits?|funds)|credit_balance|exceeded_current_quota|budget_exceeded|billing|"
    r"(spend|organi[sz]ation_usage|monthly_usage)_limit|payment_required|arrearage|blocked_api_access|"
    r"(organi[sz]ation|account)_(restricted|deactivated|suspended|disabled)|"
    r"openrouter_(credits|key_limit|guardrail_budget|workspace_budget)|(?<!\d)1113(?!\d)",
    re.I,
)
"""Codes with which providers say that an account has nothing left, or is closed (1113: Zhipu)."""
CLOSED_WORDS = re.compile(
    r"credit balance is too low|you have reached your specified [^.]{0,20}usage limits|"
    r"(prepa(y|id|yment)|available) credits are (depleted|exhausted)|(used|spent) all (of )?(your |the )?available "
    r"credits|"
    r"insufficient (credits?|balance|funds)|billing hard limit|key limit exceeded|budget has been exceeded|"
    r"account is (not active|suspended|deactivated|disabled)|account is in good standing|"
    r"organi[sz]ation has been (restricted|disabled|suspended)|api access (is|has been) (blocked|disabled)|"
    r"欠费|余额不足",
    re.I,
)
"""The same in the words of those that have no code for it (Anthropic, Gemini, xAI, LiteLLM and others)."""
OF_ONE_REQUEST = re.compile(r"in_flight_budget|weight_exceeds_budget", re.I)
"""Codes of OpenRouter for what holds for now, or for one request that is too dear."""


BROKE = "the connection broke"
"""How an error begins that says so: whatever was answered before, another server may be there by now."""
ONE_OF_SEVERAL: ContextVar[bool] = ContextVar("one_of_several", default=False)
"""Whether pools that are made now belong to one of several servers: what breaks is then not sent there again, as
another model may have been started; the engine sends it to another server."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one HTTP request went.

    Attributes
    ----------
    status
        The HTTP status; 0 when there was no reply.
    data
        The JSON object of the reply; empty when there is none.
    error
        Why the reply is of no use, with the server's own words, for people: keys are masked, and it is cut.
        ``None`` when the reply can be used.
    words
        The server's own words as they came, by which an error is recognised. Never handed on.
    seconds
        From sending to the last byte.
    unanswered
        How often the request was sent before on a connection that the server closed without a reply.
    is_of_account
        Whether it is refused for the account's sake (`of_account`), as every other request would be.
    """

    status: int = 0
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: str | None = None
    retriable: bool = False
    retry_after_s: float | None = None
    seconds: float = 0.0
    words: str = field(default="", repr=False)
    unanswered: int = 0
    is_of_account: bool = False

    @property
    def said(self) -> str:
        """What an error is recognised by: the server's words as they came, else the error."""
        return self.words or self.error or ""

    def failed(self) -> Reply:
        """Return the `Reply` for a request that went wrong."""
        return Reply(
            error=self.error,
            retriable=self.retriable,
            retry_after_s=self.retry_after_s,
            finish_reason=ACCOUNT if self.is_of_account else "error",
            seconds=self.seconds,
            unanswered=self.unanswered,
        )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that a server asks to be left alone: ``Retry-After`` as a number or a date.

    >>> retry_after({"Retry-After": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({"Retry-After": "soon"})
    (7.0, 0.25, None)
    """
    if re.fullmatch(r"\d{1,9}(\.\d+)?", headers.get("retry-after-ms", "")):
        return float(headers["retry-after-ms"]) / 1000
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, when - (time.time() if now is None else now))


def wait_in(data: object, words: str = "") -> float | None:
    """Return the seconds that an error asks to wait for in its body: a member that states them, or its words.

    >>> wait_in({"error": {"details": [{"retryDelay": "34.5s"}]}})
    34.5
    >>> wait_in({}, "Rate limit reached. Please try again in 1m20.5s. Limit 30, used 30."), wait_in({}, "busy")
    (80.5, None)
    """
    stated = [*_stated(data, 0)]
    match = WAIT_WORDS.search(words[:READ_WORDS])
    if match is not None:
        stated.append(_seconds(match["wait"]))
    return max(stated, default=None)


def _stated(data: object, depth: int) -> list[float]:
    """Return the waits that members of an error state, in seconds."""
    if depth > DEPTH:
        return []
    if isinstance(data, list):
        return [wait for item in data[:20] for wait in _stated(item, depth + 1)]
    if not isinstance(data, Mapping):
        return []
    waits = []
    for name, value in list(data.items())[:50]:
        unit = WAIT_NAMES.get(re.sub(r"[^a-z]", "", str(name).casefold()[:40]))
        if unit is None or isinstance(value, bool):
            waits += _stated(value, depth + 1)
        elif isinstance(value, int | float) and 0 <= value < 1e9:
            waits.append(value * unit)
        elif isinstance(value, Mapping) and isinstance(value.get("seconds"), int | float):
            waits.append(float(value["seconds"]))
        elif isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", value):
            waits.append(float(value) * unit)
        elif isinstance(value, str) and PART.match(value.strip()):
            waits.append(_seconds(value[:40]))
    return waits


def _seconds(text: str) -> float:
    """Return the seconds of a time such as ``1m20.5s``.

    >>> _seconds("1h2m3s"), _seconds("250ms"), _seconds("2 minutes")
    (3723.0, 0.25, 120.0)
    """
    total = 0.0
    for number, unit in PART.findall(text):
        short = "ms" if unit.casefold().startswith(("ms", "milli")) else unit[0].casefold()
        total += float(number) * UNITS[short]
    return total


def server_words(data: object, raw: str = "") -> str:
    """Return what a server says went wrong, in the forms that servers have for it.

    >>> server_words({"error": {"message": "no such model"}}), server_words({"detail": [{"loc": ["body", "seed"],
    ...     "msg": "Extra inputs are not permitted"}]})
    ('no such model', 'body.seed: Extra inputs are not permitted')
    """
    words = _words(data, 0)
    if words:
        return words[:READ_WORDS]
    page = raw[:READ_WORDS]
    text = re.sub(r"<[^<>]*>", " ", page) if page.lstrip().startswith("<") else page
    return " ".join(text.split())


def _words(data: object, depth: int) -> str:
    if depth > DEPTH:
        return ""
    if isinstance(data, str):
        inner = parsed(data) if data.lstrip().startswith("{") else None
        return (_words(inner, depth + 1) if inner else "") or data
    if isinstance(data, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in data[:3])))
    if isinstance(data, Mapping):
        where = data.get("loc")
        if isinstance(where, list) and "msg" in data:
            return f"{'.'.join(map(str, where[:DEPTH]))}: {data['msg']}"
        for name in (
            "error",
            "message",
            "detail",
            "msg",
            "error_message",
            "error_msg",
            "status_msg",
            "errors",
            "base_resp",
        ):
            if data.get(name) and (words := _words(data[name], depth + 1)):
                more = _words(_behind(data), depth + 1)
                return f"{words}: {more}" if more else words
    return ""


def _behind(error: Mapping[str, Any]) -> Any:
    """Return what the provider behind a router said, as the router hands it on: an object, or words; else ``None``."""
    further = error.get("metadata")
    raw = further.get("raw") if isinstance(further, Mapping) else None
    return (parsed(raw) or raw) if isinstance(raw, str) else raw


def parsed(raw: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in a reply, or ``None``; an error in a list of its own is taken out of it."""
    try:
        data = unpacked(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and "error" in data[0]:
        return data[0]
    return data if isinstance(data, dict) else None


def error_in(data: Mapping[str, Any]) -> Any:
    """Return the error that a reply with status 200 holds, in the forms that servers have for it; else ``None``."""
    if data.get("error"):
        return data["error"]
    status = data.get("base_resp")
    if isinstance(status, Mapping) and status.get("status_code") not in (0, None):
        return {"code": status["status_code"], "message": status.get("status_msg")}
    if data.get("choices"):
        return None
    if data.get("error_code") or data.get("error_msg"):
        return {"code": data.get("error_code"), "message": data.get("error_msg")}
    if data.get("object") == "error" or data.get("type") == "error" or data.get("status") == "error":
        return {k: data.get(k) for k in ("code", "message", "detail", "type")}
    if data.get("success") is False:
        return data.get("errors") or {k: data.get(k) for k in ("code", "message", "msg")}
    return None


def code_of(error: object) -> str:
    """Return the codes of an error as they came, with blanks between: ``code``, ``type``, ``status``, inner ones.

    >>> code_of({"code": 403, "metadata": {"error_type": "permission_denied", "limit_source": "openrouter_key_limit"}})
    '403 permission_denied openrouter_key_limit'
    """
    if not isinstance(error, Mapping):
        return ""
    codes = [error.get(name) for name in ("code", "type", "status", "reason")]
    for name in ("innererror", "inner_error", "metadata", "details"):
        if isinstance(inner := error.get(name), Mapping):
            codes += [inner.get(of) for of in ("code", "error_code", "error_type", "reason", "limit_source")]
    behind = _behind(error)
    if isinstance(behind, Mapping):
        codes.append(code_of(error_in(behind) or behind))
    return " ".join(str(code)[:80] for code in codes if isinstance(code, str | int) and code)


def code_in(error: object) -> int:
    """Return the HTTP status that an error inside a reply with status 200 stands for; 502 where it does not say."""
    code = error.get("code") if isinstance(error, Mapping) else None
    if isinstance(code, str) and code.isdigit() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    words = f"{code_of(error)} {_words(error, 0)}"[:READ_WORDS]
    if re.search(
        r"(unexpected|unknown|no such|invalid) (endpoint|route|path|url)|endpoint[^.]{0,20} not found",
        words,
        re.I,
    ):
        return 404
    if re.search(r"rate[_ ]?limit|too many requests|resource[_ ]exhausted", words, re.I):
        return 429
    return 502


def failure(
    status: int,
    data: Mapping[str, Any],
    page: str,
    shown: Callable[[str], str],
    *,
    wait: float | None = None,
    seconds: float = 0.0,
    reason: str = "",
) -> Exchange:
    """Return the exchange for what a server says went wrong.

    Parameters
    ----------
    page
        The reply as text, where it is no JSON object.
    shown
        Makes of the server's words what people may see.
    wait
        Seconds that the headers of the reply ask to be left alone.
    reason
        What is said where the server says nothing.
    """
    words = server_words(data, page)
    waits = [w for w in (wait, wait_in(data, words) if status in RETRIABLE else None) if w is not None]
    settles = status == 402 and wait is not None  # OpenRouter: once what is in flight has been paid
    closed = not settles and of_account(status, error_in(data) or data, words)
    return Exchange(
        status,
        data,
        f"HTTP {status}: {shown(words) or reason}",
        (status in RETRIABLE or settles) and not closed,
        max(waits, default=None),
        seconds,
        words,
        is_of_account=closed,
    )


def of_account(status: int, error: object, words: str) -> bool:
    """Return whether a provider refuses because the account has nothing left, or is closed: no request will pass.

    Some say so with the status of a wrong request or of one that comes too soon. What they say of a spending limit
    within minutes (Gemini) has neither these codes nor these words.

    >>> of_account(429, {"code": "project_spend_limit_exceeded"}, "You exceeded your current quota")
    True
    >>> of_account(429, {"status": "RESOURCE_EXHAUSTED"}, "You exceeded your current quota, please check your plan")
    False
    """
    codes = code_of(error)
    if status not in (400, 401, 402, 403, 429) or OF_ONE_REQUEST.search(codes):
        return False
    return bool(CLOSED_CODES.search(codes) or CLOSED_WORDS.search(words))
