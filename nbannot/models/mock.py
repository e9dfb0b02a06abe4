"""The mock model: made-up but well-formed answers, always the same ones, and faults on demand.

It needs no dependencies, no weights and no network, so that documentation, workshops, tests and load trials
all run on the same code as a real study. What it answers follows from the messages and the schema alone; it
never sees a human label, and no label of it means anything.

A name carries its faults, each a proportion of the calls: ``mock/?wrong=0.1&silent=0.05&slow_s=0.02``. A word
before the question mark makes another deterministic model (``mock/a``, ``mock/b?error=0.2``), which agrees
with the first somewhat more often than chance, as people do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, nearest, problems

NOTE = "Mock model: its answers are made up for tests and demonstrations, and no label of it means anything."
REFUSAL = "I'm sorry, but I can't help with that."
ABSENT_QUOTE = "a quote that stands nowhere in the text \u2620"
PARALLEL = 32
SUITED = 2.0
"""A value whose score is above it (of 0 to 3) is chosen where any number of values may be."""

Fault = Literal["wrong", "silent", "malformed", "refuse", "error", "truncate", "prose", "multiple"]
FAULTS: dict[Fault, str] = {
    "wrong": "a value outside the options, the range or the type",
    "silent": "an empty reply",
    "malformed": "JSON that breaks off",
    "refuse": "a refusal",
    "error": "no reply; sending it again may help",
    "truncate": "cut at the token limit",
    "prose": "a sentence instead of JSON",
    "multiple": "two JSON objects one after the other",
}


@dataclass(frozen=True, slots=True)
class MockSettings:
    """What stands in a mock model's name: its variant, the proportion of each fault, its speed."""

    variant: str = ""
    faults: Mapping[Fault, float] = field(default_factory=dict)
    slow_s: float = 0.0
    parallel: int = PARALLEL


