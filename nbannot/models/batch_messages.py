"""Anthropic's message batches: all requests in one body, results in one stream.

A batch bears no word of ours until it has ended; then its results bear the names of their requests, which begin with
our mark. One whose submission was broken off is therefore looked for among the batches of the same size that were made
since, and while one of these is under way nothing is submitted again.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote

from nbannot.asking.batch_lines import SentBatch
from nbannot.asking.request_reply import Reply, Request
from nbannot.models.anthropic_wire import read_message
from nbannot.models.batch_provider import Batched, ProviderBatches
from nbannot.models.batch_service import PAGES, BatchLook, CannotTell, Note, line_of, shown
from nbannot.models.exchange import Exchange, failure
from nbannot.tools.json_bytes import packed

PATH = "/messages/batches"
PAGE = 100
CLOCKS_DIFFER = timedelta(minutes=30)
"""How far the provider's clock may be from ours: batches made a little before ours are looked at, too."""
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP statuses of the kinds of errors, which results name without one."""
READ_TO_TELL = 1 << 16
"""Bytes of results that are read to see whose they are."""


class _Asking(Batched, Protocol):
    def failed(self, exchange: Exchange) -> Reply: ...


class MessageBatches(ProviderBatches):
    """The message batches of a model of Anthropic."""

    model: _Asking
    frame = (b'{"requests":[', b",", b"]}")

    def __init__(self, model: _Asking) -> None:
        super().__init__(model)
        model.dialect.lasting = True  # a batch takes longer than the five minutes that a cache usually keeps

    def line(self, name: str, request: Request) -> bytes:
        """Return a request as it stands among those of a batch."""
        return b'{"custom_id":' + packed(name) + b',"params":' + self.model.body(request) + b"}"

    async def submit(self, batch: SentBatch, upload: Path, note: Note) -> tuple[str, Exchange]:
        """Submit all requests at once."""
        with upload.open("rb") as file:
            made = await self.pool.transfer("POST", PATH, data=file, size=upload.stat().st_size)
        provider_id = made.data.get("id")
        if made.error is None and not isinstance(provider_id, str):
            made = replace(made, status=0, error="the server's reply does not say what it has made")
        return ("" if made.error is not None else str(provider_id)), made

    async def find(self, batch: SentBatch, known: Collection[str]) -> str:
        """Return the batch whose results bear our mark; tell apart "there is none" from "not to be seen yet"."""
        since = datetime.fromisoformat(batch.intended) - CLOCKS_DIFFER
        perhaps = 0
        async for one in self._since(since):
            name, counts = str(one.get("id")), one.get("request_counts")
            total = (
                sum(n for n in counts.values() if isinstance(n, int)) if isinstance(counts, Mapping) else 0
            )
            if name in known or total != len(batch.names):
                continue
            if one.get("processing_status") != "ended":
                perhaps += 1
            elif await self._is_ours(name, batch.mark):
                return name
        if perhaps:
            raise CannotTell(
                f"a batch of {len(batch.names):,} requests is under way that may be ours: it shows whose it is when "
                "it has ended"
            )
        return ""

    async def _since(self, since: datetime) -> Any:
        """Yield the batches made since then, newest first."""
        cursor = ""
        for _ in range(PAGES):
            query = f"?limit={PAGE}" + (f"&after_id={quote(cursor)}" if cursor else "")
            listed = await self.pool.transfer("GET", PATH + query)
            batches = listed.data.get("data")
            if listed.error is not None or not isinstance(batches, list):
                raise CannotTell(line_of(listed) or "the server does not list its batches")
            for one in batches:
                made = _time(one.get("created_at"))
                if made is not None and made < since:
                    return
                yield one
            if not listed.data.get("has_more") or not batches:
                return
            cursor = str(listed.data.get("last_id") or batches[-1].get("id"))

    async def _is_ours(self, name: str, mark: str) -> bool:
        begin = _Beginning()
        told = await self.pool.transfer("GET", f"{PATH}/{quote(name, safe='')}/results", to=begin)
        if told.error is not None and not begin.getvalue():
            raise CannotTell(line_of(told))
        return f'"{mark}-'.encode() in begin.getvalue()

    async def look(self, batch: SentBatch) -> BatchLook:
        """Return how a batch stands."""
        told = await self.pool.transfer("GET", f"{PATH}/{quote(batch.provider_id, safe='')}")
        if told.status == 404:
            return BatchLook("gone", "gone", line_of(told))
        if told.error is not None:
            return BatchLook("unknown", words=line_of(told))
        if told.data.get("processing_status") != "ended":
            return BatchLook("working")
        if not told.data.get("results_url"):
            return BatchLook("gone", "gone", "its results are no longer kept")
        outcome = "cancelled" if told.data.get("cancel_initiated_at") else "completed"
        counts = told.data.get("request_counts")
        if isinstance(counts, Mapping) and counts.get("expired"):
            outcome = "expired"
        path = f"{PATH}/{quote(batch.provider_id, safe='')}/results"
        lines = sum(n for n in counts.values() if isinstance(n, int)) if isinstance(counts, Mapping) else None
        return BatchLook("ended", outcome, "", (path,), len(batch.names) if lines is None else lines)

    async def fetch(self, look: BatchLook, to: IO[bytes]) -> Exchange:
        """Write the results, from the place that the batch has at the server we know (a link may lead anywhere)."""
        return await self.pool.transfer("GET", look.results[0], to=to)

    def read(self, line: dict[str, Any]) -> tuple[str, Exchange | None]:
        """Return the name of a request and how it went."""
        name, told = str(line.get("custom_id") or ""), line.get("result")
        result: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
        kind = result.get("type")
        if kind == "succeeded" and isinstance(result["message"], dict):
            return name, Exchange(200, result["message"])
        if kind != "errored":
            return name, None
        told = result.get("error")
        inner: Any = told.get("error") if isinstance(told, Mapping) and "error" in told else told
        kind = str(inner.get("type") or "") if isinstance(inner, Mapping) else ""
        return name, failure(STATUS.get(kind, 500), {"type": "error", "error": inner}, "", shown)

    def reply(self, request: Request, exchange: Exchange) -> Reply:
        """Return the reply to a request, as if it had been sent by itself."""
        return read_message(exchange.data) if exchange.error is None else self.model.failed(exchange)


class _Beginning(io.BytesIO):
    """Takes the beginning of what it is written."""

    def write(self, block: Any) -> int:
        if self.tell() < READ_TO_TELL:
            super().write(block)
            return len(block)
        raise BlockingIOError  # enough: the transfer ends


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
