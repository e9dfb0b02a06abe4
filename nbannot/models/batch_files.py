"""Batches as files, in the form of OpenAI: a file of requests is uploaded, a batch is made of it, files come back.

So speak OpenAI, Azure, Groq, and proxies; Mistral has ``/batch/jobs`` for ``/batches`` and words of its own for how one
stands. A batch is found again by the file that it was made of, which is written down before the batch is made: no
server needs to know our metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote, urlsplit

import aiohttp

from nbannot.asking.batch_lines import SentBatch
from nbannot.asking.request_reply import Reply, Request
from nbannot.models.batch_provider import Batched, ProviderBatches
from nbannot.models.batch_service import PAGES, BatchLook, CannotTell, Note, line_of, shown
from nbannot.models.exchange import Exchange, code_in, failure, server_words
from nbannot.tools.json_bytes import packed

ENDS = {
    "completed": "completed",
    "success": "completed",
    "expired": "expired",
    "timeout_exceeded": "expired",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "failed": "failed",
}
"""How a batch ends, in the words of several providers; every other word says that it is under way."""
NOT_TRIED = ("batch_expired", "batch_cancelled", "batch_canceled")
"""Codes of requests that were not worked on."""
PAGE = 100


class _Asking(Batched, Protocol):
    def reply(self, request: Request, exchange: Exchange) -> Reply: ...


class FileBatches(ProviderBatches):
    """The batches of a model behind OpenAI's interface."""

    model: _Asking
    frame = (b"", b"\n", b"\n")

    def __init__(self, model: _Asking) -> None:
        super().__init__(model)
        self._jobs = (urlsplit(model.address).hostname or "").endswith("mistral.ai")
        path = urlsplit(model.address).path
        self._endpoint = "/v1/chat/completions" if path.endswith("/v1") else "/chat/completions"
        self._path = "/batch/jobs" if self._jobs else "/batches"

    def line(self, name: str, request: Request) -> bytes:
        """Return a request as a line of the file."""
        body = self.model.body(request)
        head = packed({"custom_id": name, "method": "POST", "url": self._endpoint})
        return head[:-1] + b',"body":' + body + b"}"

    async def submit(self, batch: SentBatch, upload: Path, note: Note) -> tuple[str, Exchange]:
        """Upload the file, write down what it is called, and make a batch of it."""
        with upload.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field(
                "file", file, filename=f"nbannot-{batch.mark}.jsonl", content_type="application/jsonl"
            )
            uploaded = await self.pool.transfer("POST", "/files", form=form)
        name = uploaded.data.get("id")
        if uploaded.error is not None or not isinstance(name, str):
            return "", _failed(uploaded)
        note(state="file", file=name)
        asked: dict[str, Any] = {"endpoint": self._endpoint, "metadata": {"nbannot": batch.mark}}
        if self._jobs:
            asked |= {"input_files": [name], "model": self.model.name}
        else:
            asked |= {"input_file_id": name, "completion_window": "24h"}
        made = await self.pool.transfer("POST", self._path, data=packed(asked))
        if made.status in (400, 422) and "metadata" in made.said:
            del asked["metadata"]
            made = await self.pool.transfer("POST", self._path, data=packed(asked))
        job = made.data.get("job")
        told = job if isinstance(job, Mapping) else made.data
        provider_id = told.get("id")
        if made.error is not None or not isinstance(provider_id, str):
            return "", _failed(made)
        return provider_id, made

    async def find(self, batch: SentBatch, known: Collection[str]) -> str:
        """Return the batch that was made of our file."""
        if not batch.file:
            return ""  # the file is written down before anything is made of it
        cursor = ""
        for page in range(PAGES):
            if self._jobs:
                query = f"?page_size={PAGE}&page={page}"
            else:
                query = f"?limit={PAGE}" + (f"&after={quote(cursor)}" if cursor else "")
            listed = await self.pool.transfer("GET", self._path + query)
            batches = listed.data.get("data")
            if listed.error is not None or not isinstance(batches, list):
                raise CannotTell(line_of(_failed(listed)))
            ours = [b for b in batches if isinstance(b, Mapping) and _made_of(b, batch.file)]
            if ours:
                return str(ours[0]["id"])
            if len(batches) < PAGE and not listed.data.get("has_more"):
                return ""
            cursor = str(batches[-1]["id"]) if batches else ""
        raise CannotTell(f"the provider lists more than {PAGES * PAGE:,} batches")

    async def look(self, batch: SentBatch) -> BatchLook:
        """Return how a batch stands."""
        told = await self.pool.transfer("GET", f"{self._path}/{quote(batch.provider_id, safe='')}")
        if told.status == 404:
            return BatchLook("gone", "gone", line_of(told))
        if told.error is not None:
            return BatchLook("unknown", words=line_of(told))
        outcome = ENDS.get(str(told.data.get("status")).casefold())
        if outcome is None:
            return BatchLook("working")
        files = [
            told.data.get(name) for name in ("output_file_id", "error_file_id", "output_file", "error_file")
        ]
        paths = [f"/files/{quote(f, safe='')}/content" for f in files if isinstance(f, str) and f]
        words = shown(server_words(_errors(told.data)))
        lines, answers = _least(told.data, outcome, len(batch.names))
        return BatchLook("ended", outcome, words, tuple(dict.fromkeys(paths)), lines, answers)

    async def fetch(self, look: BatchLook, to: IO[bytes]) -> Exchange:
        """Write the files of results one after the other."""
        fetched = Exchange(200)
        for path in look.results:
            fetched = await self.pool.transfer("GET", path, to=to)
            if fetched.error is not None:
                break
            to.write(b"\n")
        return fetched

    def read(self, line: dict[str, Any]) -> tuple[str, Exchange | None]:
        """Return the name of a request and how it went."""
        name, response, error = str(line.get("custom_id") or ""), line.get("response"), line.get("error")
        if isinstance(response, Mapping):
            status = response.get("status_code")
            body = response.get("body") if "body" in response else response
            data = body if isinstance(body, dict) else {}
            if status in (200, None) and data and not data.get("error"):
                return name, Exchange(200, data)
            if not isinstance(status, int) or status == 200:
                status = code_in(data.get("error"))
            if data or not error:
                return name, failure(status, data, str(body or ""), shown)
        code = str(error.get("code") or "") if isinstance(error, Mapping) else ""
        if code in NOT_TRIED or (error is None and response is None):
            return name, None
        return name, failure(code_in(error), {"error": error}, "", shown)

    def reply(self, request: Request, exchange: Exchange) -> Reply:
        """Return the reply to a request, as if it had been sent by itself."""
        return self.model.reply(request, exchange)


