"""Models on an Ollama server, through its own interface.

``OLLAMA_HOST`` says where the server is, in every form that Ollama itself understands. On this machine a server that is
installed and not running is started, and ended with Python (``NBANNOT_OLLAMA_START=0`` turns that off). A model that
is missing is fetched only when asked: `OllamaModel.pull`, or ``NBANNOT_OLLAMA_PULL=1``.

Nothing is cut silently: the context window is made large enough for the prompt, the server is told to refuse what does
not fit, and to stop rather than to forget the beginning of the prompt while it writes.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nbannot.asking.reply_parts import split_thinking
from nbannot.asking.request_reply import AnswerMode, Message, ModelInfo, Reply, Request
from nbannot.errors import ModelError, listed, nearest
from nbannot.models.addresses import checked_address, is_loopback
from nbannot.models.chat import failed_reply, is_too_long, too_long
from nbannot.models.dialect import Bodies, Formats
from nbannot.models.endings import ending
from nbannot.models.exchange import Exchange
from nbannot.models.http import TIMEOUT_S, Pool, at_once, parallel_for
from nbannot.models.keys import KeyChoice, key_for
from nbannot.models.ollama_server import HOST_VARIABLE, Say, fetch, host_address, json_bytes, reach

PULL_VARIABLE = "NBANNOT_OLLAMA_PULL"
PARALLEL = 4
"""How many requests are worth having in flight where the server does not tell: it works on few at once, others wait."""

INFO_TIMEOUT_S = 20.0
LOAD_TIMEOUT_S = 900.0
KEEP_ALIVE = "10m"
LEAST_CONTEXT = 4096
MOST_CONTEXT = 32_768
"""The largest context window that is asked for without being told: a larger one may take more memory than there is."""

REFUSES_LONG_PROMPTS = (0, 13)
"""The first version that surely obeys ``truncate: false``; older ones cut a long prompt and say nothing."""

BYTES_PER_TOKEN = 3
"""Few, so that the window is rather too large: English has about 4, other scripts 3 and more."""

FORMAT_WORDS = re.compile(r"\bformat\b|schema|grammar", re.I)


class OllamaModel:
    """A model on an Ollama server.

    Parameters
    ----------
    name
        As ``ollama list`` shows it; ``:latest`` may be left out.
    base_url
        Address of the server; ``OLLAMA_HOST``, else this machine, when left out.
    context_size
        The context window to ask for, in tokens. When left out it begins at 4096 and grows with the prompts, up to
        32768 or what the model was trained for.
    threads
        Processor threads of the server, where it shall not decide itself.
    max_parallel
        Most requests in flight, up to 128; ``OLLAMA_NUM_PARALLEL``, else 4, unless told.
    say
        Told in a sentence what takes time.

    Raises
    ------
    ModelError
        If the address cannot be one.

    Notes
    -----
    Loading a model is not counted as time of a request, and may take 15 minutes. Energy is measured when the model
    runs on this machine; a server here may hand a model of Ollama's cloud on to another, which is found out and noted.
    """

    answer_modes: tuple[AnswerMode, ...] = ("generate",)

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        context_size: int | None = None,
        threads: int | None = None,
        timeout_s: float = TIMEOUT_S,
        max_parallel: int | None = None,
        say: Say | None = None,
        **_: Any,
    ) -> None:
        if not name:
            raise ModelError(
                'a model on an Ollama server needs a name.\n  Type model = "ollama/gemma3:270m".'
            )
        self.name = full_name(name)
        if base_url:
            self.address = checked_address(base_url, "base_url")
        else:
            self.address = host_address(os.environ.get(HOST_VARIABLE, ""))
        allowed = os.environ.get("OLLAMA_NUM_PARALLEL", "").strip()
        self.parallel = parallel_for(
            max_parallel, int(allowed) if allowed.isdigit() and int(allowed) else PARALLEL
        )
        self._context_size = context_size
        self._threads = threads
        self._say: Say = say or (lambda _: None)
        self.key = key_for(self.address, "OLLAMA_API_KEY")
        if is_loopback(self.address):
            self.key = KeyChoice(None, "", self.key.host)
        self._pool = self._new_pool(timeout_s)
        self._info: ModelInfo | None = None
        self._version: tuple[int, ...] = ()
        self._trained: int | None = None
        self._cuts_silently = False
        self._room = 0
        self._loading: tuple[int, asyncio.Task[Exchange]] | None = None
        self._formats = Formats()
        self._bodies = Bodies()
        self._thought = False

    # ---- what it is -------------------------------------------------------------------------------------------

    def info(self) -> ModelInfo:
        """Return what the server says of the model; starts the server or fetches the model where that is wanted.

        Raises
        ------
        ModelError
            If there is no server or no such model; the message says what to type.
        """
        if self._info is None:
            self._info = at_once(self._ask_about())
        return self._info

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the server takes, as far as its replies have told, and the context window it was asked for."""
        return {**self._formats.told(), "num_ctx": self._room, "reasoning_seen": self._thought}

    async def digest_now(self) -> str | None:
        """Return what identifies the weights that the server has now: a name may get others while a run is at work."""
        if not self._pool.is_open:
            return None
        entry = (await self._tags(self._pool)).get(self.name)
        return f"sha256:{entry['digest']}" if entry is not None and entry.get("digest") else None

    def pull(self, say: Say | None = None) -> None:
        """Fetch the model; `say` is told how far it is.

        Raises
        ------
        ModelError
            If it cannot be fetched.
        """
        at_once(self._with_pool(lambda pool: fetch(pool, self.name, say or self._say)))
        self._info = None

    async def _with_pool(self, work: Callable[[Pool], Any]) -> Any:
        pool = self._new_pool(INFO_TIMEOUT_S)
        await pool.open()
        try:
            self._version = await reach(pool, self.name, self._say)
            return await work(pool)
        finally:
            await pool.close()

    async def _ask_about(self) -> ModelInfo:
        info: ModelInfo = await self._with_pool(self._describe)
        return info

    async def _describe(self, pool: Pool) -> ModelInfo:
        tags = await self._tags(pool)
        if self.name not in tags and os.environ.get(PULL_VARIABLE, "") not in ("", "0"):
            await fetch(pool, self.name, self._say)
            tags = await self._tags(pool)
        if self.name not in tags:
            raise ModelError(self._missing(tags))
        shown = await pool.post("/api/show", json_bytes({"model": self.name}))
        entry, data = tags[self.name], shown.data if shown.error is None else {}
        details = _mapping(data.get("details") or entry.get("details"))
        model = _mapping(data.get("model_info"))
        trained = model.get(f"{model.get('general.architecture')}.context_length")
        remote = data.get("remote_host") or entry.get("remote_host")
        local = is_loopback(self.address) and not remote
        notes = []
        if remote:
            notes.append(f"This model runs at {remote}: the texts leave the machine of the server.")
        elif not is_loopback(self.address) and self.address.startswith("http://"):
            notes.append("Texts go to the server unencrypted (http).")
        self._trained = trained if isinstance(trained, int) else None
        self._cuts_silently = bool(remote) or (bool(self._version) and self._version < REFUSES_LONG_PROMPTS)
        return ModelInfo(
            name=self.name,
            backend="ollama",
            digest=f"sha256:{entry['digest']}" if entry.get("digest") else None,
            quantization=details.get("quantization_level") or None,
            parameters=details.get("parameter_size") or None,
            context_size=self._most_room(),
            server=f"Ollama {'.'.join(map(str, self._version))}" if self._version else "Ollama",
            endpoint=self.address,
            is_local=local,
            energy_measured=local,
            notes=tuple(notes),
            details={
                "family": details.get("family"),
                "trained_context": self._trained,
                "capabilities": list(data.get("capabilities") or ()),
                "parameters": data.get("parameters") or "",
                "parameter_count": model.get("general.parameter_count"),
                "file_size_bytes": entry.get("size"),
            },
        )

    async def _tags(self, pool: Pool) -> dict[str, Mapping[str, Any]]:
        exchange = await pool.get("/api/tags")
        models = exchange.data.get("models")
        if exchange.error is not None or not isinstance(models, list):
            raise ModelError(
                f"the Ollama server at {self.address} does not list its models: {exchange.error}."
            )
        return {str(item.get("name")): item for item in models if isinstance(item, Mapping)}

    def _missing(self, tags: Mapping[str, Any]) -> str:
        has = f"It has: {listed(sorted(tags), 12)}." if tags else "It has no models yet."
        return (
            f"the Ollama server at {self.address} has no model '{self.name}'{nearest(self.name, tags) or '.'}\n"
            f"  Type in a terminal: ollama pull {self.name.removesuffix(':latest')}\n  {has}"
        )

    # ---- requests ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Get ready for requests in the running event loop; the first one loads the model."""
        await self.close()
        await self._pool.open()

    async def close(self) -> None:
        """Give back the connections; the server keeps the model loaded for a while."""
        loading, self._loading = self._loading, None
        if loading is not None and not loading[1].done():
            loading[1].cancel()
            await asyncio.gather(loading[1], return_exceptions=True)
        await self._pool.close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""
        if not self._pool.is_open:
            await self.open()
        tokens = estimated_tokens(request.messages)
        refusal = self._make_room(request, tokens)
        if refusal is not None:
            return refusal
        loaded = await self._loaded()
        exchange = loaded if loaded.error is not None else await self._exchange(request)
        if exchange.error is not None:
            return self._failed(exchange)
        return replace(self._read(exchange), unanswered=exchange.unanswered)

    def _make_room(self, request: Request, tokens: int) -> Reply | None:
        """Make the context window large enough for a prompt; return the reply if that is impossible."""
        most = self._most_room()
        room = self._room or min(LEAST_CONTEXT, most)
        while room < tokens + request.max_tokens and room < most:
            room = min(2 * room, most)
        self._room = room if self._context_size is None else most
        return too_long(tokens, self._room) if self._cuts_silently and tokens > self._room else None

    def _most_room(self) -> int:
        return min(self._context_size or MOST_CONTEXT, self._trained or 1 << 30)

    async def _loaded(self) -> Exchange:
        """Have the model loaded with the present context window; everybody waits for the same loading."""
        if self._loading is None or self._loading[0] != self._room or _failed(self._loading[1]):
            body = {"model": self.name, "messages": [], "stream": False, "keep_alive": KEEP_ALIVE}
            work = self._pool.post(
                "/api/chat", json_bytes({**body, "options": self._runner()}), LOAD_TIMEOUT_S
            )
            self._loading = self._room, asyncio.create_task(work)
        return await asyncio.shield(self._loading[1])

    async def _exchange(self, request: Request) -> Exchange:
        """Send a request, in a less strict format where the server refuses the schema."""
        while True:
            body = self._bodies.body(request, lambda: self._parameters(request), self._room)
            exchange = await self._pool.post("/api/chat", body)
            refused = exchange.status in (400, 500) and FORMAT_WORDS.search(exchange.said)
            if not refused or is_too_long(exchange):
                return exchange
            learned_meanwhile = (
                self._bodies.body(request, lambda: self._parameters(request), self._room) != body
            )
            if not learned_meanwhile and not self._formats.step_down(request.schema):
                return exchange
            self._bodies.forget()

    def _runner(self) -> dict[str, Any]:
        """Return the options for which a model is loaded anew when they change."""
        threads = {} if self._threads is None else {"num_thread": self._threads}
        return {"num_ctx": self._room, **threads}

    def _parameters(self, request: Request) -> dict[str, Any]:
        options = {
            **self._runner(),
            "num_predict": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
        }
        sent: dict[str, Any] = {
            "model": self.name,
            "stream": False,
            "truncate": False,
            "shift": False,
            "keep_alive": KEEP_ALIVE,
            "options": {name: value for name, value in options.items() if value is not None},
        }
        if request.reasoning is not None:
            sent["think"] = request.reasoning
        form = self._formats.of(request.schema)
        if form != "text":
            sent["format"] = dict(request.schema) if form == "json_schema" else "json"
        return sent

    def _failed(self, exchange: Exchange) -> Reply:
        reply = failed_reply(exchange)
        if reply.error is not None and "does not support thinking" in (exchange.error or ""):
            words = f"{exchange.error}: leave the setting reasoning out"
            return Reply(error=words, finish_reason="error", seconds=exchange.seconds)
        return reply

    def _read(self, exchange: Exchange) -> Reply:
        data = exchange.data
        message = data.get("message")
        if not isinstance(message, Mapping) or data.get("done") is not True:
            what = "HTTP 200: the server's reply holds no whole answer"
            return Reply(error=what, retriable=True, finish_reason="error", seconds=exchange.seconds)
        thinking, text = split_thinking(str(message.get("content") or ""))
        thoughts = message.get("thinking")
        self._thought = self._thought or bool(thoughts or thinking)
        finish = ending(data.get("done_reason"))
        if (finish or "").partition(":")[0] == "error":
            what = f"the model failed while it wrote ({finish})"
            return Reply(error=what, retriable=True, finish_reason="error", seconds=exchange.seconds)
        return Reply(
            text=text,
            reasoning=thoughts if isinstance(thoughts, str) and thoughts else thinking,
            finish_reason=finish,
            input_tokens=_count(data.get("prompt_eval_count")),
            output_tokens=_count(data.get("eval_count")),
            seconds=exchange.seconds,
            model=str(data["model"])[:200] if data.get("model") else None,
        )

    def _new_pool(self, timeout_s: float) -> Pool:
        return Pool(self.address, key=self.key.key, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<OllamaModel '{self.name}' at {self.address}>"


# ---- names, addresses, numbers ------------------------------------------------------------------------------------


def full_name(name: str) -> str:
    """Return a model's name with its tag.

    >>> full_name("gemma3"), full_name("hf.co/owner/model:Q4_K_M")
    ('gemma3:latest', 'hf.co/owner/model:Q4_K_M')
    """
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def estimated_tokens(messages: tuple[Message, ...]) -> int:
    """Return about how many tokens some messages are, by their length in UTF-8."""
    size = sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in messages)
    return size // BYTES_PER_TOKEN + 8 * len(messages)


def _failed(loading: asyncio.Task[Exchange]) -> bool:
    if not loading.done():
        return False
    return loading.cancelled() or loading.exception() is not None or loading.result().error is not None


def _mapping(data: object) -> Mapping[str, Any]:
    return data if isinstance(data, Mapping) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
