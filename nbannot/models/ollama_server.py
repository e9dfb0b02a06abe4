"""Where an Ollama server is, which version it has, and starting one on this machine."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import tempfile
from typing import IO
from urllib.parse import urlsplit

from nbannot.models.addresses import checked_address

HOST_VARIABLE = "OLLAMA_HOST"
PORT = 11434


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
