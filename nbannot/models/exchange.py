"""How one HTTP exchange with a model server went, and what the server says of it."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbannot.asking.request_reply import Reply
from nbannot.tools.json_bytes import unpacked

RETRIABLE = frozenset({408, 425, 429}) | frozenset(range(500, 600)) - {501, 505}


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
        Why the reply is of no use, with the server's own words; ``None`` when it is.
    seconds
        From sending to the last byte.
    """

    status: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    retriable: bool = False
    retry_after_s: float | None = None
    seconds: float = 0.0

    def failed(self) -> Reply:
        """Return the `Reply` for a request that went wrong."""
        return Reply(
            error=self.error,
            retriable=self.retriable,
            retry_after_s=self.retry_after_s,
            finish_reason="error",
            seconds=self.seconds,
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


def server_words(data: object, raw: str = "") -> str:
    """Return what a server says went wrong, in the forms that servers have for it.

    >>> server_words({"error": {"message": "no such model"}}), server_words({"detail": [{"loc": ["body", "seed"],
    ...     "msg": "Extra inputs are not permitted"}]})
    ('no such model', 'body.seed: Extra inputs are not permitted')
    """
    if isinstance(data, str):
        inner = parsed(data) if data.lstrip().startswith("{") else None
        return server_words(inner) if inner else data
    if isinstance(data, list):
        return "; ".join(server_words(item) for item in data[:3])
    if isinstance(data, Mapping):
        where = data.get("loc")
        if isinstance(where, list) and "msg" in data:
            return f"{'.'.join(map(str, where))}: {data['msg']}"
        for name in ("error", "message", "detail", "msg", "error_message"):
            if data.get(name):
                return server_words(data[name])
    text = re.sub(r"<[^>]*>", " ", raw) if raw.lstrip().startswith("<") else raw
    return " ".join(text.split())


def parsed(raw: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in a reply, or ``None``."""
    try:
        data = unpacked(raw)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def code_in(data: Mapping[str, Any]) -> int:
    """Return the HTTP status that an error inside a reply with status 200 stands for."""
    inner = data["error"]
    code = inner.get("code") if isinstance(inner, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def spent(data: Mapping[str, Any] | None) -> bool:
    """Return whether the server refuses because the account has nothing left: waiting does not help."""
    inner = (data or {}).get("error")
    return isinstance(inner, Mapping) and "insufficient_quota" in (inner.get("code"), inner.get("type"))
