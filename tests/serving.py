"""A model server that misbehaves, on the loopback address, speaking the APIs of OpenAI and of Ollama.

What it answers is the mock model's: a function of the messages and the schema alone. Whether a request meets a fault,
and which, follows from (seed, content of the request, how often that content has come): a failing run can be replayed,
and a run with faults can be compared with one without.

In a test: ``with Serving(faults={"http_500": 0.2}) as server: ... server.url``. In a process of its own, for
measurements: ``python tests/serving.py '{"latency_s": 0.05, "capacity": 32}'`` prints its address and ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import json
import math
import re
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbannot.asking.request_reply import Reply, Request
from nbannot.models.mock import MockModel

FAULTS = {
    "http_500": "an error of the server",
    "http_503": "the server is overloaded",
    "http_429": "too many requests, with Retry-After",
    "schema_400": "this schema is refused (only requests that send one)",
    "error_in_200": "an error in a reply with status 200",
    "not_json": "a page of a proxy instead of JSON",
    "cut_body": "the connection ends in the middle of the reply",
    "reset": "the connection is reset before the reply",
    "hang": "no reply, ever",
    "slow": "the reply comes a few bytes at a time",
    "prose": "a sentence instead of JSON",
    "refusal": "a refusal in words",
    "wrong_key": "JSON with another key",
    "outside": "a value outside the options",
    "empty": "an empty reply",
    "cut_json": "JSON that breaks off",
    "length": "cut at the token limit",
    "thinking": "reasoning in front of the answer; not a fault of the answer",
}
OF_THE_WIRE = ("http_500", "http_503", "http_429", "error_in_200", "not_json", "cut_body", "reset", "hang")
OF_THE_ANSWER = ("prose", "refusal", "wrong_key", "outside", "empty", "cut_json", "length")
DATE = "date"
STATUS = {"http_500": 500, "http_503": 503, "http_429": 429, "schema_400": 400, "reset": 0, "hang": 0}
WORDS = {
    "http_500": "llama runner process has terminated",
    "http_503": "server busy, please try again",
    "schema_400": "failed to parse grammar for response_format json_schema",
}


@dataclass(frozen=True)
class Behaviour:
    """How a server behaves.

    Attributes
    ----------
    models
        The names it serves.
    variant
        Of the mock model that answers.
    capacity
        How many requests it works on at once; others wait.
    queue
        How many may wait before it says 503; ``None``: any number.
    faults
        Kind -> proportion of the requests.
    lasting
        Whether a fault of the answer comes every time the same content comes, so that answers follow from the text
        alone however often a run is broken off; faults of the wire still depend on how often it came.
    retry_after
        Of a 429: seconds as text, or ``"date"``.
    formats
        The response formats it knows.
    refuse
        Parameters that it refuses.
    context
        Longest prompt, in words.
    thinking
        How reasoning comes when asked for: ``"reasoning_content"``, ``"reasoning"``, ``"tags"``, ``"open"`` (only the
        end is marked), or ``""`` (the model has none).
    cheap
        For measurements: each answer is one that the schema allows, drawn by the bytes of the request; no faults.
    replies_per_connection, idle_close_s
        When it closes a connection: after so many replies, or so long after one.
    """

    models: tuple[str, ...] = ("tiny",)
    variant: str = ""
    latency_s: float = 0.0
    capacity: int = 1000
    queue: int | None = None
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    lasting: bool = False
    retry_after: str = "0"
    slow_s: float = 0.2
    key: str = ""
    formats: tuple[str, ...] = ("json_schema", "json_object", "text")
    refuse: tuple[str, ...] = ()
    context: int = 100_000
    thinking: str = "reasoning_content"
    logprobs: bool = True
    lists_models: bool = True
    prefix: str = "/v1"
    replies_per_connection: int = 1_000_000
    idle_close_s: float = 60.0
    cheap: bool = False
    ollama_version: str = "0.32.9"
    load_error: str = ""
    remote_host: str = ""
    port: int = 0
    keep_calls: bool = True


@dataclass(frozen=True)
class Call:
    """One request as it came, and what becomes of it (status 0: no reply)."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    content: str
    number: int
    fault: str
    status: int


