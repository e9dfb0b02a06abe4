"""What servers with a chat interface have in common: how they say yes, no and "too long", and what they refuse.

Servers that speak OpenAI's language differ in what they take: some know no JSON schema, some no seed, some models only
one temperature. A `Dialect` begins with everything, and leaves out what the server's own words say it does not take.
What was left out is kept with those words, so that a run can record it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nbannot.asking.request_reply import Reply, Request
from nbannot.models.http import Exchange
from nbannot.tools.json_bytes import packed

Sent = TypeVar("Sent")

FORMATS = ("json_schema", "json_object", "text")
"""Ways of asking for JSON, the strictest first."""

TOP_LOGPROBS = 20
MAY_BE_DROPPED = ("seed", "temperature", "top_p", "top_k")
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
SWITCHES = ("chat_template_kwargs", "reasoning_effort")
REFUSED = (400, 404, 415, 422, 501)
"""HTTP statuses with which servers refuse a request for what it holds."""
KEPT_BODIES = 64
MOST_SENDS = 12
"""How often one request may be sent while each refusal teaches something (there are 9 things to learn)."""

FORMAT_WORDS = re.compile(
    r"response_?format|json_?\s?schema|json_object|grammar|guided|structured[ _]output", re.I
)
UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|not available|"
    r"not accept|extra (inputs|fields)|only the default|use '?\"?max_|no endpoints found",
    re.I,
)
TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context[ _](length|size|window)|maximum context|"
    r"(prompt|input|request)[^.]{0,40} (is )?too (long|large)|too many (input )?tokens|input length exceeds",
    re.I,
)
NUMBER = re.compile(r"\d[\d,]*")
MARK = re.compile(r"<(?P<close>/?)think(?:ing)?>|\{", re.I)


def split_thinking(text: str) -> tuple[str | None, str]:
    """Return the thinking at the beginning of a reply, and the rest.

    Thinking ends with ``</think>``; it begins with ``<think>`` or, where the prompt has already opened it, with the
    reply. A reply that never ends its thinking is given back as it is.

    >>> split_thinking("<think>Hm.</think>{}"), split_thinking("Hm.</think>{}"), split_thinking('{"a": "</think>"}')
    (('Hm.', '{}'), ('Hm.', '{}'), (None, '{"a": "</think>"}'))
    """
    first = MARK.search(text)
    if first is None or first["close"] is None:
        return None, text
    start = 0
    if not first["close"]:
        if text[: first.start()].strip():
            return None, text
        start = first.end()
    end = re.compile("</think(?:ing)?>", re.I).search(text, start)
    if end is None:
        return None, text
    return text[start : end.start()].strip() or None, text[end.end() :].lstrip()


def is_too_long(exchange: Exchange) -> bool:
    """Return whether the server says that the prompt does not fit the model's context."""
    if exchange.status not in (400, 413, 422, 500):
        return False
    inner = exchange.data.get("error")
    code = str(inner.get("code") or inner.get("type") or "") if isinstance(inner, Mapping) else ""
    return bool(TOO_LONG.search(f"{code} {exchange.error}"))


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


def content_text(content: object) -> str:
    """Return the text of a message: most servers send a string, some a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def read_completion(exchange: Exchange) -> Reply:
    """Return the reply in an answer of OpenAI's chat completions API."""
    choices = exchange.data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    message = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        what = "the server's reply holds no answer: " + _shown(exchange.data)
        return Reply(error=what, retriable=True, finish_reason="error", seconds=exchange.seconds)
    thinking, text = split_thinking(content_text(message.get("content")))
    said = message.get("reasoning_content") or message.get("reasoning")
    refusal = message.get("refusal")
    finish = choice.get("finish_reason")
    return Reply(
        text=refusal if isinstance(refusal, str) and refusal else text,
        reasoning=said if isinstance(said, str) else thinking,
        finish_reason="refusal" if refusal else str(finish) if finish else None,
        seconds=exchange.seconds,
        **_usage(exchange.data),
    )


def _usage(data: Mapping[str, Any]) -> dict[str, Any]:
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    sent, said = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
    evaluated = None
    timings, details = data.get("timings"), usage.get("prompt_tokens_details")
    if isinstance(timings, dict):
        evaluated = _number(timings.get("prompt_n"))
    elif isinstance(details, dict) and sent is not None:
        cached = _number(details.get("cached_tokens"))
        evaluated = None if cached is None else sent - cached
    return {"input_tokens": sent, "output_tokens": said, "evaluated_tokens": evaluated}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _shown(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"


class Bodies:
    """The encoded parameters of requests, kept so that a schema is encoded once and not for every text."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[Any, bytes]] = {}

    def body(self, request: Request, rest: Callable[[], Mapping[str, Any]], *further: object) -> bytes:
        """Return the body of a request: its messages, and what `rest` returns.

        Parameters
        ----------
        further
            What else decides `rest`, besides the request's own settings.
        """
        key = (
            id(request.schema),
            request.temperature,
            request.top_p,
            request.top_k,
            request.seed,
            request.max_tokens,
            request.reasoning,
            request.answer_mode,
            *further,
        )
        kept = self._kept.get(key)
        if kept is None or kept[0] is not request.schema:
            if len(self._kept) >= KEPT_BODIES:
                self._kept.clear()
            kept = request.schema, packed(rest())[1:]
            self._kept[key] = kept
        return b'{"messages":' + packed(request.messages) + b"," + kept[1]

    def forget(self) -> None:
        """Forget everything: what decides it has changed."""
        self._kept.clear()


class Formats:
    """How JSON of each schema is asked for: as strictly as the server allows.

    It is kept per schema, so that all texts are asked the same question in the same way.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, schema: Mapping[str, Any]) -> str:
        """Return one of `FORMATS`."""
        kept = self._known.get(id(schema))
        return kept[1] if kept is not None and kept[0] is schema else FORMATS[0]

    def step_down(self, schema: Mapping[str, Any]) -> bool:
        """Ask for this schema in a less strict way from now on; return whether there is one."""
        left = FORMATS[FORMATS.index(self.of(schema)) + 1 :]
        if left:
            self._known[id(schema)] = schema, left[0]
        return bool(left)

    def told(self) -> dict[str, Any]:
        """Return the least strict format in use, and how many schemas were refused."""
        used = [form for _, form in self._known.values()] or [FORMATS[0]]
        return {"response_format": max(used, key=FORMATS.index), "schemas_refused": len(self._known)}


