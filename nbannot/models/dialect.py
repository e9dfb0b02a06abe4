"""What one server takes of a chat request: it begins with everything, and leaves out what the server says it cannot do.

Servers that speak OpenAI's language differ in what they take: some know no JSON schema, some no seed, some models only
one temperature. What was left out is kept with the server's own words, so that a run can record it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from nbannot.asking.request_reply import Request
from nbannot.models.chat import LEAST_ROOM, is_too_long, room_left
from nbannot.models.endings import refusal_of
from nbannot.models.exchange import Exchange
from nbannot.tools.json_bytes import packed

Sent = TypeVar("Sent")

FORMATS = ("json_schema", "json_object", "text")
"""Ways of asking for JSON, the strictest first."""

TOP_LOGPROBS = 20
MAY_BE_DROPPED = ("seed", "random_seed", "temperature", "top_p", "top_k")
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
MOST_LOGPROBS = re.compile(
    r"top_?logprobs\b.{0,80}?"
    r"(?:<=|less than or equal to|at most|between 0 and|\[0, ?|from 0 to|max\w*|exceed\w*)\D{0,20}(\d+)",
    re.I,
)
"""The most log-probabilities of a place that a server returns, in its words (xAI: 8, Fireworks: 5)."""
LESSONS = ("token_limit", "switch", "most_tokens", "efforts", "top_logprobs")
SWITCHES = ("reasoning_effort", "chat_template_kwargs", "reasoning", "thinking", "enable_thinking")
"""How servers are told to think or not; the first two are tried where nothing is known of them."""
OWN_SWITCHES = {
    "openrouter.ai": "reasoning",
    "api.deepseek.com": "thinking",
    "api.z.ai": "thinking",
    "open.bigmodel.cn": "thinking",
    "api.moonshot.*": "thinking",
    "dashscope*.aliyuncs.com": "enable_thinking",
}
"""Host -> its own way, where the others are ignored without a word. Read in November 2026:
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens, https://api-docs.deepseek.com/guides/thinking_mode,
https://docs.z.ai/guides/capabilities/thinking-mode, https://platform.moonshot.ai/docs, Alibaba's deep-thinking page."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
EFFORT_WORDS = re.compile(rf"(?<![\w-])({'|'.join(EFFORTS)})(?![\w-])")
OTHER_EFFORT = re.compile(
    r"reasoning[._ ]?effort|reasoning is mandatory|thinking level|"
    r"(reasoning|thinking) (cannot|can't) be (disabled|turned off)",
    re.I,
)
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
TOKENS_WORDS = re.compile(
    r"max_?(completion_?|new_?|output_?)?tokens|maximum tokens|completion tokens|output tokens", re.I
)
MOST_TOKENS = re.compile(
    r"(?:supports? at most|less than or equal to|at most|<=|maximum allowed(?: number of output tokens)?(?: is)?|"
    r"must be less than)\W{0,3}(\d[\d,]*)(?! \D{0,20}(?:context|total))|range of max_tokens is \[\d+, ?(\d+)\]|"
    r"max_tokens\W{0,3}\d+ > (\d+)",
    re.I,
)
"""The longest reply that a server allows, in the words of several."""
BOUNDED = re.compile(
    r"\b(range|limit|exceed\w*|too (large|high|big|long)|lower|less|greater|maximum|between|above)\b", re.I
)
BOUND = re.compile(
    r"(?P<below>(?:lower|less|smaller) than )?(?<![\w.])(?P<number>\d[\d,]*)(?![\w.]*\w)(?P<open> ?\(exclusive)?",
    re.I,
)
"""A number in words that bound something; one that is itself excluded is known by its neighbours."""


