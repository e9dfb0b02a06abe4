"""Anthropic's models through their own Messages API: structured output, prompt caching, thinking.

The key comes from ``NBANNOT_API_KEY_<HOST>``, ``NBANNOT_API_KEY`` or ``ANTHROPIC_API_KEY``, which goes to Anthropic's
hosts and the one in ``ANTHROPIC_BASE_URL`` only (see `nbannot.models.keys`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, listed, nearest
from nbannot.models.addresses import checked_address, is_loopback, not_reached, without_end
from nbannot.models.anthropic_wire import Dialect, read_message
from nbannot.models.chat import failed_reply, too_long
from nbannot.models.exchange import Exchange
from nbannot.models.http import TIMEOUT_S, Pool, at_once, parallel_for
from nbannot.models.keys import OWN_KEY, key_for

if TYPE_CHECKING:
    from nbannot.models.batch_messages import MessageBatches

DEFAULT_URL = "https://api.anthropic.com"
ADDRESS_VARIABLE = "ANTHROPIC_BASE_URL"
KEY_VARIABLES = (OWN_KEY, "ANTHROPIC_API_KEY")
VERSION = "2023-06-01"
MESSAGES = "/messages"
INFO_TIMEOUT_S = 20.0
MOST_SENDS = 8
"""How often one request may be sent while each refusal teaches something."""
WORTH_CACHING = 3_000
"""Characters of a shared beginning below which no model caches it (the least is 1,024 tokens)."""


class AnthropicModel:
    """A model of Anthropic, or of a server that speaks its Messages API.

    Parameters
    ----------
    name
        E.g. ``claude-haiku-4-5``; an alias becomes the dated name that the API gives for it.
    base_url
        Where ``/v1/messages`` is added; ``ANTHROPIC_BASE_URL``, else Anthropic's own address, when left out.
    context_size
        The context to record where the server does not tell its own.
    max_parallel
        Most requests in flight, up to 128; 32 unless told.

    Raises
    ------
    ModelError
        If the address or the key in the environment cannot be one.

    Notes
    -----
    The first request of a question is answered before the others with the same beginning are sent: what they share is
    then in the provider's cache, and is written to it once.
    """

    answer_modes: tuple[AnswerMode, ...] = ("generate",)

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        context_size: int | None = None,
        timeout_s: float = TIMEOUT_S,
        max_parallel: int | None = None,
        **_: Any,
    ) -> None:
        source = "base_url" if base_url else ADDRESS_VARIABLE
        given = base_url or os.environ.get(ADDRESS_VARIABLE, "").strip() or DEFAULT_URL
        self.name = name
        self.address = _with_v1(without_end(checked_address(given, source), MESSAGES, "/models"))
        self.parallel = parallel_for(max_parallel)
        self._context_size = context_size
        self.key = key_for(self.address, *KEY_VARIABLES)
        self.dialect = Dialect()
        self._seeded = self._thought = False
        self._cached: dict[str, asyncio.Event] = {}
        self.pool = self.new_pool(timeout_s)
        self._info: ModelInfo | None = None

    # ---- what it is -------------------------------------------------------------------------------------------

    def info(self) -> ModelInfo:
        """Return what the server says of the model; asks it once.

        Raises
        ------
        ModelError
            If the server cannot be reached, refuses the key, or does not have the model.
        """
        if self._info is None:
            self._info = at_once(self._ask_about())
        return self._info

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the model takes, as far as its replies have told: format, thinking, parameters left out."""
        return self.dialect.told(seeded=self._seeded, thought=self._thought)

    async def _ask_about(self) -> ModelInfo:
        if not self.name:
            raise ModelError(
                'a model needs a name.\n  Type for instance model = "anthropic/claude-haiku-4-5".'
            )
        pool = self.new_pool(INFO_TIMEOUT_S)
        await pool.open()
        try:
            exchange = await pool.get(f"/models/{quote(self.name, safe='')}")
            if exchange.status in (401, 403):
                raise ModelError(self.key.no_entry(self.address, exchange.error, KEY_VARIABLES))
            if exchange.status == 0 or exchange.status == 407 or 300 <= exchange.status < 400:
                raise ModelError(not_reached(self.address, exchange.error))
            if exchange.error is not None and exchange.status == 404:
                names = _names(await pool.get("/models?limit=1000"))
                if names:
                    words = (
                        f"the server at {self.address} has no model '{self.name}'{nearest(self.name, names) or '.'}\n"
                        f"  It has: {listed(sorted(names), 12)}."
                    )
                    raise ModelError(pool.masked(words))
        finally:
            await pool.close()
        entry: Mapping[str, Any] = exchange.data if exchange.error is None else {}
        asked, self.name = self.name, str(entry.get("id") or self.name)
        local = is_loopback(self.address)
        notes = [] if entry else ["The server does not list its models: the name was not checked."]
        if not local and self.address.startswith("http://"):
            notes.append("Texts and key go to the server unencrypted (http).")
        told = ("display_name", "created_at")
        details = {k: pool.masked(entry[k]) for k in told if isinstance(entry.get(k), str)}
        if asked != self.name:
            details["asked_as"] = asked
        context = entry.get("max_input_tokens")
        return ModelInfo(
            name=self.name,
            backend="anthropic",
            context_size=context if isinstance(context, int) else self._context_size,
            endpoint=self.address,
            is_local=local,
            energy_measured=local,
            notes=tuple(notes),
            details=details,
        )

    # ---- requests ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Get ready for requests in the running event loop."""
        self._cached.clear()
        await self.pool.open()

    async def close(self) -> None:
        """Give back the connections."""
        await self.pool.close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""
        if not self.pool.is_open:
            await self.pool.open()
        start = request.messages[-1]["content"][: request.shared] if len(request.messages) == 1 else ""
        if len(start) < WORTH_CACHING:
            return await self._ask(request)
        written = self._cached.get(start)
        if written is not None:
            await written.wait()
            return await self._ask(request)
        written = self._cached[start] = asyncio.Event()
        try:
            return await self._ask(request)
        finally:
            written.set()

    async def _ask(self, request: Request) -> Reply:
        self._seeded = self._seeded or request.seed is not None
        self._thought = self._thought or bool(request.reasoning)
        unanswered = 0
        for number in range(1, MOST_SENDS + 1):
            sent = self.body(request)
            exchange = await self.pool.post(MESSAGES, sent)
            unanswered += exchange.unanswered
            if exchange.error is None:
                return replace(read_message(exchange.data, exchange.seconds), unanswered=unanswered)
            learned_meanwhile = exchange.status == 400 and self.body(request) != sent
            if number == MOST_SENDS or not (learned_meanwhile or self.dialect.learn(request, exchange)):
                break
        return replace(self.failed(exchange), unanswered=unanswered)

    def body(self, request: Request) -> bytes:
        """Return what is sent for a request, with what has been learned so far."""
        return self.dialect.body(request, self.name)

    def failed(self, exchange: Exchange) -> Reply:
        """Return the reply to a failed request."""
        if exchange.status == 413:
            return too_long(None, None, exchange.error or "")
        return failed_reply(exchange)

    def batches(self) -> MessageBatches:
        """Return the batches of this model: requests that are answered later, at a lower price."""
        from nbannot.models.batch_messages import MessageBatches

        return MessageBatches(self)

    # ---- key and words ----------------------------------------------------------------------------------------

    def new_pool(self, timeout_s: float) -> Pool:
        """Return connections to the server, with the key where this API wants it."""
        headers = {"anthropic-version": VERSION}
        return Pool(
            self.address, key=self.key.key, key_header="x-api-key", timeout_s=timeout_s, headers=headers
        )

    def __repr__(self) -> str:
        return f"<AnthropicModel '{self.name}' at {self.address}>"


def _with_v1(address: str) -> str:
    base, mark, query = address.partition("?")
    return address if base.endswith("/v1") else f"{base}/v1{mark}{query}"


def _names(exchange: Exchange) -> list[str]:
    listing = exchange.data.get("data")
    if exchange.error is not None or not isinstance(listing, list):
        return []
    return [str(item["id"]) for item in listing if isinstance(item, Mapping) and item.get("id")]
