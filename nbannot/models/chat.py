"""What servers with a chat interface have in common: how they say yes, no and "too long"."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbannot.asking.reply_parts import split_thinking
from nbannot.asking.request_reply import Reply, Request
from nbannot.models.endings import FILTERED, blocked, ending, refusal_in, refusal_of, refused
from nbannot.models.exchange import (
    ACCOUNT,
    RETRIABLE,
    WORDS,
    Exchange,
    code_in,
    error_in,
    of_account,
    server_words,
    wait_in,
)
from nbannot.models.keys import masked

TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context[ _](length|size|window)|maximum context|"
    r"(prompt|input|request)[^.]{0,40} (is )?too (long|large)|too many (input )?tokens|input length exceeds",
    re.I,
)
EXCEEDS = re.compile(
    r"\b(prompt|inputs?|input tokens?|messages?|text)\b[^.]{0,60}\b(exceed\w*|longer than|(must have|be) less than \d)|"
    r"\b(prompt|input|token count)\b[^.]{0,40}\bexceeds|(maximum|max\.?) (prompt|input) length|range of input length|"
    r"exceeded model token limit|reduce the length of (the |your )?(input |text )?(messages?|prompt|inputs?|text)|"
    r"(prompt|input|text) is longer than",
    re.I,
)
"""The same in other words, where they speak of no account."""
OF_AN_ACCOUNT = re.compile(
    r"\bper (minute|min|hour|day|month)\b|\b(quota|rate limit|monthly|credits?|balance)\b", re.I
)
NUMBER = re.compile(r"\d[\d,]*")
LEAST_ROOM = 16
"""Tokens below which a reply has no room for an answer."""
CONTEXT_TOKENS = re.compile(
    r"context (?:length|size|window|limit)[^\d]{0,40}(\d[\d,]*)(?![\d,]| ?\+)|must be <= (\d[\d,]*)|"
    r"\d > (\d[\d,]*)\s*$|(?:limit|maximum) (?:of|is) (\d[\d,]*) tokens|model with (\d[\d,]*) maximum context",
    re.I,
)
TOKENS_A_MINUTE = re.compile(r"tokens per minute[^.]{0,20}: limit (\d[\d,]*), requested (\d[\d,]*)", re.I)
"""More than a whole minute allows, the longest reply counted with the prompt (Groq, Cerebras)."""

PROMPT_TOKENS = re.compile(
    r"(\d[\d,]*)(?: tokens)? (?:in|from|of) (?:the |your )?(?:input |text )?(?:messages?|prompt|inputs?)|"
    r"(?:request has|contains?(?: at least)?|prompt of|given:) (\d[\d,]*) (?:input |prompt |`?inputs`? )?tokens?|"
    r"given: (\d[\d,]*) `?inputs`?|(\d[\d,]*) \+ \d[\d,]* > \d|"
    r"\((\d[\d,]*) (?:of text input|in the (?:messages|input))",
    re.I,
)


def is_too_long(exchange: Exchange) -> bool:
    """Return whether the server says that the prompt does not fit the model's context."""
    if exchange.status not in (400, 413, 422, 500):
        return False
    inner = exchange.data.get("error")
    code = str(inner.get("code") or inner.get("type") or "") if isinstance(inner, Mapping) else ""
    words = f"{code} {exchange.said}"
    return bool(TOO_LONG.search(words) or (EXCEEDS.search(words) and not OF_AN_ACCOUNT.search(words)))


def room_left(words: str, request: Request) -> int | None:
    """Return the tokens that are left for a reply beside the prompt, as a server's words tell; ``None`` if none are.

    Words that tell the context alone are taken with an estimate of the prompt, three bytes to a token, which is
    rather too high.

    >>> words = "maximum context length is 1024 tokens. You requested 1054 tokens (30 in the messages, 1024 in the "
    >>> room_left(words, Request(key="", messages=(), shared=0, schema={}, max_tokens=1024))
    994
    """
    if minute := TOKENS_A_MINUTE.search(words):
        most, wanted = (int(n.replace(",", "")[:12]) for n in minute.groups())
        left = request.max_tokens - (wanted - most)
        return left if LEAST_ROOM <= left < request.max_tokens else None
    context = CONTEXT_TOKENS.search(words)
    if context is None:
        return None
    prompt = PROMPT_TOKENS.search(words)
    most = _first_number(context)
    if prompt is not None:
        left = most - _first_number(prompt)
    else:
        size = sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in request.messages)
        left = most - size // 3 - 8 * len(request.messages) - LEAST_ROOM
    return left if LEAST_ROOM <= left < request.max_tokens else None