def _made_of(batch: Mapping[str, Any], file: str) -> bool:
    return batch.get("input_file_id") == file or file in (batch.get("input_files") or ())


def _least(data: Mapping[str, Any], outcome: str, sent: int) -> tuple[int | None, int | None]:
    """Return how many results, and answers among them, there must be at least, by the counts of a batch that has ended.

    A batch that is complete has a line for every request that was answered or failed. One that is not may count what
    it did not try among the failures, and writes no line for it: there only the answers are looked for.
    """
    inner = data.get("request_counts")
    counts: Mapping[str, Any] = inner if isinstance(inner, Mapping) else data
    total, failed = (counts.get(name, counts.get(f"{name}_requests")) for name in ("total", "failed"))
    done = counts.get("succeeded_requests", counts.get("completed"))
    if not (isinstance(total, int) and isinstance(failed, int) and isinstance(done, int)) or not total:
        return (sent if outcome == "completed" else None), None
    if outcome == "completed":
        return min(total, done + failed), None
    return None, min(done, total - failed)


def _errors(data: Mapping[str, Any]) -> Any:
    errors = data.get("errors")
    return errors.get("data") if isinstance(errors, Mapping) else errors


def _failed(exchange: Exchange) -> Exchange:
    """Return an exchange as a failure, also where the server said yes and not what it has made."""
    if exchange.error is not None:
        return exchange
    return replace(exchange, status=0, error="the server's reply does not say what it has made")