class Serving:
    """A running server; `settings` are those of `Behaviour`."""

    def __init__(self, **settings: Any) -> None:
        self.behaviour = Behaviour(**settings)
        unknown = set(self.behaviour.faults) - set(FAULTS)
        assert not unknown, f"unknown faults: {unknown}"
        self.calls: list[Call] = []
        self.count: Counter[str] = Counter()
        self.most_at_once = 0
        self.now_at_once = 0
        self.connections = 0
        self.port = 0
        self._model = MockModel(self.behaviour.variant)
        self._seen: Counter[str] = Counter()
        self._schemas: dict[str, Any] = {}
        self._waiting: deque[tuple[Connection, bytes]] = deque()
        self._cheap: dict[bytes, list[bytes]] = {}
        self._models = list(self.behaviour.models)
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    # life

    def __enter__(self) -> Serving:
        self._thread.start()
        assert self._started.wait(10), "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and every connection to it, at once."""
        if self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The address of its OpenAI API."""
        return self.url + self.behaviour.prefix

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._room = asyncio.Semaphore(self.behaviour.capacity)
        server = await self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", self.behaviour.port, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._end.wait()
        server.close()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    # requests

    async def handle(
        self, connection: Connection, method: str, path: str, headers: Mapping[str, str], raw: bytes
    ) -> None:
        """Answer one request on its connection."""
        body = json.loads(raw) if raw else {}
        key = self.behaviour.key
        if key and headers.get("authorization") != f"Bearer {key}":
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            connection.send(
                401, _openai_error(f"Incorrect API key provided: {sent}.", code="invalid_api_key")
            )
            return
        routes = {
            ("POST", f"{self.behaviour.prefix}/chat/completions"): self._chat,
            ("POST", "/api/chat"): self._chat,
        }
        chat = routes.get((method, path))
        if chat is None:
            await self._about(connection, method, path, body)
            return
        await chat(connection, path, headers, body)

    async def _chat(
        self, connection: Connection, path: str, headers: Mapping[str, str], body: dict[str, Any]
    ) -> None:
        if path == "/api/chat" and not body["messages"]:
            self._load(connection, headers, body)
            return
        content = content_of(path, body)
        self._seen[content] += 1
        number = self._seen[content]
        ollama = path == "/api/chat"
        fault = self._fault(content, number, bool(_schema_sent(body)))
        if self.behaviour.queue is not None and self.now_at_once >= (
            self.behaviour.capacity + self.behaviour.queue
        ):
            fault = "http_503"
        self._request(body)  # a schema that is refused is known from then on
        self.now_at_once += 1
        self.most_at_once = max(self.most_at_once, self.now_at_once)
        try:
            async with self._room:
                if self.behaviour.latency_s:
                    await asyncio.sleep(self.behaviour.latency_s)
                refusal = self._refusal(ollama, body)
                fault = "" if refusal else fault
                status = refusal[0] if refusal else STATUS.get(fault, 200)
                self.count["refused" if refusal else fault or "answered"] += 1
                if self.behaviour.keep_calls:
                    self.calls.append(Call(path, body, headers, content, number, fault, status))
                if refusal:
                    connection.send(*refusal)
                else:
                    await self._respond(connection, ollama, body, fault)
        finally:
            self.now_at_once -= 1

    def _load(self, connection: Connection, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
        """Answer a request to load a model."""
        self.count["loaded"] += 1
        self.calls.append(Call("/api/chat", body, headers, "load", self.count["loaded"], "", 200))
        if self.behaviour.load_error:
            connection.send(500, {"error": self.behaviour.load_error})
        elif body.get("model") not in self._models:
            connection.send(404, {"error": f"model '{body.get('model')}' not found"})
        else:
            message = {"role": "assistant", "content": ""}
            connection.send(200, {"message": message, "done": True, "done_reason": "load"})

    def _fault(self, content: str, number: int, schema_sent: bool) -> str:
        seed, faults = self.behaviour.seed, self.behaviour.faults
        if not schema_sent:
            faults = {kind: share for kind, share in faults.items() if kind != "schema_400"}
        if self.behaviour.lasting:
            passing, lasting = (
                {k: p for k, p in faults.items() if (k in (*OF_THE_WIRE, "schema_400")) is which}
                for which in (True, False)
            )
            return _drawn(passing, seed, content, number) or _drawn(lasting, seed, content)
        return _drawn(faults, seed, content, number)

    def _refusal(self, ollama: bool, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        """Return the error for a request that this server never accepts."""
        behaviour = self.behaviour
        if body.get("model") not in self._models:
            words = f"model '{body.get('model')}' not found"
            return 404, {"error": words} if ollama else _openai_error(words, code="model_not_found")
        words_sent = sum(len(message["content"].split()) for message in body["messages"])
        room = min(behaviour.context, body.get("options", {}).get("num_ctx", behaviour.context))
        refuses = not ollama or (
            body.get("truncate") is False and _version(behaviour.ollama_version) >= (0, 13)
        )
        if words_sent > room and refuses:
            text = f"request ({words_sent} tokens) exceeds the available context size ({room} tokens)"
            inner = {"code": 400, "message": text, "type": "exceed_context_size_error"}
            return 400, {"error": json.dumps({"error": inner}) if ollama else inner}
        if ollama:
            form = "json_object" if body.get("format") == "json" else "json_schema"
            if "format" in body and form not in behaviour.formats:
                return 400, {"error": "invalid format"}
            thinks = body.get("think") not in (None, False)
            if thinks and not behaviour.thinking:
                return 400, {"error": f'"{body["model"]}" does not support thinking'}
            return None
        for name in behaviour.refuse:
            if name in body:
                hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                text = f"Unsupported parameter: '{name}' is not supported with this model.{hint}"
                return 400, _openai_error(text, param=name, code="unsupported_parameter")
        form = (body.get("response_format") or {"type": "text"})["type"]
        if form not in behaviour.formats:
            return 400, _openai_error(f"response_format of type {form} is not supported")
        return None

    async def _respond(self, connection: Connection, ollama: bool, body: dict[str, Any], fault: str) -> None:
        """Send the answer, or what the fault makes of it."""
        match fault:
            case "http_500" | "http_503" | "schema_400":
                words = WORDS[fault]
                connection.send(STATUS[fault], {"error": words} if ollama else _openai_error(words))
                return
            case "http_429":
                wait = self.behaviour.retry_after
                header = email.utils.formatdate(time.time() + 1, usegmt=True) if wait == DATE else wait
                connection.send(429, _openai_error("Rate limit reached"), {"Retry-After": header})
                return
            case "error_in_200":
                connection.send(200, {"error": {"message": "upstream provider failed", "code": 502}})
                return
            case "not_json":
                connection.send_raw(200, b"<html><body>Please log in</body></html>", "text/html")
                return
            case "reset":
                connection.abort()
                return
            case "hang":
                await asyncio.Event().wait()
        raw = json.dumps(await self._answer(ollama, body, fault)).encode()
        if fault == "cut_body":
            connection.send_part(raw, len(raw) // 2)
            connection.abort_soon()
        elif fault == "slow":
            await connection.drip(raw, self.behaviour.slow_s)
        else:
            connection.send_raw(200, raw)

    async def _answer(self, ollama: bool, body: dict[str, Any], fault: str) -> dict[str, Any]:
        request = self._request(body)
        reply = await self._model.ask(request)
        finish, refusal = "stop", None
        if fault == "length":
            finish = "length"
        text = _spoilt(fault, reply.text)
        if fault == "refusal" and not ollama and uniform("how", text, request.key) < 0.5:
            text, refusal = "", text
        thought = "The text says so." if fault == "thinking" or _thinks(ollama, body) else ""
        tokens_in = sum(len(message["content"].split()) for message in body["messages"])
        tokens_out = len(text.split())
        if ollama:
            message = {"role": "assistant", "content": text, **({"thinking": thought} if thought else {})}
            return {
                "model": body["model"],
                "message": message,
                "done": True,
                "done_reason": finish,
                "prompt_eval_count": tokens_in,
                "eval_count": tokens_out,
            }
        message = {"role": "assistant", "content": text, "refusal": refusal}
        style = self.behaviour.thinking or "reasoning_content"
        if thought and style in ("reasoning_content", "reasoning"):
            message[style] = thought
        elif thought:
            message["content"] = f"{'<think>' if style == 'tags' else ''}{thought}</think>\n{text}"
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
        if body.get("logprobs") and self.behaviour.logprobs and not fault:
            scored = await self._model.ask(
                Request("", request.messages, request.shared, request.schema, _options(request.schema), "score",
                        request.text)
            )  # fmt: skip
            choice["logprobs"] = {"content": _logprobs(request.schema, scored)}
            message["content"] = scored.text
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        return {
            "id": "chatcmpl-1",
            "created": 1_700_000_000,
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }

    # cheap answers: as little work as possible, so that a measurement measures the client

    def answer_cheaply(self, connection: Connection, raw: bytes) -> None:
        """Answer a chat completion after the latency, in the order of arrival, so many at once as there is capacity."""
        if self.now_at_once >= self.behaviour.capacity:
            self._waiting.append((connection, raw))
            return
        self.now_at_once += 1
        assert self._loop is not None
        if self.behaviour.latency_s:
            self._loop.call_later(self.behaviour.latency_s, self._finish_cheaply, connection, raw)
        else:
            self._finish_cheaply(connection, raw)

    def _finish_cheaply(self, connection: Connection, raw: bytes) -> None:
        rest = raw[raw.rindex(b'"model"') :]
        if rest not in self._cheap:
            schema = _schema_sent(json.loads(b"{" + rest))
            self._cheap[rest] = [_cheap_reply(option) for option in _options(schema)]
        replies = self._cheap[rest]
        connection.reply_cheaply(replies[zlib.crc32(raw) % len(replies)])
        self.count["answered"] += 1
        self.now_at_once -= 1
        if self._waiting:
            self.answer_cheaply(*self._waiting.popleft())

    # answers

    def _request(self, body: dict[str, Any]) -> Request:
        """Return what the mock model is asked: the same question that it would be asked in process."""
        messages = tuple(body["messages"])
        last = messages[-1]["content"]
        start, end = place_of_text(last)
        beginning = last[:start]
        fenced = FENCED.fullmatch(last, start, end)
        schema = _schema_sent(body)
        if schema is None:
            schema = self._schemas.get(
                beginning, {"type": "object", "properties": {"response": {"type": "string"}}}
            )
        else:
            self._schemas[beginning] = schema
        return Request(
            key=hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:12],
            messages=messages,
            shared=start,
            schema=schema,
            text=fenced["text"] if fenced else last[start:end],
        )

    async def _about(self, connection: Connection, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Answer what is asked about the server and its models."""
        behaviour, prefix = self.behaviour, self.behaviour.prefix
        listed = [{"id": name, "object": "model", "owned_by": "test"} for name in self._models]
        for item in listed:
            item["max_model_len"] = behaviour.context  # type: ignore[assignment]
        if (method, path) == ("GET", f"{prefix}/models") and behaviour.lists_models:
            connection.send(200, {"object": "list", "data": listed})
        elif (method, path) == ("GET", "/api/version"):
            connection.send(200, {"version": behaviour.ollama_version})
        elif (method, path) == ("GET", "/api/tags"):
            models = [
                {"name": name, "model": name, "digest": _digest(name), "size": 1} for name in self._models
            ]
            connection.send(200, {"models": models})
        elif (method, path) == ("POST", "/api/show"):
            self._show(connection, body)
        elif (method, path) == ("POST", "/api/pull"):
            await self._pull(connection, body)
        else:
            connection.send(404, {"detail": "Not Found"})

    def _show(self, connection: Connection, body: Mapping[str, Any]) -> None:
        if body.get("model") not in self._models:
            connection.send(404, {"error": f"model '{body.get('model')}' not found"})
            return
        data = {
            "details": {"family": "llama", "parameter_size": "268.10M", "quantization_level": "Q8_0"},
            "model_info": {
                "general.architecture": "llama",
                "general.parameter_count": 268_098_176,
                "llama.context_length": self.behaviour.context,
            },
            **({"remote_host": self.behaviour.remote_host} if self.behaviour.remote_host else {}),
            "capabilities": ["completion", *(["thinking"] if self.behaviour.thinking else [])],
        }
        connection.send(200, data)

    async def _pull(self, connection: Connection, body: Mapping[str, Any]) -> None:
        if "unknown" in body["model"]:
            connection.send_raw(200, b'{"status":"pulling manifest"}\n{"error":"file does not exist"}\n')
            return
        lines = [{"status": "pulling manifest"}]
        lines += [{"status": "pulling 1234", "total": 100, "completed": n} for n in (10, 60, 100)]  # type: ignore[dict-item]
        lines += [{"status": "success"}]
        self._models.append(body["model"])
        connection.send_raw(
            200, "".join(json.dumps(line) + "\n" for line in lines).encode(), "application/x-ndjson"
        )


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self._buffer = b""
        self._work: asyncio.Task[None] | None = None
        self._replies = 0
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections += 1
        self.server._open.add(self)

    def connection_lost(self, _: object) -> None:
        self.server._open.discard(self)
        if self._idle:
            self._idle.cancel()
        if self._work is not None:
            self._work.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._work is None:
            self._next()

    def _next(self) -> None:
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if self._idle:
            self._idle.cancel()
        method, path, _ = lines[0].split(" ", 2)
        if self.server.behaviour.cheap and path.endswith("/chat/completions"):
            self.server.answer_cheaply(self, rest[:length])
            return
        work = self.server.handle(self, method, path, headers, rest[:length])
        self._work = asyncio.get_running_loop().create_task(work)
        self._work.add_done_callback(self._done)

    def _done(self, work: asyncio.Task[None]) -> None:
        self._work = None
        if not work.cancelled() and work.exception():
            print(f"serving.py: {work.exception()!r}", file=sys.stderr)
            self.abort()
            return
        self._replies += 1
        if self._replies >= self.server.behaviour.replies_per_connection:
            self.transport.close()
            return
        self._wait()
        if self._buffer:
            self._next()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self.server.behaviour.idle_close_s, self.transport.close)

    def send(self, status: int, data: object, headers: Mapping[str, str] | None = None) -> None:
        """Send a JSON reply."""
        self.send_raw(status, json.dumps(data).encode(), headers=headers)

    def send_raw(
        self,
        status: int,
        raw: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a reply."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n{extra}\r\n"
        self.transport.write(head.encode() + raw)

    def reply_cheaply(self, reply: bytes) -> None:
        """Send a whole reply, and take the next request."""
        self.transport.write(reply)
        if self._buffer:
            self._next()

    def send_part(self, raw: bytes, length: int) -> None:
        """Send a reply that breaks off."""
        self.transport.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw[:length])

    async def drip(self, raw: bytes, seconds: float) -> None:
        """Send a reply in ten pieces over some time."""
        self.transport.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(raw)}\r\n\r\n".encode())
        size = math.ceil(len(raw) / 10)
        for start in range(0, len(raw), size):
            await asyncio.sleep(seconds / 10)
            self.transport.write(raw[start : start + size])

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abort()

    def abort_soon(self) -> None:
        """Reset the connection once what was sent has left."""
        asyncio.get_running_loop().call_later(0.02, self.transport.abort)