def _first_number(match: re.Match[str]) -> int:
    return int(next(n for n in match.groups() if n).replace(",", "")[:12])


def too_long(tokens: int | None, room: int | None, words: str = "") -> Reply:
    """Return the reply for a text that does not fit: a status of its own, never an answer to a part of it."""
    if tokens and room:
        why = f"about {tokens:,} tokens of {room:,}"
    else:
        why = words or "the server says that it is longer than the model's context"
    return Reply(error=f"text does not fit: {why}", finish_reason="context")


def context_reply(exchange: Exchange) -> Reply:
    """Return the reply for an exchange in which the server said that the prompt is too long."""
    words = (exchange.error or "").partition(": ")[2]
    numbers = [int(n.replace(",", "")) for n in NUMBER.findall(words)]
    if len(numbers) == 2 and re.search("exceeds the available context", words):
        return too_long(numbers[0], numbers[1])
    return too_long(None, None, words)


def failed_reply(exchange: Exchange) -> Reply:
    """Return the reply for an exchange that went wrong: the text is refused, or too long, or the server failed."""
    refusal = refusal_of(exchange)
    if refusal is not None:
        return refusal
    inner = exchange.data.get("error")
    if (
        isinstance(inner, Mapping) and inner.get("code") == "json_validate_failed"
    ):  # Groq: the answer itself is faulty
        written = inner.get("failed_generation")
        return Reply(
            text=written if isinstance(written, str) else "", finish_reason="stop", seconds=exchange.seconds
        )
    return context_reply(exchange) if is_too_long(exchange) else exchange.failed()


def content_text(content: object) -> str:
    """Return the text of a message: a string, a part or a list of parts, of which some are thinking."""
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) else part for part in content if not _thinks(part)
        ]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def thinking_text(message: Mapping[str, Any]) -> str:
    """Return what a message holds apart as thinking, under the names and in the forms that servers give it."""
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
        if (value := message.get(name)) and (words := _inner_text(value).strip()):
            return words
    content = message.get("content")
    return _inner_text([part for part in content if _thinks(part)]) if isinstance(content, list) else ""


def _thinks(part: object) -> bool:
    return isinstance(part, dict) and bool(re.search("think|reason", str(part.get("type")), re.I))


def _inner_text(value: object, depth: int = 4) -> str:
    """Return the words in a string, in a list of parts, or in a part that holds such again."""
    if isinstance(value, str) or not depth:
        return value if isinstance(value, str) else ""
    if isinstance(value, list):
        return "\n".join(filter(None, (_inner_text(part, depth - 1) for part in value)))
    if isinstance(value, dict):
        named = (value.get(name) for name in ("text", "thinking", "reasoning", "summary", "content"))
        return next((words for v in named if (words := _inner_text(v, depth - 1))), "")
    return ""


def read_completion(exchange: Exchange) -> Reply:
    """Return the reply in an answer of OpenAI's chat completions API."""
    data = exchange.data
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    finish = ending(choice.get("finish_reason"))
    shared = (finish or "").partition(":")[0]
    wrong = (
        choice.get("error") or (message.get("error") if isinstance(message, dict) else None) or error_in(data)
    )
    if wrong or shared == "error":
        return _broken(exchange, wrong, finish)
    if not isinstance(message, dict):
        if (why := blocked(data)) or shared == FILTERED:
            return replace(
                refused(masked(why or finish or ""), exchange.seconds, exchange.unanswered), **_usage(data)
            )
        what = "HTTP 200: the server's reply holds no answer: " + _shown(data)
        return Reply(
            error=what,
            retriable=True,
            finish_reason="error",
            seconds=exchange.seconds,
            unanswered=exchange.unanswered,
            **_usage(data),
        )
    thinking, text = split_thinking(content_text(message.get("content")) or _called_with(message))
    text = "\n".join([text, *_other_choices(choices, text)])
    apart = thinking_text(message)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        text, finish = refusal, finish if shared == FILTERED else "refusal"
    return Reply(
        text=text,
        reasoning="\n".join(filter(None, (apart, thinking))) or None if apart or thinking else None,
        finish_reason=finish,
        seconds=exchange.seconds,
        model=_name(data.get("model")),
        fingerprint=_name(data.get("system_fingerprint")),
        unanswered=exchange.unanswered,
        **_usage(data),
    )


