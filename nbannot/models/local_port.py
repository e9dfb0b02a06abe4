"""llama.cpp's own server inside this process: what it streams, its loopback port, and the states it saves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from nbannot.asking.request_reply import Message
from nbannot.models.local_prompts import Tokens

STATES_BYTES = 512 << 20
STATES_PREFIX = "nbannot-states-"
LEFTOVER_S = 2 * 24 * 3600
PORT_TIMEOUT_S = 600


class ServerError(Exception):
    """llama.cpp refused or failed; the message is its own."""


@dataclass(slots=True)
class Completion:
    """What came back for one request to llama.cpp, chunk by chunk."""

    text: str = ""
    finish_reason: str | None = None
    output_tokens: int = 0
    evaluated_tokens: int = 0
    top: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add one chunk of the stream."""
        if "error" in chunk:
            self.error = str(chunk["error"].get("message", chunk["error"]))
            return
        choice = chunk["choices"][0]
        self.text += choice["text"]
        self.finish_reason = choice["finish_reason"] or self.finish_reason
        if choice["logprobs"] and not self.top:
            self.top = choice["logprobs"]["content"][0].get("top_probs", [])
        self.output_tokens = chunk.get("usage", {}).get("completion_tokens", self.output_tokens)
        self.evaluated_tokens = chunk.get("timings", {}).get("prompt_n", self.evaluated_tokens)


class Port:
    """The functions of llama.cpp that have no call of their own in xllamacpp, by its loopback port."""

    def __init__(self, address: str, key: str) -> None:
        self._host = address.rpartition("/")[2]
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def tokens(self, text: str, first: bool, plain: bool = False) -> Tokens:
        """Return the tokens of a text; `first` adds what begins a prompt, `plain` knows no control tokens."""
        payload = {"content": text, "add_special": first, "parse_special": not plain}
        return tuple(self._call("POST", "/tokenize", payload)["tokens"])

    def templated(self, messages: Sequence[Message]) -> str:
        """Return the messages in the model's own chat template, up to where its answer begins."""
        payload = {"messages": list(messages), "chat_template_kwargs": {"enable_thinking": False}}
        return str(self._call("POST", "/apply-template", payload)["prompt"])

    def takes_system_messages(self) -> bool:
        """Whether the chat template has a place for a system message."""
        return bool(self._call("GET", "/props")["chat_template_caps"].get("supports_system_role", True))

    def state(self, action: str, name: str, slot: int = 0) -> dict[str, Any]:
        """Save or restore the state of a slot under a name; an empty answer means that it did not work."""
        try:
            return dict(self._call("POST", f"/slots/{slot}?action={action}", {"filename": name}))
        except (ServerError, OSError, HTTPException):
            return {}

    def _call(self, method: str, path: str, payload: object = None) -> Any:
        connection = HTTPConnection(self._host, timeout=PORT_TIMEOUT_S)
        try:
            connection.request(method, path, None if payload is None else json.dumps(payload), self._headers)
            answer = connection.getresponse()
            content = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerError(_message(content))
        return json.loads(content)


class States:
    """The saved states: files in a folder that only this user can read, the longest unused dropped first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.RLock()
        remove_leftovers(folder.parent)

    def has(self, name: str) -> bool:
        """Whether the state is there; it then counts as used."""
        with self._lock:
            if name in self._sizes:
                self._sizes.move_to_end(name)
            return name in self._sizes

    def path(self, name: str) -> Path:
        """Return where a state is, or would be."""
        return self._folder / name

    def keep(self, name: str, size: int, *, whole: bool) -> None:
        """Take in a file that was just written, unless it is not whole (full disk)."""
        try:
            on_disk = (self._folder / name).stat().st_size
        except OSError:
            on_disk = -1
        with self._lock:
            self._sizes[name] = max(0, on_disk)
            if not whole or size != on_disk:
                self.drop(name)
            while sum(self._sizes.values()) > STATES_BYTES and len(self._sizes) > 1:
                self.drop(next(iter(self._sizes)))

    def drop(self, name: str) -> None:
        """Forget a state and delete its file."""
        with self._lock:
            self._sizes.pop(name, None)
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left behind; a process that still needs it only computes again."""
    for left in folder.glob(f"{STATES_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(left, ignore_errors=True)


def state_name(tokens: Tokens, cuts: Sequence[int]) -> str:
    """Return the name of the state after these tokens, cut there: both decide its numbers."""
    content = json.dumps([tokens[: cuts[-1]], list(cuts)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _message(content: str) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return content[:200]
