"""A server on the loopback address that answers whatever a test wants, byte by byte."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Mapping
from typing import Any


def said(content: str | None, finish: str | None = "stop") -> dict[str, Any]:
    """Return a chat completion with this content and finish reason."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }


class Raw:
    """Answers ``POST`` with what a function makes of the body: a status, an object or bytes, and maybe headers.

    Parameters
    ----------
    drop_second
        Take the second request of every connection, and close it without a reply.
    get
        Answers ``GET``; a list with the model ``tiny`` when left out.
    """

    def __init__(
        self,
        answer: Callable[[Any], Any],
        *,
        drop_second: bool = False,
        get: Callable[[str], tuple[int, Any]] | None = None,
    ) -> None:
        self.answer, self.drop_second, self.get = answer, drop_second, get
        self.taken = 0
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._lock = threading.Lock()
        raw = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                number = 0
                while (line := self.rfile.readline().decode().split()) and len(line) == 3:
                    headers: dict[str, str] = {}
                    while (head := self.rfile.readline().decode().strip()) != "":
                        name, _, value = head.partition(":")
                        headers[name.casefold()] = value.strip()
                    body = self.rfile.read(int(headers.get("content-length", 0)))
                    with raw._lock:
                        raw.headers.append(headers)
                        raw.paths.append(line[1])
                    if line[0] == "GET":
                        raw._reply(self.wfile, *raw._listed(line[1]))
                        continue
                    number += 1
                    with raw._lock:
                        raw.taken += 1
                    if raw.drop_second and number == 2:
                        return
                    raw._reply(self.wfile, *raw.answer(json.loads(body)))

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _listed(self, path: str) -> tuple[int, Any]:
        if self.get is not None:
            return self.get(path)
        return (
            (200, {"data": [{"id": "tiny"}]}) if path.endswith("/models") else (404, {"detail": "Not Found"})
        )

    def _reply(self, out: Any, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            out.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + raw)
        except OSError:
            return

    def __enter__(self) -> Raw:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