def _called_with(message: Mapping[str, Any]) -> str:
    """Return what a message without content calls tools with: some gateways make a tool of the form of an answer."""
    calls = message.get("tool_calls")
    functions = (
        [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    )
    given = [f.get("arguments") for f in (*functions, message.get("function_call")) if isinstance(f, dict)]
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in given if one)


def _other_choices(choices: object, text: str) -> list[str]:
    """Return what further choices say that nobody asked for, where it is not the same: no one of them is the answer."""
    messages = (
        [c.get("message") for c in choices[1:] if isinstance(c, dict)] if isinstance(choices, list) else []
    )
    texts = (split_thinking(content_text(m.get("content")))[1] for m in messages if isinstance(m, dict))
    return [other for other in dict.fromkeys(texts) if other.strip() and other.strip() != text.strip()]


def _broken(exchange: Exchange, wrong: object, finish: str | None) -> Reply:
    """Return the reply where the server had said 200 and the answer then failed behind it."""
    words = server_words(wrong)
    status = code_in(wrong)
    if refusal_in(status, wrong, words):
        refusal = refused(masked(words)[:WORDS], exchange.seconds, exchange.unanswered)
        return replace(refusal, **_usage(exchange.data))
    reason = " ".join(masked(words).split())[:WORDS] or finish or "it does not say why"
    closed = of_account(status, wrong, words)
    return Reply(
        error=f"HTTP {status}: the model failed after the server had begun to answer: {reason}",
        retriable=status in RETRIABLE and not closed,
        retry_after_s=wait_in(wrong, words),
        finish_reason=ACCOUNT if closed else "error",
        seconds=exchange.seconds,
        unanswered=exchange.unanswered,
        **_usage(exchange.data),
    )


def _name(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _usage(data: Mapping[str, Any]) -> dict[str, Any]:
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    sent, written = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
    evaluated = cached = kept = None
    timings, details = data.get("timings"), usage.get("prompt_tokens_details")
    if isinstance(timings, dict):
        evaluated = _number(timings.get("prompt_n"))
    elif (
        sent is not None
    ):  # what a provider with a prompt cache has read from it; DeepSeek has a name of its own
        held = details.get("cached_tokens") if isinstance(details, dict) else None
        cached = _number(usage.get("prompt_cache_hit_tokens") if held is None else held)
        cached = cached if cached is not None and cached <= sent else None
        evaluated = None if cached is None else sent - cached
        # OpenAI from GPT-5.6 on, and OpenRouter, charge more for what is put into the cache, and count it here.
        kept = _number(details.get("cache_write_tokens")) if isinstance(details, dict) else None
        kept = kept if kept is not None and kept + (cached or 0) <= sent else None
    return {
        "input_tokens": sent,
        "output_tokens": _with_thinking(usage, sent, written),
        "evaluated_tokens": evaluated,
        "cached_tokens": cached,
        "cache_write_tokens": kept,
    }


def charged_by_openrouter(data: Mapping[str, Any]) -> float | None:
    """Return what OpenRouter says that a reply has cost, in US$; ``None`` where it does not.

    It charges in credits, one for a dollar. Where the user's own key at the provider behind it was used, that provider
    charges, too. https://openrouter.ai/docs/use-cases/usage-accounting, read in November 2026.

    >>> charged_by_openrouter({"usage": {"cost": 0.00014}}), charged_by_openrouter({"usage": None})
    (0.00014, None)
    >>> own = {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 2}}
    >>> charged_by_openrouter({"usage": own})
    2.01
    """
    told = data.get("usage")
    usage: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    parts = [usage.get("cost")]
    if usage.get("is_byok"):
        details = usage.get("cost_details")
        parts.append(details.get("upstream_inference_cost") if isinstance(details, Mapping) else None)
    numbers = [
        n for n in parts if isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < math.inf
    ]
    return float(sum(numbers)) if len(numbers) == len(parts) else None


def _with_thinking(usage: Mapping[str, Any], sent: int | None, written: int | None) -> int | None:
    """Return the tokens written and paid for: xAI and Gemini count those of thinking in the total alone."""
    total, details = _number(usage.get("total_tokens")), usage.get("completion_tokens_details")
    if sent is not None and total is not None and total > sent:
        return max(written or 0, total - sent)
    thought = _number(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    if thought and written is not None and thought > written:  # so that it cannot be a part of them
        return written + thought
    return written


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _shown(data: Mapping[str, Any]) -> str:
    try:
        text = masked(json.dumps(data, ensure_ascii=False))
    except (RecursionError, ValueError):
        return "lists in lists, too deep to read"
    return text if len(text) <= 120 else text[:119] + "…"
