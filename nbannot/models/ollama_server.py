"""Where an Ollama server is, which version it has, starting one on this machine, and having it fetch a model."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib.parse import urlsplit

from nbannot.errors import ModelError, ModelUnreached
from nbannot.models.addresses import checked_address, is_loopback
from nbannot.models.exchange import Exchange
from nbannot.models.http import Pool

START_VARIABLE = "NBANNOT_OLLAMA_START"
START_S = 20.0
HOST_VARIABLE = "OLLAMA_HOST"
PORT = 11434

Say = Callable[[str], None]


def host_address(value: str) -> str:
    """Return the address that a value of ``OLLAMA_HOST`` stands for, read as Ollama reads it.

    An address that a server listens on everywhere (``0.0.0.0``) is reached on this machine.

    >>> host_address(""), host_address("0.0.0.0"), host_address("gpu:1234"), host_address("https://example.com/ollama")
    ('http://127.0.0.1:11434', 'http://127.0.0.1:11434', 'http://gpu:1234', 'https://example.com:443/ollama')

    Raises
    ------
    ModelError
        If it holds a password.
    """
    text = value.strip().strip("\"'").strip()
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    default = {"http": 80, "https": 443}[scheme] if mark and scheme in ("http", "https") else PORT
    place, slash, path = rest.partition("/")
    if "@" in place:
        return checked_address(f"{scheme}://{place}", HOST_VARIABLE)
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif place.count(":") > 1:
        host, port = place, None
    else:
        host, _, port = place.partition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    number = int(port) if port and port.isdigit() and 0 < int(port) < 65536 else (PORT if port else default)
    shown = f"[{host}]" if ":" in host else host
    return checked_address(f"{scheme}://{shown}:{number}{slash}{path}", HOST_VARIABLE)


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version.

    >>> version_numbers("0.32.9-rc1"), version_numbers("dev")
    ((0, 32, 9), ())
    """
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, match[1].split("."))) if match else ()


class Servers:
    """The servers that this process has started, by address; they end with it."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def start(self, program: str, address: str) -> None:
        """Start ``ollama serve`` for an address, in a session of its own: an interrupt here does not end it."""
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the server ends
        process = subprocess.Popen(
            [program, "serve"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            env={**os.environ, HOST_VARIABLE: urlsplit(address).netloc},
            start_new_session=True,
        )
        if not self._running:
            atexit.register(self.end)
        self._running[address] = process, words

    def last_words(self, address: str) -> str | None:
        """Return the last line that a server wrote before it ended; ``None`` while it runs."""
        process, words = self._running[address]
        if process.poll() is None:
            return None
        words.seek(0)
        lines = words.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][-200:] if lines else f"it ended with code {process.returncode}"

    def end(self) -> None:
        """End every server that was started."""
        for process, words in self._running.values():
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
            words.close()
        self._running.clear()


SERVERS = Servers()


async def reach(pool: Pool, name: str, say: Say) -> tuple[int, ...]:
    """Make sure that an Ollama server answers, start one if that is possible and wanted, and return its version.

    Parameters
    ----------
    name
        The model that is wanted, for the letters.

    Raises
    ------
    ModelError
        If none answers, or it is not Ollama.
    """
    exchange = await pool.get("/api/version")
    if exchange.status == 0 and is_loopback(pool.address):
        _start(pool, exchange, name, say)
        exchange = await _wait(pool)
    if exchange.status == 0 or exchange.status in (401, 403, 407):
        raise (ModelUnreached if exchange.status == 0 else ModelError)(
            f"the Ollama server at {pool.address} cannot be reached: {exchange.error}.\n"
            f"  Check the address ({HOST_VARIABLE} or base_url) and the network."
        )
    version = exchange.data.get("version")
    if exchange.error is not None or not isinstance(version, str):
        raise ModelError(
            f"what answers at {pool.address} is not Ollama: {exchange.error or 'it tells no version'}.\n"
            '  A server with OpenAI\'s interface is model = "openai/<name>" with base_url.'
        )
    return version_numbers(version)


def _start(pool: Pool, exchange: Exchange, name: str, say: Say) -> None:
    program = shutil.which("ollama")
    where = f"there is no Ollama server at {pool.address} ({exchange.error})"
    if program is None:
        raise ModelError(
            f"{where}, and Ollama is not installed here.\n"
            f"  Install it from https://ollama.com/download, then type in a terminal: ollama pull {name}\n"
            '  Or use the embedded model, which needs nothing: model = "local".'
        )
    if os.environ.get(START_VARIABLE, "") == "0":
        raise ModelError(f"{where}, and {START_VARIABLE}=0.\n  Type in a terminal: ollama serve")
    say(f"Starting the Ollama server ({program} serve); it ends with Python.")
    SERVERS.start(program, pool.address)


async def _wait(pool: Pool) -> Exchange:
    """Wait until the server that was started answers."""
    deadline = time.monotonic() + START_S
    while True:
        exchange = await pool.get("/api/version")
        if exchange.status != 0:
            return exchange
        words = SERVERS.last_words(pool.address)
        if words is not None or time.monotonic() > deadline:
            raise ModelError(
                f"'ollama serve' was started and does not answer at {pool.address}: {words or 'no reply yet'}.\n"
                "  Type it in a terminal to see what is wrong: ollama serve"
            )
        await asyncio.sleep(0.1)


async def fetch(pool: Pool, name: str, say: Say) -> None:
    """Have the server fetch a model; `say` is told how far it is.

    Raises
    ------
    ModelError
        If it cannot be fetched.
    """
    last = ""
    async for step in pool.lines("/api/pull", json_bytes({"model": name, "stream": True})):
        if step.error is not None:
            words = step.error.partition(": ")[2] or step.error
            raise ModelError(
                f"'{name}' could not be fetched: {words}.\n"
                "  Its names are at https://ollama.com/search; run the same again to go on with a broken fetch."
            )
        line = _progress(name, step.data)
        if line != last:
            say(line)
            last = line


def _progress(name: str, data: Mapping[str, Any]) -> str:
    total, done = data.get("total"), data.get("completed", 0)
    if isinstance(total, int) and total and isinstance(done, int):
        return f"Fetching {name}: {100 * done // total} % of {total / 1e6:,.0f} MB"
    return f"Fetching {name}: {data.get('status', '')}"


def json_bytes(data: Mapping[str, Any]) -> bytes:
    """Return the body of a request."""
    return json.dumps(data).encode()