# ---- what requests and answers are made of ------------------------------------------------------------------------


def content_of(path: str, body: Mapping[str, Any]) -> str:
    """Return what identifies the content of a request: its API, model and messages."""
    content = [path, body.get("model"), body.get("messages")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


FENCED = re.compile(r"<text (?P<code>[0-9a-f]{6})>\n(?P<text>.*)\n</text (?P=code)>", re.DOTALL)


def place_of_text(message: str) -> tuple[int, int]:
    """Return where the text begins and ends in a message of ours; the whole message where it has no such place."""
    mark = message.rfind("\nText:\n")
    if mark < 0:
        return 0, len(message)
    end = message.rfind("\n\nResponse:\n")
    start = mark + len("\nText:\n")
    return start, end if end >= start else len(message)


def uniform(*parts: object) -> float:
    """Return a number from 0 to 1 that the parts alone decide."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _drawn(faults: Mapping[str, float], *parts: object) -> str:
    """Return the fault that these parts draw, or ""."""
    draw = uniform(*parts)
    for kind, proportion in faults.items():
        if draw < proportion:
            return kind
        draw -= proportion
    return ""


def _schema_sent(body: Mapping[str, Any]) -> Any:
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]
    if isinstance(form.get("value"), dict):  # the form of Hugging Face's text generation server
        return form["value"]
    return body["format"] if isinstance(body.get("format"), dict) else None


def _thinks(ollama: bool, body: Mapping[str, Any]) -> bool:
    if ollama:
        return body.get("think") not in (None, False)
    asked = body.get("chat_template_kwargs", {}).get("enable_thinking")
    return bool(asked) or body.get("reasoning_effort") not in (None, "none")


def _spoilt(fault: str, text: str) -> str:
    value = json.loads(text)
    match fault:
        case "prose":
            return "Let me think about it. I would say that it is hard to tell."
        case "refusal":
            return "I'm sorry, but I can't help with that."
        case "wrong_key":
            return json.dumps({"answer": next(iter(value.values()), None)})
        case "outside":
            return json.dumps(dict.fromkeys(value, "none of the options"))
        case "empty":
            return ""
        case "cut_json" | "length":
            return text[: max(1, len(text) // 2)]
    return text


def _options(schema: Mapping[str, Any]) -> tuple[str, ...]:
    part = schema["properties"]["response"]
    if "enum" in part:
        values: Any = part["enum"]
    elif part["type"] == "boolean":
        values = [False, True]
    else:
        values = range(part["minimum"], part["maximum"] + 1)
    return tuple(json.dumps({"response": value}, ensure_ascii=False) for value in values)


def _cheap_reply(option: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": option}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 300, "completion_tokens": 7}
    raw = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def _logprobs(schema: Mapping[str, Any], scored: Reply) -> list[dict[str, Any]]:
    """Return log-probabilities in OpenAI's form: one token for the beginning, one for each value, one for the end."""
    start = '{"response": '
    options = [option.removeprefix(start).removesuffix("}") for option in _options(schema)]
    assert scored.probabilities is not None
    top = [{"token": o, "logprob": math.log(p)} for o, p in zip(options, scored.probabilities, strict=True)]
    said = scored.text.removeprefix(start).removesuffix("}")
    return [
        {"token": start, "logprob": 0.0, "top_logprobs": [{"token": start, "logprob": 0.0}]},
        {"token": said, "logprob": top[options.index(said)]["logprob"], "top_logprobs": top},
        {"token": "}", "logprob": 0.0, "top_logprobs": [{"token": "}", "logprob": 0.0}]},
    ]


def _openai_error(message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@contextlib.contextmanager
def in_a_process(**settings: Any) -> Iterator[str]:
    """Run a server in a process of its own and give its address."""
    import subprocess

    command = [sys.executable, __file__, json.dumps(settings)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    known = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    with Serving(**{"keep_calls": False, **known}) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while sys.stdin.read() == "" and server.behaviour.port:  # a fixed port: to be ended by a signal
                time.sleep(0.1)


if __name__ == "__main__":
    main()
