"""Providers with a prompt cache and with batches, on the loopback address, as their documentation says they behave.

`Provider` speaks Anthropic's Messages API and message batches, OpenAI's files and batches, and Mistral's batch jobs.
What it answers is the mock model's. It refuses what the documentation says is refused, counts what it is paid for, and
keeps what it was given over the death of any client.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from serving import place_of_text

from nbannot.asking.request_reply import Request
from nbannot.models.mock import MockModel

KNOWN = {
    "model", "max_tokens", "messages", "system", "temperature", "top_p", "top_k", "thinking", "output_config", "tools",
    "tool_choice", "stop_sequences", "metadata", "stream", "cache_control", "service_tier",
}  # fmt: skip
"""What the Messages API takes."""


class Refused(Exception):
    """An error of the API: status, type, words."""


class Provider:
    """A running provider.

    Parameters
    ----------
    key
        What it asks for; "" for none.
    old
        A model of Anthropic from before structured output and adaptive thinking.
    thinks
        How its models of Anthropic think: ``"asked"``, ``"between"`` (on, and off by ``between_tools``: Sonnet 5.5) or
        ``"always"`` (Opus 5.5).
    sampling
        Whether its models of Anthropic take sampling settings.
    least_cached
        Tokens below which nothing is cached.
    looks
        How often a batch is looked at before it has ended.
    most
        Requests and bytes that a batch may have.
    fate
        Custom id, body and number of the batch -> ``""``, ``"expired"``, ``"missing"``, ``"twice"``, or an error of
        this request as ``(status, error)``.
    end
        How a batch ends, by its number: ``"completed"``, ``"expired"``, ``"cancelled"``, ``"failed"``.
    lose
        Called with the method and path of a request before it is dealt with; may raise to close the connection.
    cut
        File of results -> what is sent of it.
    """

    def __init__(
        self,
        *,
        key: str = "",
        old: bool = False,
        sampling: bool = True,
        thinks: str = "asked",
        least_cached: int = 1024,
        looks: int = 1,
        most: tuple[int, int] = (50_000, 200_000_000),
        fate: Callable[[str, Mapping[str, Any], int], Any] = lambda name, body, number: "",
        end: Callable[[int], str] = lambda number: "completed",
        before: Callable[[str, str], Any] = lambda method, path: None,
        variant: str = "",
        cut: Callable[[bytes], bytes] = lambda content: content,
    ) -> None:
        self.cut = cut
        self.key, self.old, self.sampling, self.least_cached = key, old, sampling, least_cached
        self.thinks = thinks
        self.why_failed: dict[str, Any] = {}
        self.looks, self.most, self.fate, self.end, self.before = looks, most, fate, end, before
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: Counter[str] = Counter()
        self.submitted: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._cache: set[str] = set()
        self._mock = MockModel(variant, seed=1)  # as in a run with the usual seed
        self._lock = threading.RLock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider._handle(self, b"")

            def do_POST(self) -> None:
                provider._handle(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass  # clients are killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Give back the port."""
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # ---- requests ---------------------------------------------------------------------------------------------

    def _handle(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        parts = urlsplit(handler.path)
        headers = {name.casefold(): value for name, value in handler.headers.items()}
        self.paths[f"{handler.command} {re.sub(r'(batch|file|job)_[0-9]+', '*', parts.path)}"] += 1
        self.headers.append(headers)
        answer: Any
        try:
            instead = self.before(handler.command, parts.path)
            if instead is not None:
                raise Refused(*instead)
            status, answer = (
                200,
                self._answer(handler.command, parts.path, parse_qs(parts.query), headers, raw),
            )
        except Refused as error:
            status, kind, words = error.args[:3]
            answer = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
        except ConnectionError:
            handler.close_connection = True
            handler.connection.close()
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        if status in (429, 529):
            handler.send_header("retry-after", "0")
        handler.end_headers()
        handler.wfile.write(data)

    def _answer(
        self, method: str, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str], raw: bytes
    ) -> Any:
        sent = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if self.key and sent != self.key:
            raise Refused(401, "authentication_error", f"invalid x-api-key: {sent}")
        messages = path.startswith("/v1/messages")
        if messages and headers.get("anthropic-version") != "2023-06-01":
            raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
        with self._lock:
            match method, path.removeprefix("/v1").strip("/").split("/"):
                case "GET", ["models"]:
                    return {"data": [{"id": "claude-small-4-20260101"}, {"id": "tiny"}], "has_more": False}
                case "GET", ["models", name]:
                    known = {"claude-small-4": "claude-small-4-20260101"}
                    if name not in (*known, *known.values()):
                        raise Refused(404, "not_found_error", f"model: {name}")
                    name = known.get(name, name)
                    return {"type": "model", "id": name, "display_name": "Small", "max_input_tokens": 200_000}
                case "POST", ["messages"]:
                    body = json.loads(raw)
                    self.calls.append(body)
                    return self.message(body)
                case "POST", ["chat", "completions"]:
                    body = json.loads(raw)
                    self.calls.append(body)
                    return self.completion(body)
                case "POST", ["messages", "batches"]:
                    return self._new_messages_batch(json.loads(raw))
                case "GET", ["messages", "batches"]:
                    return self._listed(query, "after_id")
                case "GET", ["messages", "batches", name]:
                    return self._looked_at(name)
                case "GET", ["messages", "batches", name, "results"]:
                    return self.cut(b"".join(self.batches[name]["output"]))
                case "POST", ["files"]:
                    return self._new_file(headers, raw)
                case "GET", ["files", name, "content"]:
                    if name not in self.files:
                        raise Refused(404, "not_found", f"no such file: {name}")
                    return self.cut(self.files[name])
                case "POST", ["batches"]:
                    return self._new_batch(json.loads(raw))
                case "GET", ["batches"]:
                    return self._listed(query, "after")
                case "GET", ["batches", name]:
                    return self._looked_at(name)
                case "POST", ["batch", "jobs"]:
                    return self._new_batch(json.loads(raw))
                case "GET", ["batch", "jobs"]:
                    page, size = int(query.get("page", ["0"])[0]), int(query.get("page_size", ["100"])[0])
                    jobs = [self._shown(b) for b in reversed(self.batches.values())]
                    return {
                        "data": jobs[page * size : (page + 1) * size],
                        "total": len(jobs),
                        "object": "list",
                    }
                case "GET", ["batch", "jobs", name]:
                    return self._looked_at(name)
        raise Refused(404, "not_found_error", "Not Found")

    def results(self, number: int) -> list[bytes]:
        """Return the lines of all results of a batch."""
        batch = self.batches[f"batch_{number}"]
        return [*batch["output"], *self.files.get(batch.get("err", ""), b"").splitlines(True)]

    # ---- answers ----------------------------------------------------------------------------------------------

    def _reply(self, text: str, schema: Any) -> str:
        start, end = place_of_text(text)
        inner = re.fullmatch(r"<text \w+>\n(.*)\n</text \w+>", text[start:end], re.DOTALL)
        request = Request(
            key=text[start:end],
            messages=({"role": "user", "content": text},),
            shared=start,
            schema=schema or {"type": "object", "properties": {"response": {"type": "string"}}},
            text=inner[1] if inner else text[start:end],
        )
        return asyncio.run(self._mock.ask(request)).text

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of OpenAI's chat completions, with the tokens of its automatic prompt cache."""
        if body.get("model") not in ("tiny", "claude-small-4-20260101"):
            raise Refused(404, "model_not_found", f"The model '{body.get('model')}' does not exist")
        form = (body.get("response_format") or {}).get("json_schema") or {}
        prompt = json.dumps(body.get("response_format")) + "".join(m["content"] for m in body["messages"])
        sent, cached = len(prompt) // 4, 0
        if sent >= 1024:  # the cache knows beginnings of 1,024 tokens and every 128 more
            for size in range(sent // 128 * 128, 1023, -128):
                if prompt[: size * 4] in self._cache:
                    cached = size
                    break
            self._cache.update(prompt[: size * 4] for size in range(1024, sent + 1, 128))
        text = self._reply(body["messages"][-1]["content"], form.get("schema"))
        self.tokens.update(sent=sent, cached=cached, written=len(text) // 4)
        usage = {
            "prompt_tokens": sent,
            "completion_tokens": len(text) // 4,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}

    def message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message of Anthropic's API, or refuse what it refuses."""
        self._check(body)
        config, thinking = body.get("output_config") or {}, (body.get("thinking") or {}).get("type")
        tools = body.get("tools") or [{}]
        schema = (config.get("format") or {}).get("schema") or tools[0].get("input_schema")
        last = body["messages"][-1]["content"]
        blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
        whole = "".join(block["text"] for block in blocks)
        start = json.dumps([body["model"], body.get("system"), tools, config, body["messages"][:-1]])
        sent, read, written, before = (len(whole) + len(start)) // 4, 0, 0, ""
        for block in blocks:
            before += block["text"]
            size = (len(start) + len(before)) // 4
            if "cache_control" in block and size >= self.least_cached:
                read, written = (size, 0) if start + before in self._cache else (0, size)
                self._cache.add(start + before)
        if "decline" in whole:
            content: list[dict[str, Any]] = []
            stop, details = "refusal", {"type": "refusal", "category": "bio", "explanation": None}
        else:
            text, details = self._reply(whole, schema), None
            thought = {"type": "thinking", "thinking": "The text says so.", "signature": "x"}
            content = [thought] if thinking in ("adaptive", "enabled") else []
            if body.get("tool_choice"):
                content.append({"type": "tool_use", "id": "t", "name": "answer", "input": json.loads(text)})
            else:
                content.append({"type": "text", "text": text})
            stop = "tool_use" if body.get("tool_choice") else "end_turn"
        self.tokens.update(sent=sent, cached=read, stored=written)
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": stop,
            "stop_details": details,
            "usage": {
                "input_tokens": sent - read - written,
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written,
                "output_tokens": 5,
            },
        }

    def _check(self, body: Mapping[str, Any]) -> None:
        def no(words: str) -> None:
            raise Refused(400, "invalid_request_error", words)

        if unknown := set(body) - KNOWN:
            no(f"{min(unknown)}: Extra inputs are not permitted")
        if body["model"] != "claude-small-4-20260101":
            raise Refused(404, "not_found_error", f"model: {body['model']}")
        config, thinking = body.get("output_config") or {}, body.get("thinking") or {}
        named = [name for name in ("temperature", "top_p", "top_k") if name in body]
        if named and not self.sampling:
            no(f"`{named[0]}` is deprecated for this model.")
        if "temperature" in named and "top_p" in named:
            no("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
        if thinking.get("type") in ("adaptive", "enabled") and named:
            no("`temperature` may only be set to 1 when thinking is enabled")
        if self.old and thinking.get("type") == "adaptive":
            no("adaptive thinking is not supported on this model")
        if self.thinks != "asked" and thinking.get("type") in ("disabled", "enabled"):
            no(
                f'"thinking.type.{thinking["type"]}" is not supported for this model. '
                + (
                    'To turn thinking off on this model, send "thinking": {"type": "between_tools"}.'
                    if self.thinks == "between"
                    else 'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
                )
            )
        if self.thinks != "between" and thinking.get("type") == "between_tools":
            no(
                "thinking: Input tag 'between_tools' found using 'type' does not match any of the expected tags"
            )
        if self.old and "effort" in config:
            no("This model does not support the effort parameter.")
        if self.old and "format" in config:
            no("output_config.format: Extra inputs are not permitted")
        if thinking.get("type") == "enabled" and thinking["budget_tokens"] >= body["max_tokens"]:
            no("`max_tokens` must be greater than `thinking.budget_tokens`")
        if re.search('"(minimum|maximum)"', json.dumps([config, body.get("tools")])):
            no(
                "output_config.format.schema: For 'integer' type, properties maximum, minimum are not supported"
            )
        for message in body["messages"]:
            content = message["content"]
            if message["role"] not in ("user", "assistant"):
                no(f'messages: Unexpected role "{message["role"]}"')
            for block in content if isinstance(content, list) else [{"text": content}]:
                if not block["text"].strip():
                    no("messages: text content blocks must contain non-whitespace text")
                if len(block["text"]) > 400_000:
                    no("prompt is too long: 300000 tokens > 200000 maximum")

    # ---- batches ----------------------------------------------------------------------------------------------

    def _new_file(self, headers: Mapping[str, str], raw: bytes) -> dict[str, Any]:
        mark = b"--" + headers["content-type"].partition("boundary=")[2].strip('"').encode()
        form = {}
        for part in raw.split(mark)[1:-1]:
            head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None
            form[name[1].decode()] = content
        if form["purpose"] != b"batch":
            raise Refused(400, "invalid_request_error", "purpose: unknown")
        if len(form["file"]) > self.most[1]:
            raise Refused(413, "invalid_request_error", "the file is too large")
        name = f"file_{len(self.files)}"
        self.files[name] = form["file"]
        return {"id": name, "object": "file", "bytes": len(form["file"]), "purpose": "batch"}

    def _new_batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        source = body.get("input_file_id") or (body.get("input_files") or [""])[0]
        if source not in self.files:
            raise Refused(400, "invalid_request_error", f"No such File object: {source}")
        lines = [json.loads(line) for line in self.files[source].splitlines() if line.strip()]
        model = body.get("model")
        requests = [
            (one["custom_id"], {**({"model": model} if model else {}), **one["body"]}) for one in lines
        ]
        return self._submitted(requests, self.completion, {"input_file_id": source, "input_files": [source]})

    def _new_messages_batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        requests = [(one["custom_id"], one["params"]) for one in body["requests"]]
        return self._submitted(requests, self.message, {})

    def _submitted(
        self, requests: list[tuple[str, Any]], answer: Callable[..., Any], more: dict[str, Any]
    ) -> Any:
        names = [name for name, _ in requests]
        if len(requests) > self.most[0]:
            raise Refused(400, "invalid_request_error", "too many requests in the batch")
        if len(set(names)) < len(names) or not all(re.fullmatch(r"[\w-]{1,64}", name) for name in names):
            raise Refused(400, "invalid_request_error", "custom_id: must be unique, of letters and digits")
        number = len(self.batches)
        batch = {
            "id": f"batch_{number}",
            "number": number,
            "created": time.time(),
            "requests": requests,
            "answer": answer,
            "looks": 0,
            "output": None,
            "good": 0,
            "bad": 0,
            "end": self.end(number),
            **more,
        }
        if batch["end"] != "failed":
            self.submitted.update(names)
        self.batches[batch["id"]] = batch
        return self._shown(batch)

    def _looked_at(self, name: str) -> dict[str, Any]:
        if name not in self.batches:
            raise Refused(404, "not_found_error", f"no such batch: {name}")
        batch = self.batches[name]
        batch["looks"] += 1
        return self._shown(batch)

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        ended = batch["looks"] >= self.looks
        if ended and batch["output"] is None:
            self._work(batch)
        total = len(batch["requests"])
        shown = {
            "id": batch["id"],
            "input_file_id": batch.get("input_file_id"),
            "input_files": batch.get("input_files"),
        }
        if batch["answer"] == self.message:
            created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(batch["created"])) + "Z"
            counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
            counts["processing"] = 0 if ended else total
            for line in set(batch["output"]) if ended else ():
                counts[json.loads(line)["result"]["type"]] += 1
            return {
                **shown,
                "type": "message_batch",
                "created_at": created,
                "processing_status": "ended" if ended else "in_progress",
                "request_counts": counts,
                "results_url": f"{self.url}/v1/messages/batches/{batch['id']}/results" if ended else None,
            }
        mistral = {
            "completed": "SUCCESS",
            "expired": "TIMEOUT_EXCEEDED",
            "cancelled": "CANCELLED",
            "failed": "FAILED",
        }
        is_job = self.paths["POST /v1/batch/jobs"] > 0
        end = mistral[batch["end"]] if is_job else batch["end"]
        counts = {
            "total": total,
            "succeeded" if is_job else "completed": batch["good"],
            "failed": batch["bad"],
        }
        files = {} if not ended else {"output_file_id": batch.get("out"), "error_file_id": batch.get("err")}
        files |= {} if not ended else {"output_file": batch.get("out"), "error_file": batch.get("err")}
        words = self.why_failed or {"code": "invalid_json_line", "message": "line 1 is not JSON", "line": 1}
        errors = {"data": [words]}
        return {
            **shown,
            "object": "batch",
            "created_at": int(batch["created"]),
            "status": end if ended else "RUNNING" if is_job else "in_progress",
            **(
                {f"{name}_requests": n for name, n in counts.items()}
                if is_job
                else {"request_counts": counts}
            ),
            **files,
            **({"errors": errors} if ended and batch["end"] == "failed" else {}),
        }

    def _work(self, batch: dict[str, Any]) -> None:
        output, errors = [], []
        anthropic = batch["answer"] == self.message
        for name, body in batch["requests"]:
            fate = self.fate(name, body, batch["number"])
            if (batch["end"] in ("expired", "cancelled", "failed") and hash(name) % 2) or batch[
                "end"
            ] == "failed":
                fate = "expired"
            result: Any
            try:
                if isinstance(fate, tuple):
                    raise Refused(fate[0], *fate[1])
                result = (200, batch["answer"](body)) if fate in ("", "twice") else None
            except Refused as refused:
                result = refused.args[0], {"error": {"type": refused.args[1], "message": refused.args[2]}}
            if fate == "missing":
                continue
            line = _anthropic_line(name, result) if anthropic else _openai_line(name, result)
            good = anthropic or (result is not None and result[0] == 200)
            (output if good else errors).extend([line] * (2 if fate == "twice" else 1))
        random.Random(1).shuffle(output)
        batch.update(output=output, good=len(set(output)), bad=len(set(errors)))
        for kind, lines in (("out", output), ("err", errors)):
            if lines and not anthropic:
                batch[kind] = f"file_{len(self.files)}"
                self.files[batch[kind]] = b"".join(lines)

    def _listed(self, query: Mapping[str, list[str]], after: str) -> dict[str, Any]:
        batches = list(reversed(self.batches.values()))
        names = [batch["id"] for batch in batches]
        start = names.index(query[after][0]) + 1 if after in query else 0
        size = int(query.get("limit", ["20"])[0])
        for batch in batches:
            batch["looks"] += 1
        page = [self._shown(batch) for batch in batches[start : start + size]]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + size < len(batches),
        }


def _openai_line(name: str, result: Any) -> bytes:
    if result is None:
        error = {
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        }
        return (
            json.dumps({"id": f"r_{name}", "custom_id": name, "response": None, "error": error}).encode()
            + b"\n"
        )
    status, body = result
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return (
        json.dumps({"id": f"r_{name}", "custom_id": name, "response": response, "error": None}).encode()
        + b"\n"
    )


def _anthropic_line(name: str, result: Any) -> bytes:
    if result is None:
        outcome: dict[str, Any] = {"type": "expired"}
    elif result[0] == 200:
        outcome = {"type": "succeeded", "message": result[1]}
    else:
        outcome = {"type": "errored", "error": {"type": "error", "request_id": "req_1", **result[1]}}
    return json.dumps({"custom_id": name, "result": outcome}).encode() + b"\n"
