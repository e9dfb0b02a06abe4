"""How model servers are reached: one pool of HTTP connections per model, and what every server has in common.

The pool sends each request once and says how it went; asking again is the engine's business. The one exception is a
connection that the server had closed while it lay idle: then the request goes out once more on a new one, and the
exchange says so.

Texts go to the configured address and nowhere else: redirections are refused, and the loopback address is never
reached through a proxy. Keys are sent in a header, and are taken out of every error. A reply is read up to a limit,
also where it is compressed.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from nbannot.models.addresses import joined, proxy_for
from nbannot.models.exchange import (
    BROKE,
    ONE_OF_SEVERAL,
    WORDS,
    Exchange,
    code_in,
    error_in,
    failure,
    parsed,
    retry_after,
)
from nbannot.models.keys import Secret, masked

PARALLEL = 32
MOST_PARALLEL = 128
TIMEOUT_S = 120.0
CONNECT_S = 10.0
KEEPALIVE_S = 4.0
"""Shorter than servers keep an idle connection (uvicorn, node and llama.cpp: 5 s)."""

MOST_BYTES = 16 << 20
"""The largest reply that is read, unpacked; the longest answers with log-probabilities stay below."""
READ_BYTES = 1 << 16
"""As much of an error page as is looked at."""
PACKED = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""The ways in which a reply may be compressed, and what zlib calls them."""

T = TypeVar("T")


