"""A server of decisions on the loopback address that behaves as the documentation of one maker says, or misbehaves.

What it decides follows from the text and the names of question and option alone, whatever the shape.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def share_of(text: str, question: str, options: list[str]) -> list[float]:
    """Return the probabilities of a question's options; far enough apart never to be tied."""
    weights = [1 + zlib.crc32(f"{text}|{question}|{option}".encode()) % 997 for option in options]
    return [weight / sum(weights) for weight in weights]


@dataclass
class Maker:
    """How one maker's server behaves.

    Attributes
    ----------
    routes
        Path -> shape.
    options, levels, questions, characters
        Most that it takes; more is refused.
    words
        The body of a refusal, from what is wrong.
    status
        Of a refusal.
    change
        Applied to each reply before it is sent: (reply, request) -> reply, or bytes as they stand.
    """

    routes: dict[str, str]
    options: int = 255
    levels: int = 10
    questions: int = 1000
    characters: int = 100_000
    key: str = ""
    model: str | None = "decider-1.0"
    status: int = 400
    words: Callable[[str], Any] = lambda why: {"error": {"message": why, "type": "invalid_request_error"}}
    change: Callable[[dict[str, Any], dict[str, Any]], Any] = lambda reply, request: reply
    seen: list[dict[str, Any]] = field(default_factory=list)


def faults(maker: Maker, text: str, questions: list[dict[str, Any]]) -> str:
    for number, one in enumerate(questions):
        count = len(one["options"])
        if one["kind"] == "choice" and count > maker.options:
            return f"questions[{number}]: too many options ({count}); a choice takes at most {maker.options} options"
        if one["kind"] == "score" and count > maker.levels:
            return f"questions[{number}].criteria: a score takes between 2 and {maker.levels} levels, got {count}"
    if len(questions) > maker.questions:
        return f"at most {maker.questions} questions per request"
    if len(text) > maker.characters:
        return f"the state is too long: {len(text)} tokens, the model reads {maker.characters}"
    return ""


def asked(shape: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text, and the questions with their options, of a request in the right shape; else raises KeyError."""
    if shape == "systemone":
        found = []
        for name, one in body["questions"].items():
            criteria = one.get("criteria")
            options = ["false", "true"] if one["type"] == "noul" else list(criteria)
            found.append({"name": name, "kind": one["type"], "options": options})
        return body["state"], found
    kinds = {"predicate": "noul", "choice": "choice", "score": "score"}
    found = []
    for one in body["questions"]:
        options = [c["value"] for c in one.get("choices", [])] or [c["label"] for c in one.get("levels", [])]
        kind = kinds[one["type"]]
        found.append({"name": one["name"], "kind": kind, "options": options or ["false", "true"]})
    return body["input"], found


def answer(shape: str, text: str, one: dict[str, Any]) -> dict[str, Any]:
    shares = share_of(text, one["name"], one["options"])
    best = one["options"][shares.index(max(shares))]
    level = sum(i * p for i, p in enumerate(shares))
    pairs = list(zip(one["options"], shares, strict=True))
    if shape == "systemone":
        if one["kind"] == "noul":
            return {"type": "noul", "noul": shares[1]}
        if one["kind"] == "choice":
            return {"type": "choice", "choice": best, "probabilities": dict(pairs), "confidence": 0.123}
        numbered = {str(i): p for i, p in enumerate(shares)}
        legend = {str(i): name for i, name in enumerate(one["options"])}
        return {
            "type": "score",
            "score": level,
            "legend": legend,
            "probabilities": numbered,
            "confidence": 0.123,
        }
    if one["kind"] == "noul":
        return {"type": "predicate", "name": one["name"], "probability": shares[1]}
    made = {"type": one["kind"], "name": one["name"], "confidence": 0.123}
    if one["kind"] == "choice":
        return {**made, "choice": best, "probabilities": [{"value": n, "probability": p} for n, p in pairs]}
    listed = [{"value": i, "label": n, "probability": p} for i, (n, p) in enumerate(pairs)]
    return {**made, "score": level, "probabilities": listed}


class Deciding:
    """The server of a `Maker`; ``with Deciding(maker) as server: server.url``."""

    def __init__(self, maker: Maker) -> None:
        outer = self
        self.maker = maker

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = outer.reply(self.path, body, self.headers.get("Authorization"))
                raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def reply(self, path: str, body: dict[str, Any], key: str | None) -> tuple[int, Any]:
        maker = self.maker
        shape = maker.routes.get(path)
        if shape is None:
            return 404, {"detail": "Not Found"}
        if maker.key and key != f"Bearer {maker.key}":
            return 401, {"error": {"message": "invalid api key"}}
        try:
            text, questions = asked(shape, body)
        except (KeyError, AttributeError, TypeError) as error:
            return maker.status, maker.words(f"field required: {error}")
        maker.seen.append({"path": path, "body": body, "text": text, "questions": questions, "key": key})
        if why := faults(maker, text, questions):
            return maker.status, maker.words(why)
        made = [answer(shape, text, one) for one in questions]
        answers = (
            made if shape == "decisions" else {q["name"]: a for q, a in zip(questions, made, strict=True)}
        )
        reply = {"answers": answers, "usage": {"input_tokens": len(text) // 4, "output_tokens": 0}}
        if maker.model:
            reply["model"] = maker.model
        return 200, maker.change(reply, body)

    def __enter__(self) -> Deciding:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
