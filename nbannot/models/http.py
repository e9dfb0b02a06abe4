"""How model servers are reached: one pool of HTTP connections per model, and what every server has in common.

The pool sends each request once and says how it went; asking again is the engine's business. The one exception is a
connection that the server had closed while it lay idle: then the request goes out once more on a new one.

Texts go to the configured address and nowhere else: redirections are refused, and the loopback address is never
reached through a proxy. Keys come from the environment, are sent in a header, and are taken out of everything that is
handed on.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import os
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from nbannot.asking.request_reply import Reply
from nbannot.errors import ModelError
from nbannot.tools.json_bytes import unpacked

PARALLEL = 32
MOST_PARALLEL = 128
TIMEOUT_S = 120.0
CONNECT_S = 10.0
KEEPALIVE_S = 4.0
"""Shorter than servers keep an idle connection (uvicorn, node and llama.cpp: 5 s)."""

RETRIABLE = frozenset({408, 425, 429}) | frozenset(range(500, 600)) - {501, 505}
WORDS = 300
"""Most characters of a server's own words in an error."""

SECRET_VARIABLES = (
    "NBANNOT_API_KEY",
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OLLAMA_API_KEY",
)
KEY_LIKE = re.compile(r"\b(sk|pk|hf|gsk|xai|nvapi|r8|key)([-_])[A-Za-z0-9_*-]{8,}")

T = TypeVar("T")


# ---- addresses --------------------------------------------------------------------------------------------------


def checked_address(address: str, source: str) -> str:
    """Return the address of a server without the slash at its end.

    Parameters
    ----------
    source
        Where it comes from, for the error.

    Raises
    ------
    ModelError
        If it is no http(s) address, or holds a password.
    """
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(
            f"{source} must be an address such as http://localhost:8000/v1. Got '{masked(address)}'.\n"
            "  Write it with http:// or https:// in front."
        )
    if parts.username is not None or parts.password is not None:
        raise ModelError(
            f"{source} holds a password; addresses are written into config.json.\n"
            "  Take out what stands before the @, and put the key into NBANNOT_API_KEY."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def is_loopback(address: str) -> bool:
    """Return whether an address leads to this machine.

    A tunnel or a container that listens on the loopback address counts as this machine: it cannot be told apart.
    """
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(address: str) -> str | None:
    """Return the proxy that the environment names for an address, or ``None``; ``NO_PROXY`` is respected.

    Raises
    ------
    ModelError
        If it is of a kind that cannot be used.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    if is_loopback(address) or urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise ModelError(
            f"the proxy for {host} is of the kind '{urlsplit(proxy).scheme}', which is not supported.\n"
            f"  Name an http proxy in HTTPS_PROXY, or add {host} to NO_PROXY."
        )
    return proxy


# ---- secrets ----------------------------------------------------------------------------------------------------


class Secret:
    """A key that does not show itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key, for the header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


def key_from(*variables: str) -> Secret | None:
    """Return the key in the first of these environment variables that holds one.

    Raises
    ------
    ModelError
        If it cannot be a key.
    """
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if not value:
            continue
        if not re.fullmatch(r"[\x21-\x7e]+", value):
            raise ModelError(
                f"{variable} holds a character that no key has (a space, a line break, a letter with an accent).\n"
                f"  Set {variable} again, with the key alone."
            )
        return Secret(value)
    return None


def _known_secrets() -> list[str]:
    """Return the keys in the environment, longest first."""
    names = [name for name in os.environ if name in SECRET_VARIABLES or name.startswith("NBANNOT_API_KEY_")]
    found = {os.environ[name].strip() for name in names}
    return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text for people without any known key, what looks like one, and passwords in addresses.

    >>> masked("Incorrect API key provided: sk-proj-0123456789", ["topsecret"])
    'Incorrect API key provided: sk-…'
    """
    for secret in [*secrets, *_known_secrets()]:
        text = text.replace(secret, "…")
    text = KEY_LIKE.sub(r"\1\2…", text)
    return re.sub(r"(?<=//)[^/\s@]+@", "…@", text)


def _without(secret: bytes, raw: bytes) -> bytes:
    """Return a reply without the key it was asked with.

    A short key may be a word of the reply (servers without keys are given ``EMPTY`` or ``not-needed``): it stays.
    """
    if len(secret) < 16 or not any(chr(c).isdigit() for c in secret):
        return raw
    return raw.replace(secret, "…".encode()).replace(secret.replace(b"/", b"\\/"), "…".encode())


# ---- one exchange -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """How one HTTP request went.

    Attributes
    ----------
    status
        The HTTP status; 0 when there was no reply.
    data
        The JSON object of the reply; empty when there is none.
    error
        Why the reply is of no use, with the server's own words; ``None`` when it is.
    seconds
        From sending to the last byte.
    """

    status: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    retriable: bool = False
    retry_after_s: float | None = None
    seconds: float = 0.0

    def failed(self) -> Reply:
        """Return the `Reply` for a request that went wrong."""
        return Reply(
            error=self.error,
            retriable=self.retriable,
            retry_after_s=self.retry_after_s,
            finish_reason="error",
            seconds=self.seconds,
        )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that a server asks to be left alone: ``Retry-After`` as a number or a date.

    >>> retry_after({"Retry-After": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({"Retry-After": "soon"})
    (7.0, 0.25, None)
    """
    if re.fullmatch(r"\d{1,9}(\.\d+)?", headers.get("retry-after-ms", "")):
        return float(headers["retry-after-ms"]) / 1000
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, when - (time.time() if now is None else now))