class TooLarge(ValueError):
    """A reply is larger than `MOST_BYTES`."""


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
        Sent as a bearer token, or alone in `key_header`.
    timeout_s
        Longest time from sending to the last byte.
    headers
        Sent with every request, besides those that every request has.

    Raises
    ------
    ModelError
        If the proxy that the environment names cannot be used.
    """

    def __init__(
        self,
        address: str,
        *,
        key: Secret | None = None,
        key_header: str = "",
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self._headers = dict(headers or {})
        self.timeout_s = timeout_s
        self._key, self._key_header = key, key_header
        self._sends_again = not ONE_OF_SEVERAL.get()
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
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
        }
        if self._key is not None and self._key_header:
            headers[self._key_header] = self._key.reveal()
        elif self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
            if (urlsplit(self.address).hostname or "").endswith(".azure.com"):
                headers["api-key"] = self._key.reveal()  # what Azure's older addresses ask for
        headers |= self._headers
        if not options:
            options["keepalive_timeout"] = KEEPALIVE_S
        secure: Any = ssl.create_default_context() if self.address.startswith("https") else False
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=secure, **options),
            timeout=self._limit(self.timeout_s),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._proxy,
            auto_decompress=False,
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
                joined(self.address, path),
                data=body,
                allow_redirects=False,
                timeout=limit,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                if response.status != 200:
                    yield self._read(response, await _body(response), time.perf_counter() - start)
                    return
                async for line in response.content:
                    yield self._read(response, line, time.perf_counter() - start)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            yield self._broken(error, start, None)

    async def transfer(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        size: int | None = None,
        form: aiohttp.FormData | None = None,
        to: IO[bytes] | None = None,
    ) -> Exchange:
        """Send once, on a connection of its own, and return how it went: what it starts must not start twice.

        Parameters
        ----------
        data, form
            What is sent: bytes or an open file of this size, or the parts of a form.
        to
            Takes the reply of a request that went well, of whatever size.
        """
        assert self._anew is not None, "the pool is not open"
        headers = {"Accept-Encoding": "identity"}
        if form is not None:
            data = form()
            headers["Content-Type"] = data.content_type
        elif size is not None:
            headers["Content-Length"] = str(size)
        start = time.perf_counter()
        moved = data is not None or to is not None
        limit = self._limit(self.timeout_s if moved else min(self.timeout_s, TIMEOUT_S))
        try:
            async with self._anew.request(
                method,
                joined(self.address, path),
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=limit,
            ) as response:
                if response.status == 200 and to is not None:
                    async for block in response.content.iter_any():
                        to.write(block)
                    return Exchange(200, seconds=time.perf_counter() - start)
                raw = await _body(response)
                if response.status in (201, 202) and (made := parsed(raw)) is not None:
                    return Exchange(200, made, seconds=time.perf_counter() - start)
                return self._read(response, raw, time.perf_counter() - start)
        except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
            return self._broken(error, start, None)

    async def get(self, path: str) -> Exchange:
        """Ask for a path and return how it went; nothing but a cancellation is raised."""
        return await self._send("GET", path, None, None)

    async def _send(self, method: str, path: str, body: bytes | None, timeout_s: float | None) -> Exchange:
        further: dict[str, Any] = {} if timeout_s is None else {"timeout": self._limit(timeout_s)}
        for unanswered, session in enumerate((self._session, self._anew)):
            assert session is not None, "the pool is not open"
            ON_A_NEW_CONNECTION.set(False)
            start = time.perf_counter()
            try:
                response = await session.request(
                    method, joined(self.address, path), data=body, allow_redirects=False, **further
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if self._sends_again and not ON_A_NEW_CONNECTION.get():
                    continue  # closed by the server while it lay idle: once more, on a connection of its own
                return replace(self._broken(error, start, timeout_s), unanswered=unanswered)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return replace(self._broken(error, start, timeout_s), unanswered=unanswered)
            try:
                raw = await _body(response)
                exchange = self._read(response, raw, time.perf_counter() - start)
            except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
                response.close()
                exchange = self._broken(error, start, timeout_s)
            except asyncio.CancelledError:
                response.close()
                raise
            return replace(exchange, unanswered=unanswered) if unanswered else exchange
        raise AssertionError("a connection of its own is never used again")

    def _read(self, response: aiohttp.ClientResponse, raw: bytes, seconds: float) -> Exchange:
        data, status = parsed(raw), response.status
        wrong = error_in(data) if data is not None else None
        if status == 200 and data is not None and (wrong is None or data.get("choices")):
            return Exchange(status, data, seconds=seconds)
        wait = retry_after(response.headers)
        if 300 <= status < 400:
            target = self.masked(response.headers.get("Location", "another address"))
            return Exchange(
                status, error=f"the server redirects to {target}; give that as base_url", seconds=seconds
            )
        page = raw[:READ_BYTES].decode("utf-8", "replace")
        if status == 200 and data is None:
            shown = self._cut(page)
            what = f"the server's reply is not JSON: {shown!r}" if shown else "the server's reply is empty"
            return Exchange(status, error=what, retriable=True, retry_after_s=wait, seconds=seconds)
        if status == 200:
            status = code_in(wrong)
        return failure(
            status, data or {}, page, self._cut, wait=wait, seconds=seconds, reason=response.reason or ""
        )

    def _broken(self, error: Exception, start: float, timeout_s: float | None) -> Exchange:
        seconds = time.perf_counter() - start
        lasting = aiohttp.InvalidURL | aiohttp.ClientSSLError | ssl.SSLError | TooLarge
        passing = not isinstance(error, lasting)
        what = self.masked(self._said(error, timeout_s or self.timeout_s))
        return Exchange(error=what, retriable=passing, seconds=seconds)

    def _said(self, error: Exception, timeout_s: float) -> str:
        host = urlsplit(self.address).netloc
        match error:
            case TooLarge():
                return f"the server's reply is larger than {MOST_BYTES >> 20} MB"
            case zlib.error():
                return "the server's reply cannot be unpacked"
            case aiohttp.ConnectionTimeoutError():
                return f"no connection to {host} within {min(CONNECT_S, timeout_s):g} s"
            case TimeoutError():
                return f"no reply within {timeout_s:g} s"
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                return f"the proxy {urlsplit(self._proxy or '').hostname} cannot be used: {self._cut(str(error))}"
            case aiohttp.ClientConnectorDNSError():
                return f"there is no server called {host}"
            case aiohttp.ClientSSLError() | ssl.SSLError():
                if re.search("WRONG_VERSION_NUMBER|RECORD_LAYER|HTTP_REQUEST", str(error)):
                    return f"{host} does not speak https: try http:// in the address"
                return (
                    f"the certificate of {host} is not trusted: {self._cut(str(error))} (see SSL_CERT_FILE)"
                )
            case aiohttp.ClientConnectorError():
                return (
                    f"no connection to {host}: {os.strerror(error.errno) if error.errno else error.os_error}"
                )
            case aiohttp.ClientPayloadError():
                return f"{BROKE} in the middle of the reply"
            case aiohttp.ClientConnectionError() | OSError():
                return f"{BROKE} before the reply"
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


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a reply, unpacked, up to `MOST_BYTES`; a few packed bytes can stand for gigabytes.

    Raises
    ------
    TooLarge
        If it is larger.
    zlib.error
        If it is packed in a way that is not known, or is not whole.
    """
    packing = response.headers.get("Content-Encoding", "identity").strip().casefold()
    unpack = None
    if packing not in ("", "identity"):
        if packing not in PACKED:
            response.close()
            raise zlib.error(f"packed as {packing}")
        unpack = zlib.decompressobj(PACKED[packing])
    parts: list[bytes] = []
    size = 0
    async for block in response.content.iter_any():
        if unpack is not None:
            if not parts and packing == "deflate" and block[:1] and block[0] & 0x0F != 8:
                unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers leave out the frame of deflate
            block = unpack.decompress(block, MOST_BYTES + 1 - size)
        size += len(block)
        if size > MOST_BYTES:
            response.close()
            raise TooLarge
        parts.append(block)
    if unpack is not None and not unpack.eof and size:
        raise zlib.error("not whole")
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
