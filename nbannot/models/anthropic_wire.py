"""What Anthropic's Messages API is sent and says: requests, what its models take of them, and messages as replies.

The form is that of https://platform.claude.com/docs/en/api/messages (version 2023-06-01, read in November 2026):
structured output is ``output_config.format`` (older models: a tool that must be used), thinking is a block of its own,
and the beginning that all prompts of a question share is marked with ``cache_control``, so that it is paid for once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbannot.asking.request_reply import Message, Reply, Request
from nbannot.models.dialect import Bodies
from nbannot.models.endings import FILTERED, ending
from nbannot.models.exchange import Exchange

FORMATS = ("json_schema", "tool", "text")
"""Ways of asking for JSON, the strictest first."""
TOOL = "answer"
LEAST_THINKING = 1024
"""The fewest tokens that a model may be given to think in (``budget_tokens``)."""
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
BUDGETS = {"low": 0.25, "medium": 0.5, "high": 0.75}
"""Share of the reply in which an older model may think, by effort."""
RESTS = ("disabled", "between_tools")
LEAST_EFFORT = "low"
MOST_LEVELS = 100
"""A scale up to so long is sent as a list of its levels: the API knows no least and no greatest number."""
NO_SEED = "Anthropic's API takes no seed"
WITH_THINKING = "a model that thinks takes no sampling settings"
NOT_TAKEN = re.compile(
    r"deprecated|unsupported|not support|n't support|not (?:be )?(?:permitted|allowed|available)|cannot both|"
    r"unexpected|unknown|removed|extra inputs|may only be set to 1|does not match any of the expected tags|"
    r"between_tools",
    re.I,
)
ENDINGS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


@dataclass
class Dialect:
    """What one model takes of a request: it begins with everything, and leaves out what is refused.

    Attributes
    ----------
    thinks
        How a model is told to think: ``"adaptive"`` or, for older ones, ``"enabled"`` with a budget; "" for not at all.
    rests
        How a model is told not to think: ``"disabled"``, or ``"between_tools"`` (Claude Sonnet 5.5); "" where it cannot
        be told, and is asked for the least effort (Claude Opus 5.5, Fable 5.1).
    dropped
        Parameter -> why it is not sent.
    lasting
        Whether what is cached is to be kept for an hour, not for five minutes: for a batch, which takes longer.
    """

    form: str = FORMATS[0]
    thinks: str = "adaptive"
    rests: str = "disabled"
    dropped: dict[str, str] = field(default_factory=dict)
    lasting: bool = False
    _bodies: Bodies = field(default_factory=Bodies)

    def body(self, request: Request, model: str) -> bytes:
        """Return the body of a request."""
        system, messages = self._messages(request)
        sent = replace(request, messages=tuple(messages))
        return self._bodies.body(
            sent, lambda: {"model": model, **system, **self._parameters(request)}, model, json.dumps(system)
        )

    def _messages(self, request: Request) -> tuple[dict[str, Any], list[Any]]:
        """Return the system prompt, where there is one, and the messages, with the mark of what is to be cached."""
        system = "\n\n".join(m["content"] for m in request.messages if m["role"] == "system")
        messages: list[Any] = [m for m in request.messages if m["role"] != "system"]
        messages[-1] = {"role": messages[-1]["role"], "content": self._content(messages[-1], request.shared)}
        return ({"system": system} if system.strip() else {}), messages

    def _content(self, message: Message, shared: int) -> Any:
        start, rest = message["content"][:shared], message["content"][shared:]
        if not start.strip() or not rest.strip():  # a part without a word is refused
            return message["content"]
        kept = {"type": "ephemeral", **({"ttl": "1h"} if self.lasting else {})}
        return [
            {"type": "text", "text": start, "cache_control": kept},
            {"type": "text", "text": rest},
        ]

    def _parameters(self, request: Request) -> dict[str, Any]:
        thinking, effort = self._thinking(request)
        sent: dict[str, Any] = {"max_tokens": request.max_tokens}
        if not thinking or thinking["type"] in RESTS:
            wanted = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
            sent |= {name: v for name, v in wanted.items() if v is not None and name not in self.dropped}
        if thinking:
            sent["thinking"] = thinking
        config: dict[str, Any] = {"effort": effort} if effort and "effort" not in self.dropped else {}
        if self.form == "json_schema":
            config["format"] = {"type": "json_schema", "schema": plain_schema(request.schema)}
        elif self.form == "tool" and not (thinking and thinking["type"] not in RESTS):
            about = "Gives the answer."
            sent["tools"] = [
                {"name": TOOL, "description": about, "input_schema": plain_schema(request.schema)}
            ]
            sent["tool_choice"] = {"type": "tool", "name": TOOL}
        if config:
            sent["output_config"] = config
        return sent

    def _thinking(self, request: Request) -> tuple[dict[str, Any], str]:
        """Return how the model is told to think, and with what effort."""
        wanted = request.reasoning
        if wanted is None or "thinking" in self.dropped:
            return {}, ""
        if wanted is False:
            return ({"type": self.rests}, "") if self.rests else ({}, LEAST_EFFORT)
        effort = "" if wanted is True else EFFORTS[str(wanted)]
        if self.thinks == "adaptive":
            shown = {} if "display" in self.dropped else {"display": "summarized"}
            return {"type": "adaptive", **shown}, effort
        budget = int(request.max_tokens * BUDGETS[effort or "medium"])
        return {"type": "enabled", "budget_tokens": max(LEAST_THINKING, budget)}, ""

    def learn(self, request: Request, exchange: Exchange) -> bool:
        """Leave out what a model refuses of a request; return whether it is worth sending it again."""
        words = exchange.said
        if exchange.status != 400 or not NOT_TAKEN.search(words):
            return False
        sent = self._parameters(request)
        changed = self._learned(sent, words, exchange.error or words)
        if changed:
            self._bodies.forget()
        return changed

    def _learned(self, sent: Mapping[str, Any], words: str, why: str) -> bool:
        thinking = sent.get("thinking", {}).get("type", "")
        if "effort" in sent.get("output_config", {}) and re.search(r"\beffort\b", words):
            self.dropped["effort"] = why
        elif thinking == "adaptive" and re.search(r"\bdisplay\b", words) and "display" in sent["thinking"]:
            self.dropped["display"] = why
        elif thinking == "adaptive" and re.search(r"\badaptive\b|thinking", words):
            if "budget_tokens" in self.dropped:
                self.dropped["thinking"] = why
            self.dropped["adaptive thinking"] = why
            self.thinks = "enabled"
        elif thinking == "enabled" and re.search(r"budget_tokens|\benabled\b|thinking", words):
            if "adaptive thinking" in self.dropped:
                self.dropped["thinking"] = why
            self.dropped["budget_tokens"] = why
            self.thinks = "adaptive"
        elif thinking in RESTS and re.search(r"\bthinking\b", words):
            self.rests = "between_tools" if thinking == "disabled" and "between_tools" in words else ""
            if not self.rests:
                self.dropped["thinking = disabled"] = why
        elif thinking and re.search(r"\bthinking\b", words):
            self.dropped["thinking"] = why
        elif named := [
            n for n in ("top_k", "top_p", "temperature") if n in sent and re.search(rf"\b{n}\b", words)
        ]:
            both = "cannot both" in words and len(named) > 1
            for name in named[:1] if both else named:
                self.dropped[name] = why
        elif re.search(r"output_config|output format|json_schema|schema|structured|tool", words, re.I):
            left = FORMATS[FORMATS.index(self.form) + 1 :]
            if not left:
                return False
            self.dropped[self.form] = why
            self.form = left[0]
        else:
            return False
        return True

    def lessons(self) -> dict[str, Any]:
        """Return what was learned, for `recall` in another session."""
        return {"form": self.form, "thinks": self.thinks, "rests": self.rests, "dropped": dict(self.dropped)}

    def recall(self, lessons: Mapping[str, Any]) -> None:
        """Take up what an earlier session learned."""
        self.form, self.thinks = lessons.get("form", self.form), lessons.get("thinks", self.thinks)
        self.rests = lessons.get("rests", self.rests)
        self.dropped |= lessons.get("dropped") or {}
        self._bodies.forget()

    def told(self, *, seeded: bool, thought: bool) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        dropped = dict(self.dropped)
        if seeded:
            dropped["seed"] = NO_SEED
        if thought:
            dropped.setdefault("temperature", WITH_THINKING)
        told: dict[str, Any] = {"response_format": self.form, "thinking": self.thinks, "dropped": dropped}
        if not self.rests:
            told["efforts"] = {"none": "" if "effort" in self.dropped else LEAST_EFFORT}
        return told


def plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in the words that structured output knows: a scale as the list of its levels.

    Answers are checked against the codebook all the same, whatever the API enforced.

    >>> plain_schema({"type": "integer", "minimum": 1, "maximum": 3}), plain_schema({"type": "integer", "minimum": 0})
    ({'type': 'integer', 'enum': [1, 2, 3]}, {'type': 'integer'})
    """
    least, most = schema.get("minimum"), schema.get("maximum")
    plain = {name: value for name, value in schema.items() if name not in ("minimum", "maximum", "maxItems")}
    if isinstance(least, int) and isinstance(most, int) and most - least < MOST_LEVELS:
        plain["enum"] = list(range(least, most + 1))
    if isinstance(schema.get("properties"), Mapping):
        plain["properties"] = {name: plain_schema(one) for name, one in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        plain["items"] = plain_schema(schema["items"])
    return plain


def read_message(data: Mapping[str, Any], seconds: float = 0.0) -> Reply:
    """Return the reply in a message of the API."""
    content = data.get("content")
    reason = data.get("stop_reason")
    if not isinstance(content, list):
        words = "HTTP 200: the server's reply holds no message"
        return Reply(error=words, retriable=True, finish_reason="error", seconds=seconds)
    texts, thoughts = [], []
    for block in content:
        match block if isinstance(block, Mapping) else {}:
            case {"type": "text", "text": str(words)}:
                texts.append(words)
            case {"type": "thinking", "thinking": str(words)} if words.strip():
                thoughts.append(words)
            case {"type": "tool_use", "input": dict(answer)}:
                texts.append(json.dumps(answer, ensure_ascii=False))
    text = "".join(texts)
    finish = ENDINGS.get(str(reason)) or ending(reason)
    if (finish or "").partition(":")[0] == "error":
        words = f"HTTP 200: the model failed while it wrote ({finish})"
        return Reply(error=words, retriable=True, finish_reason="error", seconds=seconds)
    if reason == "refusal":
        details = data.get("stop_details")
        category = details.get("category") if isinstance(details, Mapping) else None
        explained = details.get("explanation") if isinstance(details, Mapping) else None
        finish = f"{FILTERED}: refusal{f' ({category})' if category else ''}"
        text = str(explained) if explained else text
    model = data.get("model")
    return Reply(
        text=text,
        reasoning="\n".join(thoughts) or None,
        finish_reason=finish,
        seconds=seconds,
        model=model[:200] if isinstance(model, str) and model else None,
        **usage(data.get("usage")),
    )


def usage(told: object) -> dict[str, Any]:
    """Return the tokens of a message: ``input_tokens`` counts what was read from the cache and written to it, too."""
    counts = told if isinstance(told, Mapping) else {}

    def number(name: str) -> int | None:
        value = counts.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    fresh = number("input_tokens")
    read, written = number("cache_read_input_tokens"), number("cache_creation_input_tokens")
    sent = None if fresh is None else fresh + (read or 0) + (written or 0)
    return {
        "input_tokens": sent,
        "output_tokens": number("output_tokens"),
        "evaluated_tokens": None if sent is None or read is None else sent - read,
        "cached_tokens": read,
        "cache_write_tokens": written,
    }
