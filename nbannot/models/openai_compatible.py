"""Models behind OpenAI's chat completions interface, told apart by ``base_url`` alone.

OpenAI itself, hosted providers, vLLM, SGLang, llama.cpp's server, LM Studio and others.

The key comes from the environment: ``NBANNOT_API_KEY_<HOST>`` (the host in capitals, other characters as ``_``, e.g.
``NBANNOT_API_KEY_API_TOGETHER_XYZ``), else ``NBANNOT_API_KEY``, else ``OPENAI_API_KEY``, which goes to OpenAI's hosts
and the one in ``OPENAI_BASE_URL`` only (see `nbannot.models.keys`). A server on this machine needs none.

Each request is sent with everything the settings ask for. What a server says it does not take is left out from then on
and kept with the server's words in `OpenAIModel.capabilities`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, ModelUnreached, listed, nearest
from nbannot.models.addresses import checked_address, is_loopback, not_reached, without_end
from nbannot.models.chat import charged_by_openrouter, failed_reply, read_completion
from nbannot.models.dialect import Dialect, own_switch
from nbannot.models.endings import is_refused
from nbannot.models.exchange import Exchange
from nbannot.models.http import TIMEOUT_S, Pool, at_once, parallel_for
from nbannot.models.keys import OWN_KEY, key_for
from nbannot.models.logprobs import NoScore, option_probabilities

if TYPE_CHECKING:
    from nbannot.models.batch_files import FileBatches

DEFAULT_URL = "https://api.openai.com/v1"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
MISTRAL = "api.mistral.ai"
"""Where the seed has another name."""
OPENROUTER = "openrouter.ai"
"""Where replies say what they cost."""

KEY_VARIABLES = (OWN_KEY, "OPENAI_API_KEY")
INFO_TIMEOUT_S = 20.0
CHAT = "/chat/completions"


class OpenAIModel:
    """A model of a server with OpenAI's interface.

    Parameters
    ----------
    name
        The model's name on that server; may be left out where the server has only one.
    base_url
        Where ``/chat/completions`` is added; ``OPENAI_BASE_URL``, else OpenAI's own address, when left out. An address
        without ``/v1`` is also tried with it.
    context_size
        The context to record where the server does not tell its own; the server decides what fits.
    max_parallel
        Most requests in flight, up to 128; 32 unless told.

    Raises
    ------
    ModelError
        If the address or the key in the environment cannot be one.

    Notes
    -----
    ``answer_mode = "score"`` needs a server that returns log-probabilities for every option at the place where the
    options part (see `nbannot.models.logprobs`); without them the reply is an error that says so.

    Energy is measured for a server on this machine only: what a server elsewhere uses is not known here.
    """

    answer_modes: tuple[AnswerMode, ...] = ("generate", "score")

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
        self.address = without_end(
            checked_address(given, source), CHAT, "/completions", "/models", "/responses"
        )
        self.parallel = parallel_for(max_parallel)
        self._context_size = context_size
        self._timeout_s = timeout_s
        self.key = key_for(self.address, *KEY_VARIABLES)
        host = urlsplit(self.address).hostname or ""
        self._is_openai = host == urlsplit(DEFAULT_URL).hostname
        if self._is_openai:
            self.dialect = Dialect("max_completion_tokens", "reasoning_effort")
        elif host == MISTRAL:
            self.dialect = Dialect(seed_name="random_seed")
        elif own := own_switch(host):
            self.dialect = Dialect(switch=own)
        else:
            self.dialect = Dialect()
        self._bills = host == OPENROUTER
        self._thought = False
        self._pool = self.new_pool(timeout_s)
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
        """What the server takes, as far as its replies have told: format, parameters left out, thinking seen."""
        return {**self.dialect.told(), "reasoning_seen": self._thought}

    async def _ask_about(self) -> ModelInfo:
        pool = self.new_pool(INFO_TIMEOUT_S)
        await pool.open()
        try:
            models = await self._models(pool)
            entry = await self._entry(pool, models)
            details = {
                k: pool.masked(v) if isinstance(v, str) else v
                for k in ("owned_by", "root", "created")
                if isinstance(v := entry.get(k), str | int)
            }
            local = is_loopback(self.address)
            notes = []
            if models is None:
                notes.append("The server does not list its models: the name was not checked.")
            elif not entry:
                notes.append("The server lists models by kind, not by name: the name was not checked.")
            if not local and self.address.startswith("http://"):
                notes.append("Texts and key go to the server unencrypted (http).")
            return ModelInfo(
                name=self.name,
                backend="openai",
                context_size=self._context_of(entry),
                server=await self._server(pool) if local else None,
                endpoint=self.address,
                is_local=local,
                energy_measured=local,
                notes=tuple(notes),
                details=details,
            )
        finally:
            await pool.close()

    async def _models(self, pool: Pool) -> dict[str, Mapping[str, Any]] | None:
        """Return the server's models by name, or ``None`` if it does not tell; finds out whether /v1 is missing."""
        exchange = await pool.get("/models")
        models = _model_list(exchange)
        if models is None and exchange.status not in (0, 401, 403, 407) and not 300 <= exchange.status < 400:
            other = _with_v1(self.address)
            if other != self.address:
                pool.address = other
                models = _model_list(await pool.get("/models"))
                pool.address = self.address
            if models is not None and other.startswith(self.address.partition("?")[0]):
                self.address = self._pool.address = pool.address = other
            elif models is not None:
                raise ModelError(
                    f"there is no model behind the address {self.address}: {exchange.error}.\n"
                    f'  The server lists its models at another one: base_url = "{other}".'
                )
        if exchange.status in (401, 403):
            raise ModelError(self.key.no_entry(self.address, exchange.error, KEY_VARIABLES))
        if exchange.status == 0:
            raise ModelUnreached(not_reached(self.address, exchange.error))
        if exchange.status == 407 or 300 <= exchange.status < 400:
            raise ModelError(not_reached(self.address, exchange.error))
        return models

    async def _entry(self, pool: Pool, models: dict[str, Mapping[str, Any]] | None) -> Mapping[str, Any]:
        """Return what the server says of this model."""
        if models is None:
            if not self.name:
                raise ModelError('a model needs a name.\n  Type model = "openai/<name on the server>".')
            return {}
        if not self.name and len(models) == 1:
            self.name = next(iter(models))
        for name in (self.name, f"models/{self.name}"):
            if name in models:
                return models[name]
        if self.name:
            if any("*" in name and fnmatchcase(self.name, name) for name in models):
                return {}  # a proxy that hands on every model of a kind
            alone = await pool.get(f"/models/{quote(self.name, safe='/:')}")
            if alone.error is None and alone.data.get("id"):
                return alone.data
        what = "has several models."
        if self.name:
            what = f"has no model '{self.name}'{nearest(self.name, models) or '.'}"
        has = f"It has: {listed(sorted(models), 12)}." if models else "It lists none."
        raise ModelError(pool.masked(f"the server at {self.address} {what}\n  {has}"))

    def _context_of(self, entry: Mapping[str, Any]) -> int | None:
        meta = entry.get("meta")
        sources = [entry, meta] if isinstance(meta, Mapping) else [entry]
        for source in sources:
            for name in ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx"):
                if isinstance(source.get(name), int):
                    return int(source[name])
        return self._context_size

    async def _server(self, pool: Pool) -> str | None:
        """Return name and version of a server on this machine, where it has a place that tells them."""
        root = self.new_pool(INFO_TIMEOUT_S)
        root.address = without_end(self.address, "/v1")
        await root.open()
        try:
            props, version = await root.get("/props"), await root.get("/version")
        finally:
            await root.close()
        if isinstance(props.data.get("build_info"), str) and props.error is None:
            return f"llama.cpp {props.data['build_info']}"
        if isinstance(version.data.get("version"), str) and version.error is None:
            return f"vLLM {version.data['version']}"
        return None

    # ---- requests ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Get ready for requests in the running event loop."""
        await self._pool.open()

    async def close(self) -> None:
        """Give back the connections."""
        await self._pool.close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""
        if not self._pool.is_open:
            await self._pool.open()
        exchange = await self.dialect.exchange(request, self.body, lambda body: self._pool.post(CHAT, body))
        return self.reply(request, exchange)

    def reply(self, request: Request, exchange: Exchange) -> Reply:
        """Return the reply to a request, from how its exchange went."""
        if exchange.error is not None:
            refused = request.answer_mode == "score" and re.search(
                r"log-?_?probs?\b|logprobabilit", exchange.said, re.I
            )
            if refused and exchange.status in (400, 403, 404, 422):
                why = f"no label probabilities: {exchange.error}".rstrip(".")
                return replace(exchange.failed(), error=f'{why}; use answer_mode = "generate"')
            return self._failed(exchange)
        reply = read_completion(exchange)
        if self._bills:
            reply = replace(reply, charged=charged_by_openrouter(exchange.data))
        self._thought = self._thought or bool(reply.reasoning)
        return _scored(request, exchange, reply) if request.answer_mode == "score" else reply

    def body(self, request: Request) -> bytes:
        """Return what is sent for a request, with what has been learned so far."""
        return self.dialect.body(request, self.name)

    def batches(self) -> FileBatches:
        """Return the batches of this model: requests that are answered later, at a lower price."""
        from nbannot.models.batch_files import FileBatches

        return FileBatches(self)

    # ---- key and words ----------------------------------------------------------------------------------------

    def new_pool(self, timeout_s: float) -> Pool:
        """Return connections to the server, with the key that goes there."""
        return Pool(self.address, key=self.key.key, timeout_s=timeout_s)

    def _failed(self, exchange: Exchange) -> Reply:
        """Return the reply to a failed request; one that is not found, and not for the model, is at a wrong address."""
        reply = failed_reply(exchange)
        if reply.error is None or exchange.status != 404 or "model" in (reply.error or "").casefold():
            return reply
        return replace(reply, error=f"{reply.error} ({CHAT} at {self.address}; most base_url end in /v1)")

    def __repr__(self) -> str:
        return f"<OpenAIModel '{self.name}' at {self.address}>"


def _with_v1(address: str) -> str:
    """Return an address with /v1 at its end: added, or in place of its whole path where it ends in /v1 already."""
    base, mark, query = address.partition("?")
    if not base.endswith("/v1"):
        return f"{base}/v1{mark}{query}"
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}/v1{mark}{query}"


def _model_list(exchange: Exchange) -> dict[str, Mapping[str, Any]] | None:
    data = exchange.data.get("data")
    if exchange.error is not None or not isinstance(data, list):
        return None
    return {str(item["id"]): item for item in data if isinstance(item, Mapping) and item.get("id")}


def _scored(request: Request, exchange: Exchange, reply: Reply) -> Reply:
    """Return the reply with the options' probabilities, or the reason why they cannot be had."""
    if reply.error is not None or (reply.finish_reason == "refusal" or is_refused(reply)):
        return reply
    inner = exchange.data["choices"][0].get("logprobs")
    content = inner.get("content") if isinstance(inner, Mapping) else None
    try:
        shares = option_probabilities(content, request.options)
    except NoScore as why:
        return replace(
            reply,
            error=f'no label probabilities: {why}; use answer_mode = "generate"',
            finish_reason="error",
        )
    return replace(reply, text=request.options[shares.index(max(shares))], probabilities=shares)