def most_tokens_in(words: str, asked: int) -> int:
    """Return the longest reply that a server allows, in tokens, as its words tell; 0 where they do not.

    In words that are not known, it is the highest number below the one that was asked for.

    >>> most_tokens_in("Range of max_tokens should be [1, 8192]", 20_000)
    8192
    >>> most_tokens_in("maxOutputTokens is 9000 but the supported range is from 1 to 8193 (exclusive)", 9000)
    8192
    >>> most_tokens_in("Unsupported parameter: max_tokens (4001)", 20_000)
    0
    """
    if most := MOST_TOKENS.search(words):
        return int(next(n for n in most.groups() if n).replace(",", ""))
    if not TOKENS_WORDS.search(words) or not BOUNDED.search(words) or UNSUPPORTED.search(words):
        return 0
    bounds = (
        int(one["number"].replace(",", "")[:12]) - bool(one["below"] or one["open"])
        for one in BOUND.finditer(words)
    )
    return max((number for number in bounds if number < asked), default=0)


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

    It is kept per schema, so that all texts are asked the same question in the same way; `first` is where others begin.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}
        self.first = FORMATS[0]

    def of(self, schema: Mapping[str, Any]) -> str:
        """Return one of `FORMATS`."""
        kept = self._known.get(id(schema))
        return kept[1] if kept is not None and kept[0] is schema else self.first

    def step_down(self, schema: Mapping[str, Any]) -> bool:
        """Ask for this schema in a less strict way from now on; return whether there is one."""
        left = FORMATS[FORMATS.index(self.of(schema)) + 1 :]
        if left:
            self._known[id(schema)] = schema, left[0]
        return bool(left)

    def told(self) -> dict[str, Any]:
        """Return the least strict format in use, and how many schemas were refused."""
        used = [form for _, form in self._known.values()] or [self.first]
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
    most_tokens
        The longest reply that the server allows, where it has said so.
    top_logprobs
        How many log-probabilities are asked for at each place of a scored answer.
    efforts
        How much thinking is asked for instead of what the model does not know; "" for what it does by itself.
    seed_name
        What the server calls the seed.
    schema_as_value
        Whether the server is Hugging Face's own, which takes a schema as the ``value`` of ``json_object``.
    """

    token_limit: str | None = "max_tokens"
    switch: str = "chat_template_kwargs"
    dropped: dict[str, str] = field(default_factory=dict)
    most_tokens: int | None = None
    efforts: dict[str, str] = field(default_factory=dict)
    top_logprobs: int = TOP_LOGPROBS
    seed_name: str = "seed"
    schema_as_value: bool = False
    formats: Formats = field(default_factory=Formats)
    _bodies: Bodies = field(default_factory=Bodies)

    def parameters(self, request: Request) -> dict[str, Any]:
        """Return everything that is sent with a request but its messages."""
        wanted: dict[str, Any] = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            self.seed_name: request.seed,
        }
        sent = {name: v for name, v in wanted.items() if v is not None and name not in self.dropped}
        if self.token_limit is not None:
            sent[self.token_limit] = request.max_tokens
        sent.update(self._reasoning(request.reasoning))
        if request.answer_mode == "score":
            sent.update(logprobs=True, top_logprobs=self.top_logprobs)
        form = self.formats.of(request.schema)
        if form == "json_schema" and self.schema_as_value:
            sent["response_format"] = {"type": "json_object", "value": request.schema}
        elif form == "json_schema":
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
        self, request: Request, make: Callable[[Request], Sent], send: Callable[[Sent], Awaitable[Exchange]]
    ) -> Exchange:
        """Send a request, again for as long as each refusal teaches something, and return how it went.

        Parameters
        ----------
        make
            Returns what is sent for a request, with what has been learned so far.
        send
            Sends it once.
        """
        unanswered = 0
        for number in range(1, MOST_SENDS + 1):
            trimmed = request
            if self.most_tokens is not None and self.most_tokens < request.max_tokens:
                trimmed = replace(request, max_tokens=self.most_tokens)
            sent = make(trimmed)
            reply = await send(sent)
            unanswered += reply.unanswered
            if reply.error is None or number == MOST_SENDS or refusal_of(reply) is not None:
                break
            if is_too_long(reply) or TOKENS_WORDS.search(reply.said):
                shorter = self._shorter(trimmed, reply)
                if shorter is not None:
                    request = shorter
                    continue
                if is_too_long(reply):
                    break
            learned_meanwhile = reply.status in REFUSED and make(trimmed) != sent
            if not learned_meanwhile and not self.learn(request, reply):
                break
        return replace(reply, unanswered=unanswered) if unanswered != reply.unanswered else reply

    def _shorter(self, request: Request, reply: Exchange) -> Request | None:
        """Return the request with a shorter longest reply, where the server says that this would let it through."""
        if reply.status not in (400, 413, 422, 500):
            return None
        room = room_left(reply.said, request)
        if room is not None:
            return replace(request, max_tokens=room)
        number = most_tokens_in(reply.said, request.max_tokens)
        if LEAST_ROOM <= number < request.max_tokens:
            self.most_tokens = number
            self.dropped[f"max_tokens above {number}"] = reply.error or ""
            return request
        return None

    def learn(self, request: Request, exchange: Exchange) -> bool:
        """Leave out what the server refuses of a request; return whether it is worth sending it again."""
        if exchange.status not in REFUSED:
            return False
        sent = self.parameters(request)
        inner = exchange.data.get("error")
        named = str(inner.get("param") or "") if isinstance(inner, Mapping) else ""
        code = str(inner.get("code") or "") if isinstance(inner, Mapping) else ""
        words = f"{code} {exchange.said}"
        changed = bool(FORMAT_WORDS.search(f"{named} {words}")) and self.formats.step_down(request.schema)
        fewer = MOST_LOGPROBS.search(f"{named} {words}") if request.answer_mode == "score" else None
        if fewer and 0 < int(fewer[1]) < self.top_logprobs:
            self.top_logprobs, changed = int(fewer[1]), True
        changed = changed or self._other_effort(request, words, exchange.error or "")
        if not changed and UNSUPPORTED.search(words):
            meant = [n for n in sent if n == named or (not named and re.search(rf"\b{n}\b", words))]
            changed = (
                sum(self._leave_out(n, exchange.error or "", request.reasoning is False) for n in meant) > 0
            )
        if changed:
            self._bodies.forget()
        return changed

    def _other_effort(self, request: Request, words: str, why: str) -> bool:
        """Ask for another amount of thinking where a model does not know the one that is wanted; return whether so."""
        wanted = _effort(request.reasoning)
        sent = self.efforts.get(wanted, wanted)
        takes_efforts = self.switch in ("reasoning_effort", "reasoning") and request.reasoning is not None
        if not takes_efforts or not sent or not OTHER_EFFORT.search(words):
            return False
        named = set(EFFORT_WORDS.findall(words))
        if sent not in named and "mandatory" not in words:
            return False  # it is the parameter that is not known
        refused = {sent, *(one for one in EFFORTS if f"reasoning_effort = {one}" in self.dropped)}
        known = [effort for effort in EFFORTS if effort in named - refused]
        place = EFFORTS.index(sent)
        if not known and place < EFFORTS.index("low"):
            known = [EFFORTS[place + 1]]  # the words do not tell: a little more
        # As little more as there is; where there is no more, as little less.
        more = [effort for effort in known if EFFORTS.index(effort) > place]
        other = more[0] if more else known[-1] if known else ""
        self.efforts[wanted] = other
        self.dropped[f"reasoning_effort = {sent}"] = why
        return True

    def _leave_out(self, name: str, words: str, unthinking: bool = False) -> bool:
        if name in MAY_BE_DROPPED:
            self.dropped[name] = words
        elif name in TOKEN_LIMITS:
            other = TOKEN_LIMITS[1 - TOKEN_LIMITS.index(name)]
            self.token_limit = None if other in self.dropped else other
            self.dropped[name] = words
        elif name in SWITCHES:
            others = [one for one in SWITCHES[:2] if one not in (*self.dropped, name)]
            if not others and not (unthinking and self.switch):
                return False
            self.switch = others[0] if others else ""  # nothing here thinks, or can be told not to
            self.dropped[name] = words
        else:
            return False
        return True

    def _reasoning(self, wanted: bool | str | None) -> dict[str, Any]:
        if wanted is None or (wanted is False and not self.switch):
            return {}
        effort = self.efforts.get(_effort(wanted), _effort(wanted))
        match self.switch:
            case "chat_template_kwargs" if isinstance(wanted, bool):
                return {"chat_template_kwargs": {"enable_thinking": wanted}}
            case "thinking":
                more = {"reasoning_effort": wanted} if isinstance(wanted, str) else {}
                return {"thinking": {"type": "enabled" if wanted else "disabled"}, **more}
            case "enable_thinking" if isinstance(wanted, bool):
                return {"enable_thinking": wanted}
            case "reasoning" if effort:
                return {"reasoning": {"enabled": True} if wanted is True else {"effort": effort}}
        return {"reasoning_effort": effort} if effort else {}

    def lessons(self) -> dict[str, Any]:
        """Return what was learned, for `recall` in another session."""
        told = {name: getattr(self, name) for name in LESSONS}
        return {
            **told,
            "dropped": dict(self.dropped),
            "response_format": self.formats.told()["response_format"],
        }

    def recall(self, lessons: Mapping[str, Any]) -> None:
        """Take up what an earlier session learned."""
        for name in LESSONS:
            setattr(self, name, lessons.get(name, getattr(self, name)))
        self.dropped |= lessons.get("dropped") or {}
        self.formats.first = lessons.get("response_format", self.formats.first)
        self._bodies.forget()

    def told(self) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        return {
            **self.formats.told(),
            "token_limit": self.token_limit,
            "dropped": dict(self.dropped),
            **({"efforts": dict(self.efforts)} if self.efforts else {}),
            **({} if self.switch else {"unswitched": True}),
        }


def _effort(wanted: bool | str | None) -> str:
    """Return the word for how much thinking is wanted; "" for whatever the model does."""
    return {True: "medium", False: "none", None: ""}.get(wanted, str(wanted))  # type: ignore[arg-type]


def own_switch(host: str) -> str | None:
    """Return how a host is told to think or not, where it has a way of its own.

    >>> own_switch("api.deepseek.com"), own_switch("localhost")
    ('thinking', None)
    """
    return next((switch for name, switch in OWN_SWITCHES.items() if fnmatchcase(host, name)), None)