class MockModel:
    """A deterministic model that obeys the schema, except in the proportions of the calls its name asks for.

    At temperature 0 the answer is a function of (seed, variant, messages, schema), where of the last message
    only the shared beginning and the text count: a remark after the text that asks again does not change the
    answer. Above it, the temperature, the request's seed and the attempt (the end of `Request.key`) count too.

    Whether a call fails, and how, follows from (seed, variant, key): a fault never changes what the other calls
    answer, and a second attempt can succeed. Only an error is drawn anew when the same request is sent again.
    One call has at most one fault.

    Token counts are numbers of words, as the mock has no vocabulary of its own.

    Parameters
    ----------
    name
        What follows ``mock/``: ``[variant][?fault=proportion&slow_s=seconds&parallel=number]``.
    seed
        Makes another deterministic model, as the variant does.

    Raises
    ------
    ModelError
        If the name has an unknown or impossible parameter.
    """

    answer_modes: tuple[AnswerMode, ...] = ("generate", "score")

    def __init__(self, name: str = "", *, seed: int | None = None, **_: Any) -> None:
        self.name = name
        self.settings = read_name(name)
        self.parallel = self.settings.parallel
        self._seed = seed
        self._errors: Counter[str] = Counter()

    def info(self) -> ModelInfo:
        """Return the name and the warning that the answers mean nothing."""
        return ModelInfo(name=self.name, backend="mock", energy_measured=True, notes=(NOTE,))

    async def open(self) -> None:
        """Do nothing: there is nothing to load or connect to."""

    async def close(self) -> None:
        """Do nothing."""

    async def ask(self, request: Request) -> Reply:
        """Return the made-up reply to one request, after `slow_s` seconds."""
        start = time.perf_counter()
        await asyncio.sleep(self.settings.slow_s)
        return self._reply(request, time.perf_counter() - start)

    def _reply(self, request: Request, seconds: float) -> Reply:
        input_tokens = sum(_words(message["content"]) for message in request.messages)
        fault = self._fault(request.key)
        if fault == "error":
            return Reply(
                error="the mock server failed, as its name asks for (error=...)",
                retriable=True,
                finish_reason="error",
                seconds=seconds,
            )
        text, probabilities = self._answer(request)
        finish_reason = {"refuse": "refusal", "truncate": "length"}.get(fault or "", "stop")
        if fault is not None:
            text, probabilities = self._spoilt(fault, text, request), None
        return Reply(
            text=text,
            reasoning=_reasoning(request) if text else None,
            finish_reason=finish_reason,
            probabilities=probabilities,
            input_tokens=input_tokens,
            output_tokens=_words(text),
            seconds=seconds,
        )

    def _answer(self, request: Request) -> tuple[str, tuple[float, ...] | None]:
        writer = _Writer(self._content_key(request), request.text, request.temperature)
        if request.answer_mode == "score" and request.options:
            scores = [writer.score(_leaf(json.loads(option))) for option in request.options]
            probabilities = _softmax(scores)
            return request.options[probabilities.index(max(probabilities))], probabilities
        return _json(writer.value(request.schema, "$")), None

    def _spoilt(self, fault: Fault, text: str, request: Request) -> str:
        match fault:
            case "silent":
                return ""
            case "refuse":
                return REFUSAL
            case "wrong":
                return _json(_wrong(request.schema, json.loads(text)))
            case "prose":
                return f"Let me think about it. I would say it is {_spoken(_leaf(json.loads(text)))}."
            case "multiple":
                other = _Writer(f"second {self._content_key(request)}", request.text, request.temperature)
                return f"{text}\n{_json(other.value(request.schema, '$'))}"
            case _:
                return text[: max(1, len(text) // 2)]

    def _fault(self, key: str) -> Fault | None:
        draw = _uniform("fault", self._seed, self.settings.variant, key)
        for fault, proportion in self.settings.faults.items():
            if draw < proportion:
                return fault if fault != "error" or self._fails_again(key) else None
            draw -= proportion
        return None

    def _fails_again(self, key: str) -> bool:
        self._errors[key] += 1
        sent = self._errors[key]
        again = _uniform("error", self._seed, self.settings.variant, key, sent)
        return sent == 1 or again < self.settings.faults["error"]

    def _content_key(self, request: Request) -> str:
        last = request.messages[-1]["content"]
        parts = [last[: request.shared], request.text] if request.text and request.text in last else [last]
        content: list[Any] = [
            self._seed,
            self.settings.variant,
            list(request.messages[:-1]),
            parts,
            request.schema,
        ]
        if request.temperature > 0:
            attempt = request.key.rpartition("|")[2]
            content += [request.temperature, request.seed, attempt]
        return json.dumps(content, ensure_ascii=False, sort_keys=True)


def read_name(name: str) -> MockSettings:
    """Return the settings that a mock model's name carries.

    >>> read_name("b?wrong=0.1&slow_s=0.5")
    MockSettings(variant='b', faults={'wrong': 0.1}, slow_s=0.5, parallel=32)

    Raises
    ------
    ModelError
        Listing every unknown parameter and every value that is out of range.
    """
    variant, _, query = name.partition("?")
    wrong: list[str] = []
    numbers: dict[str, float] = {}
    for word, value in parse_qsl(query, keep_blank_values=True):
        number = _number(word, value, wrong)
        if number is not None:
            numbers[word] = number
    faults: dict[Fault, float] = {fault: numbers[fault] for fault in FAULTS if fault in numbers}
    if sum(faults.values()) > 1 + 1e-9:
        wrong.append(f"the proportions of the faults must add up to at most 1. Got {sum(faults.values()):g}.")
    if wrong:
        raise ModelError(problems(f"The model name 'mock/{name}' cannot be used", wrong))
    return MockSettings(variant, faults, numbers.get("slow_s", 0.0), int(numbers.get("parallel", PARALLEL)))


def _number(word: str, value: str, wrong: list[str]) -> float | None:
    known = [*FAULTS, "slow_s", "parallel"]
    if word not in known:
        close = nearest(word, known) or "."
        wrong.append(f"unknown parameter '{word}'{close} Known: {', '.join(known)}.")
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if word == "parallel":
        fits, range_ = number >= 1 and number == int(number), "a whole number from 1"
    elif word == "slow_s":
        fits, range_ = 0 <= number < math.inf, "a number of seconds from 0"
    else:
        fits, range_ = 0 <= number <= 1, "a proportion from 0 to 1"
    if not fits:
        wrong.append(f"{word} must be {range_}. Got '{value}'.")
        return None
    return number


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes up values that obey a schema, each drawn from (content key, place in the reply)."""

    content_key: str
    text: str
    temperature: float

    def score(self, value: object) -> float:
        """Return how well the value suits the text, in log-probability units up to a constant.

        The first part belongs to this model and prompt; the second to the text alone, so that all mock models
        lean the same way on the same text; an option whose words occur in the text is a little more likely.
        """
        wording = _json(value)
        own = 1.5 * _uniform("own", self.content_key, wording)
        shared_lean = 1.5 * _uniform("lean", self.text, wording)
        named = isinstance(value, str) and value.casefold() in self.text.casefold()
        return own + shared_lean + (0.5 if named else 0.0)

    def value(self, schema: Mapping[str, Any], place: str) -> Any:
        """Return a value that obeys the schema, for this place of the reply."""
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._one_of(schema["enum"], place)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                alternatives = schema[choice]
                return self.value(alternatives[self._draw(len(alternatives), place, choice)], place)
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        match kind:
            case "boolean":
                return self._one_of([True, False], place)
            case "integer" | "number":
                low = int(schema.get("minimum", 0))
                return self._one_of(range(low, int(schema.get("maximum", low + 9)) + 1), place)
            case "string":
                return self._passage(place)[: schema.get("maxLength")]
            case "array" if "enum" in schema.get("items", {}):
                return self._some_of(schema["items"]["enum"], place)
            case "array":
                return self._items(schema, place)
            case "null":
                return None
        return self._object(schema, place)

    def _object(self, schema: Mapping[str, Any], place: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        made = {name: self.value(part, f"{place}.{name}") for name, part in properties.items()}
        quote = made.get("text", made.get("quote"))
        if isinstance(quote, str) and {"start", "end"} <= made.keys() and quote:
            made["start"] = self.text.find(quote)
            made["end"] = made["start"] + len(quote)
        return made

    def _items(self, schema: Mapping[str, Any], place: str) -> list[Any]:
        least = int(schema.get("minItems", 0))
        most = max(least, min(int(schema.get("maxItems", 3)), least + 3))
        number = least + self._draw(most - least + 1, place, "length") if self.text.strip() else least
        items = [self.value(schema.get("items", {}), f"{place}[{index}]") for index in range(number)]
        return [item for index, item in enumerate(items) if item not in items[:index] or index < least]

    def _passage(self, place: str) -> str:
        """Return a run of one to six words that stands in the text exactly so, or an empty string."""
        starts = [
            i for i, c in enumerate(self.text) if not c.isspace() and (i == 0 or self.text[i - 1].isspace())
        ]
        if not starts:
            return ""
        first = self._draw(len(starts), place, "first")
        following = starts[first + 1 :][self._draw(6, place, "words") :]
        return self.text[starts[first] : following[0] if following else None].rstrip()

    def _one_of(self, values: Sequence[Any], place: str) -> Any:
        scores = [self.score(value) for value in values]
        if self.temperature > 0:
            draws = [_uniform("gumbel", self.content_key, place, index) for index in range(len(values))]
            scores = [
                score / self.temperature - math.log(-math.log(draw))
                for score, draw in zip(scores, draws, strict=True)
            ]
        return values[scores.index(max(scores))]

    def _some_of(self, values: Sequence[Any], place: str) -> list[Any]:
        """Return the values that suit the text well, each judged for itself: about a quarter of them."""
        if not self.text.strip():
            return []
        noise = [_uniform("choice", self.content_key, place, i) - 0.5 for i in range(len(values))]
        return [
            value
            for value, drawn in zip(values, noise, strict=True)
            if self.score(value) + self.temperature * drawn > SUITED
        ]

    def _draw(self, number: int, place: str, what: str) -> int:
        return int(_uniform(what, self.content_key, place) * number)


def _wrong(schema: Mapping[str, Any], value: Any) -> Any:
    """Return a value like this one that breaks the schema in its last part."""
    if isinstance(value, dict) and value:
        last = list(value)[-1]
        return {**value, last: _wrong(schema.get("properties", {}).get(last, {}), value[last])}
    if isinstance(value, list) and "enum" in schema.get("items", {}):
        return [*value, "none of the options"]
    if isinstance(value, list):
        return [_absent(schema.get("items", {}))]
    if "enum" in schema:
        return "none of the options"
    match schema.get("type"):
        case "boolean":
            return "maybe"
        case "integer" | "number":
            return int(schema["maximum"]) + 1 if "maximum" in schema else "many"
    return ["not", "a", "string"]


def _absent(items: Mapping[str, Any]) -> Any:
    """Return a list item whose quote does not stand in the text."""
    if "enum" in items:
        return items["enum"][0]
    if "properties" in items:
        return {name: _absent(part) for name, part in items["properties"].items()}
    return ABSENT_QUOTE if items.get("type", "string") == "string" else 0


def _reasoning(request: Request) -> str | None:
    if not request.reasoning:
        return None
    return f"The text has {_words(request.text)} words; I am a mock model and chose by drawing lots."


def _leaf(value: Any) -> Any:
    """Return what stands inside ``{"response": ...}``-like wrappers of one entry."""
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value


def _spoken(value: Any) -> str:
    return value if isinstance(value, str) and value else "hard to say"


def _softmax(scores: Sequence[float]) -> tuple[float, ...]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return tuple(weight / sum(weights) for weight in weights)


def _uniform(*parts: object) -> float:
    """Return a number strictly between 0 and 1 that the parts alone decide, the same on every machine."""
    content = json.dumps(parts, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
    draw = int.from_bytes(hashlib.blake2b(content, digest_size=6).digest())
    return (draw + 0.5) / 2**48


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _words(text: str) -> int:
    return len(text.split())