def server_words(data: object, raw: str = "") -> str:
    """Return what a server says went wrong, in the forms that servers have for it.

    >>> server_words({"error": {"message": "no such model"}}), server_words({"detail": [{"loc": ["body", "seed"],
    ...     "msg": "Extra inputs are not permitted"}]})
    ('no such model', 'body.seed: Extra inputs are not permitted')
    """
    if isinstance(data, str):
        inner = _parsed(data) if data.lstrip().startswith("{") else None
        return server_words(inner) if inner else data
    if isinstance(data, list):
        return "; ".join(server_words(item) for item in data[:3])
    if isinstance(data, Mapping):
        where = data.get("loc")
        if isinstance(where, list) and "msg" in data:
            return f"{'.'.join(map(str, where))}: {data['msg']}"
        for name in ("error", "message", "detail", "msg", "error_message"):
            if data.get(name):
                return server_words(data[name])
    text = re.sub(r"<[^>]*>", " ", raw) if raw.lstrip().startswith("<") else raw
    return " ".join(text.split())


def _parsed(raw: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in a reply, or ``None``."""
    try:
        data = unpacked(raw)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


ON_A_NEW_CONNECTION: ContextVar[bool] = ContextVar("on_a_new_connection", default=True)
"""Whether the connection of the request under way in this task was made for it."""


class _Connector(aiohttp.TCPConnector):
    """Tells in `ON_A_NEW_CONNECTION` when one is made (aiohttp's own tracing of it costs a fifth of a request)."""

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        ON_A_NEW_CONNECTION.set(True)
        return await super()._create_connection(req, traces, timeout)


class Pool:
    """The connections to one server; made in `open`, given back in `close`.

    Parameters
    ----------
    address
        Where paths are added to, e.g. ``http://localhost:8000/v1``.
    key
        Sent as a bearer token.
    timeout_s
        Longest time from sending to the last byte.

    Raises
    ------
    ModelError
        If the proxy that the environment names cannot be used.
    """

    def __init__(self, address: str, *, key: Secret | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._key = key
        self._proxy = proxy_for(address)
        self._session: aiohttp.ClientSession | None = None
        self._anew: aiohttp.ClientSession | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._session is not None

    async def open(self) -> None:
        """Get ready in the running event loop; connections are made when they are needed."""
        await self.close()
        self._session = self._new_session()
        self._anew = self._new_session(force_close=True)

    async def close(self) -> None:
        """Give back every connection; a closed pool can be opened again."""
        sessions = self._session, self._anew
        self._session = self._anew = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _new_session(self, **options: Any) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        if not options:
            options["keepalive_timeout"] = KEEPALIVE_S
        secure: Any = ssl.create_default_context() if self.address.startswith("https") else False
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=secure, **options),
            timeout=self._limit(self.timeout_s),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
        )

    async def post(self, path: str, body: bytes, timeout_s: float | None = None) -> Exchange:
        """Send a JSON body and return how it went; nothing but a cancellation is raised."""
        return await self._send("POST", path, body, timeout_s)

    async def lines(self, path: str, body: bytes) -> AsyncIterator[Exchange]:
        """Send a JSON body and yield each line of the reply as it comes; the last one may have an `error`.

        The time-out counts from line to line.
        """
        assert self._session is not None, "the pool is not open"
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self.timeout_s)
        start = time.perf_counter()
        try:
            async with self._session.post(
                self.address + path,
                data=body,
                allow_redirects=False,
                timeout=limit,
            ) as response:
                if response.status != 200:
                    yield self._read(response, await response.read(), time.perf_counter() - start)
                    return
                async for line in response.content:
                    yield self._read(response, line, time.perf_counter() - start)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            yield self._broken(error, start, None)

    async def get(self, path: str) -> Exchange:
        """Ask for a path and return how it went; nothing but a cancellation is raised."""
        return await self._send("GET", path, None, None)

    async def _send(self, method: str, path: str, body: bytes | None, timeout_s: float | None) -> Exchange:
        further: dict[str, Any] = {} if timeout_s is None else {"timeout": self._limit(timeout_s)}
        for session in (self._session, self._anew):
            assert session is not None, "the pool is not open"
            ON_A_NEW_CONNECTION.set(False)
            start = time.perf_counter()
            try:
                response = await session.request(
                    method, self.address + path, data=body, allow_redirects=False, **further
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if not ON_A_NEW_CONNECTION.get():
                    continue  # closed by the server while it lay idle: once more, on a connection of its own
                return self._broken(error, start, timeout_s)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return self._broken(error, start, timeout_s)
            try:
                raw = await response.read()
            except (aiohttp.ClientError, OSError, ValueError) as error:
                response.close()
                return self._broken(error, start, timeout_s)
            except asyncio.CancelledError:
                response.close()
                raise
            return self._read(response, raw, time.perf_counter() - start)
        raise AssertionError("a connection of its own is never used again")

    def _read(self, response: aiohttp.ClientResponse, raw: bytes, seconds: float) -> Exchange:
        if self._key is not None:
            raw = _without(self._key.reveal().encode(), raw)
        data, status = _parsed(raw), response.status
        if status == 200 and data is not None and not (data.get("error") and "choices" not in data):
            return Exchange(status, data, seconds=seconds)
        wait = retry_after(response.headers)
        if 300 <= status < 400:
            target = self.masked(response.headers.get("Location", "another address"))
            return Exchange(
                status, error=f"the server redirects to {target}; give that as base_url", seconds=seconds
            )
        if status == 200 and data is None:
            shown = self._cut(raw.decode("utf-8", "replace"))
            what = f"the server's reply is not JSON: {shown!r}" if shown else "the server's reply is empty"
            return Exchange(status, error=what, retriable=True, retry_after_s=wait, seconds=seconds)
        if status == 200 and data is not None:
            status = _code_in(data)
        words = self._cut(server_words(data, raw.decode("utf-8", "replace"))) or response.reason or ""
        return Exchange(
            status,
            data or {},
            f"HTTP {status}: {words}",
            status in RETRIABLE and not _spent(data),
            wait,
            seconds,
        )

    def _broken(self, error: Exception, start: float, timeout_s: float | None) -> Exchange:
        seconds = time.perf_counter() - start
        passing = not isinstance(error, aiohttp.InvalidURL | aiohttp.ClientSSLError | ssl.SSLError)
        what = self.masked(self._said(error, timeout_s or self.timeout_s))
        return Exchange(error=what, retriable=passing, seconds=seconds)

    def _said(self, error: Exception, timeout_s: float) -> str:
        host = urlsplit(self.address).netloc
        match error:
            case aiohttp.ConnectionTimeoutError():
                return f"no connection to {host} within {min(CONNECT_S, timeout_s):g} s"
            case TimeoutError():
                return f"no reply within {timeout_s:g} s"
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                return f"the proxy {urlsplit(self._proxy or '').hostname} cannot be used: {self._cut(str(error))}"
            case aiohttp.ClientConnectorDNSError():
                return f"there is no server called {host}"
            case aiohttp.ClientSSLError() | ssl.SSLError():
                return (
                    f"the certificate of {host} is not trusted: {self._cut(str(error))} (see SSL_CERT_FILE)"
                )
            case aiohttp.ClientConnectorError():
                return (
                    f"no connection to {host}: {os.strerror(error.errno) if error.errno else error.os_error}"
                )
            case aiohttp.ClientPayloadError():
                return "the connection broke in the middle of the reply"
            case aiohttp.ClientConnectionError() | OSError():
                return "the connection broke before the reply"
        return f"the exchange with {host} failed: {self._cut(str(error)) or type(error).__name__}"

    def masked(self, text: str) -> str:
        """Return a text for people without the pool's key and any other known one."""
        return masked(text, [self._key.reveal()] if self._key else [])

    def _cut(self, text: str) -> str:
        flat = " ".join(self.masked(text).split())
        return flat if len(flat) <= WORDS else flat[: WORDS - 1] + "…"

    def _limit(self, timeout_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=timeout_s, sock_connect=min(CONNECT_S, timeout_s), ceil_threshold=float("inf")
        )

    def __repr__(self) -> str:
        return f"<Pool of {self.address}>"


def _code_in(data: Mapping[str, Any]) -> int:
    """Return the HTTP status that an error inside a reply with status 200 stands for."""
    inner = data["error"]
    code = inner.get("code") if isinstance(inner, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _spent(data: Mapping[str, Any] | None) -> bool:
    """Return whether the server refuses because the account has nothing left: waiting does not help."""
    inner = (data or {}).get("error")
    return isinstance(inner, Mapping) and "insufficient_quota" in (inner.get("code"), inner.get("type"))


# ---- from plain calls -------------------------------------------------------------------------------------------


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, run to its end in a thread of its own.

    Works whether or not an event loop runs in the calling thread (in a notebook one does); an interrupt cancels it.
    """
    box: dict[str, Any] = {}
    ready, done = threading.Event(), threading.Event()

    async def main() -> None:
        box["task"], box["loop"] = asyncio.current_task(), asyncio.get_running_loop()
        ready.set()
        box["result"] = await work

    def worker() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread
            box["error"] = error
        finally:
            done.set()

    thread = threading.Thread(target=worker, name="nbannot-call", daemon=True)
    thread.start()
    try:
        while not done.wait(0.1):
            pass
    except KeyboardInterrupt:
        if ready.wait(1):
            box["loop"].call_soon_threadsafe(box["task"].cancel)
        raise
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["result"]  # type: ignore[no-any-return]


def parallel_for(max_parallel: int | None, default: int = PARALLEL) -> int:
    """Return how many requests are worth having in flight: the given number up to 128, else the default."""
    return min(max_parallel or default, MOST_PARALLEL)