@dataclass
class Dialect:
    """What one server takes of the parameters of a chat completion.

    Attributes
    ----------
    token_limit
        The name it has for the longest reply; ``None`` if it takes none.
    switch
        How it is told to think or not.
    dropped
        Parameter -> the server's words when it refused it.
    """

    token_limit: str | None = "max_tokens"
    switch: str = "chat_template_kwargs"
    dropped: dict[str, str] = field(default_factory=dict)
    formats: Formats = field(default_factory=Formats)
    _bodies: Bodies = field(default_factory=Bodies)

    def parameters(self, request: Request) -> dict[str, Any]:
        """Return everything that is sent with a request but its messages."""
        wanted: dict[str, Any] = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
        }
        sent = {name: v for name, v in wanted.items() if v is not None and name not in self.dropped}
        if self.token_limit is not None:
            sent[self.token_limit] = request.max_tokens
        sent.update(self._reasoning(request.reasoning))
        if request.answer_mode == "score":
            sent.update(logprobs=True, top_logprobs=TOP_LOGPROBS)
        form = self.formats.of(request.schema)
        if form == "json_schema":
            inner = {"name": "answer", "strict": True, "schema": request.schema}
            sent["response_format"] = {"type": form, "json_schema": inner}
        elif form == "json_object":
            sent["response_format"] = {"type": form}
        return sent

    def body(self, request: Request, model: str) -> bytes:
        """Return the body of a request."""
        return self._bodies.body(
            request, lambda: {"model": model, "stream": False, **self.parameters(request)}, model
        )

    async def exchange(
        self, request: Request, make: Callable[[], Sent], send: Callable[[Sent], Awaitable[Exchange]]
    ) -> Exchange:
        """Send a request, again for as long as each refusal teaches something, and return how it went.

        Parameters
        ----------
        make
            Returns what is sent for the request, with what has been learned so far.
        send
            Sends it once.
        """
        for number in range(1, MOST_SENDS + 1):
            sent = make()
            found = await send(sent)
            if found.error is None or is_too_long(found) or number == MOST_SENDS:
                break
            learned_meanwhile = found.status in REFUSED and make() != sent
            if not learned_meanwhile and not self.learn(request, found):
                break
        return found

    def learn(self, request: Request, exchange: Exchange) -> bool:
        """Leave out what the server refuses of a request; return whether it is worth sending it again."""
        if exchange.status not in REFUSED:
            return False
        sent = self.parameters(request)
        inner = exchange.data.get("error")
        named = str(inner.get("param") or "") if isinstance(inner, Mapping) else ""
        code = str(inner.get("code") or "") if isinstance(inner, Mapping) else ""
        words = f"{code} {exchange.error or ''}"
        changed = bool(FORMAT_WORDS.search(f"{named} {words}")) and self.formats.step_down(request.schema)
        if not changed and UNSUPPORTED.search(words):
            meant = [n for n in sent if n == named or (not named and re.search(rf"\b{n}\b", words))]
            changed = sum(self._leave_out(name, exchange.error or "") for name in meant) > 0
        if changed:
            self._bodies.forget()
        return changed

    def _leave_out(self, name: str, words: str) -> bool:
        if name in MAY_BE_DROPPED:
            self.dropped[name] = words
        elif name in TOKEN_LIMITS:
            other = TOKEN_LIMITS[1 - TOKEN_LIMITS.index(name)]
            self.token_limit = None if other in self.dropped else other
            self.dropped[name] = words
        elif name in SWITCHES:
            other = SWITCHES[1 - SWITCHES.index(name)]
            if other in self.dropped:
                return False
            self.switch = other
            self.dropped[name] = words
        else:
            return False
        return True

    def _reasoning(self, wanted: bool | str | None) -> dict[str, Any]:
        if wanted is None:
            return {}
        if self.switch == "chat_template_kwargs" and isinstance(wanted, bool):
            return {"chat_template_kwargs": {"enable_thinking": wanted}}
        word = {True: "medium", False: "none"}[wanted] if isinstance(wanted, bool) else wanted
        return {"reasoning_effort": word}

    def told(self) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        return {
            **self.formats.told(),
            "token_limit": self.token_limit,
            "dropped": dict(self.dropped),
        }
