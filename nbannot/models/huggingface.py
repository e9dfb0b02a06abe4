"""Models of the Hugging Face Hub, run by one of its inference providers or on an endpoint of one's own.

``hf/<owner>/<model>``, with ``?provider=<name>`` to choose who runs it (``auto`` unless told). The token is found
where `huggingface_hub` finds it: ``HF_TOKEN``, or what ``hf auth login`` stored. With ``base_url`` the requests go to
a deployed endpoint instead; the token goes there only if the host is Hugging Face's own or is named in
``NBANNOT_KEY_HOSTS``, another key from ``NBANNOT_API_KEY_<HOST>`` or ``NBANNOT_API_KEY`` (see `nbannot.models.keys`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, listed, nearest
from nbannot.models.addresses import checked_address, is_loopback, without_end
from nbannot.models.chat import failed_reply, read_completion
from nbannot.models.dialect import Dialect
from nbannot.models.exchange import WORDS, Exchange, code_in, error_in, failure, retry_after
from nbannot.models.http import TIMEOUT_S, Pool, parallel_for
from nbannot.models.keys import OWN_KEY, KeyChoice, Secret, key_for, masked

MOST_PARALLEL = 100
"""The library keeps no more connections than this."""

INFO_TIMEOUT_S = 20.0
ARGUMENTS = ("max_tokens", "temperature", "top_p", "seed", "response_format")
"""What the library has an argument for; other parameters go along as they are."""

ROUTER = "https://router.huggingface.co"
NAME_PARTS = ("provider", "bill_to")


class HuggingFaceModel:
    """A model that Hugging Face's inference client reaches.

    Parameters
    ----------
    name
        ``<owner>/<model>[?provider=<name>&bill_to=<organisation>]``.
    base_url
        Address of a deployed endpoint; the Hub's router when left out.
    max_parallel
        Most requests in flight, up to 100; 32 unless told.

    Raises
    ------
    ModelError
        If the name cannot be one.

    Notes
    -----
    Which weights, which quantisation and which hardware a provider uses is not told: the commit recorded is that of
    the model on the Hub. Energy is not measured, unless the endpoint is on this machine.
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
        self.name = name
        self.model, _mark, query = name.partition("?")
        self._options = _read_options(name, query)
        if not self.model and not base_url:
            raise ModelError('a model of the Hub needs a name.\n  Type model = "hf/<owner>/<model>".')
        self.address = checked_address(base_url, "base_url") if base_url else ROUTER
        self._by_router = not base_url
        self._pool: Pool | None = None
        if not self._by_router:
            self.key = key_for(self.address, OWN_KEY, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
            self._pool = Pool(_with_version(self.address), key=self.key.key, timeout_s=timeout_s)
        else:
            self.key = KeyChoice(None, "HF_TOKEN", "huggingface.co")
        self.parallel = min(parallel_for(max_parallel), MOST_PARALLEL)
        self._context_size = context_size
        self._timeout_s = timeout_s
        self._dialect = Dialect(schema_as_value=not self._by_router)
        self._client: Any = None
        self._info: ModelInfo | None = None

    def info(self) -> ModelInfo:
        """Return what the Hub says of the model; asks it once.

        Raises
        ------
        ModelError
            If the Hub cannot be reached, has no such model, or nobody runs it; or if there is no token.
        """
        if self._info is None:
            self._info = self._described()
        return self._info

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the provider takes, as far as its replies have told."""
        return self._dialect.told()

    def _described(self) -> ModelInfo:
        provider = self._options.get("provider", "auto")
        local = is_loopback(self.address)
        details: dict[str, Any] = {}
        notes: tuple[str, ...] = ()
        if self._by_router:
            details = {"provider": provider, **self._hub_details(provider)}
            notes = ("Texts go to an inference provider of Hugging Face.",)
        return ModelInfo(
            name=self.name,
            backend="hf",
            context_size=self._context_size,
            endpoint=self.address,
            is_local=local,
            energy_measured=local,
            notes=notes,
            details=details,
        )

    def _hub_details(self, provider: str) -> dict[str, Any]:
        """Return the model's commit and who runs it."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError

        if get_token() is None:
            raise ModelError(
                "models of the Hub need a token, and none was found.\n"
                "  Type in a terminal: hf auth login  (or set HF_TOKEN before Python starts)"
            )
        repository = self.model.partition(":")[0]
        try:
            details = HfApi().model_info(
                repository, expand=["inferenceProviderMapping", "sha"], timeout=INFO_TIMEOUT_S
            )
        except HfHubHTTPError as error:
            words = masked(str(error).strip().splitlines()[0][:WORDS])
            raise ModelError(
                f"the Hub does not give the model '{repository}': {words}.\n"
                f"  Look at https://huggingface.co/{repository}: is it there, and may you use it?"
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever the library raises when it has no connection
            words = masked(
                str(error).strip().splitlines()[0][:WORDS] if str(error).strip() else type(error).__name__
            )
            raise ModelError(
                f"the Hugging Face Hub cannot be reached: {words}.\n  Check the connection and HF_ENDPOINT."
            ) from None
        mapping = details.inference_provider_mapping or []
        live = sorted(
            one.provider for one in mapping if one.status == "live" and one.task == "conversational"
        )
        if provider not in ("auto", *live):
            raise ModelError(
                f"'{provider}' does not run {repository}{nearest(provider, live) or '.'}\n"
                f"  It is run by: {listed(live, 12) if live else 'nobody'}."
            )
        if not live:
            raise ModelError(
                f"no inference provider runs {repository}.\n"
                "  Choose another model, or name an endpoint of your own as base_url."
            )
        return {"hub_revision": details.sha, "providers": live}

    async def open(self) -> None:
        """Get ready for requests in the running event loop."""
        await self.close()
        if self._pool is not None:
            await self._pool.open()
            return
        from huggingface_hub import AsyncInferenceClient, get_token

        if token := get_token():
            Secret(token)  # known from here on, and taken out of every reply
        provider: Any = self._options.get("provider", "auto")
        self._client = AsyncInferenceClient(
            model=self.model,
            provider=provider,
            bill_to=self._options.get("bill_to"),
            timeout=self._timeout_s,
        )

    async def close(self) -> None:
        """Give back the connections."""
        if self._pool is not None:
            await self._pool.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""
        if self._pool is not None:
            exchange = await self._ask_endpoint(request, self._pool)
        else:
            if self._client is None:
                await self.open()
            exchange = await self._dialect.exchange(
                request, self._dialect.parameters, lambda sent: self._send(request, sent)
            )
        if exchange.error is not None:
            return failed_reply(exchange)
        return read_completion(exchange)

    async def _ask_endpoint(self, request: Request, pool: Pool) -> Exchange:
        if not pool.is_open:
            await pool.open()
        return await self._dialect.exchange(
            request,
            lambda asked: self._dialect.body(asked, self.model or "tgi"),
            lambda body: pool.post("/chat/completions", body),
        )

    async def _send(self, request: Request, parameters: Mapping[str, Any]) -> Exchange:
        arguments = {name: value for name, value in parameters.items() if name in ARGUMENTS}
        further = {name: value for name, value in parameters.items() if name not in ARGUMENTS}
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):  # the library's own is from byte to byte
                completion = await self._client.chat_completion(
                    [dict(message) for message in request.messages],
                    model=self.model or None,
                    extra_body=further,
                    **arguments,
                )
        except Exception as error:  # noqa: BLE001 - whatever the library raises is told in the reply
            return self._went_wrong(error, time.perf_counter() - start)
        seconds, data = time.perf_counter() - start, _plain(completion)
        wrong = error_in(data)
        if wrong is not None and not data.get("choices"):
            return failure(code_in(wrong), data, "", _cut, seconds=seconds)
        return Exchange(200, data, seconds=seconds)

    def _went_wrong(self, error: Exception, seconds: float) -> Exchange:
        """Return the exchange for an error of the library."""
        response = getattr(error, "response", None)
        if response is None:
            if isinstance(error, TimeoutError):
                what, passing = f"no reply within {self._timeout_s:g} s", True
            elif isinstance(error, json.JSONDecodeError):
                what, passing = "the server's reply is not JSON", True
            else:
                what = _cut(str(error)) or f"the connection broke ({type(error).__name__})"
                passing = not isinstance(error, ValueError | TypeError)
            return Exchange(error=what, retriable=passing, seconds=seconds)
        data: Any = None
        with contextlib.suppress(ValueError):
            data = json.loads(response.content)
        status = int(response.status_code)
        exchange = (
            data if isinstance(data, dict) else {"error": data[0]["error"]} if _is_list_of_one(data) else {}
        )
        return failure(
            status, exchange, response.text, _cut, wait=retry_after(response.headers), seconds=seconds
        )

    def __repr__(self) -> str:
        return f"<HuggingFaceModel '{self.name}'>"


def _with_version(address: str) -> str:
    """Return where ``/chat/completions`` is added at a deployed endpoint: behind /v1, as Hugging Face's client does.

    >>> _with_version("https://host"), _with_version("https://host/v1/chat/completions")
    ('https://host/v1', 'https://host/v1')
    """
    bare = without_end(address, "/chat/completions")
    base, mark, query = bare.partition("?")
    return bare if base.endswith("/v1") or bare != address else f"{base}/v1{mark}{query}"


def _is_list_of_one(data: object) -> bool:
    return isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and "error" in data[0]


def _plain(reply: Any) -> Any:
    """Return what the library made of a reply as plain data, with the keys that its own dicts leave out."""
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    if isinstance(reply, dict):
        return {name: _plain(value) for name, value in (getattr(reply, "__dict__", None) or reply).items()}
    return reply


def _read_options(name: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for word, value in options.items():
        if word not in NAME_PARTS or not value:
            raise ModelError(
                f"the model name 'hf/{name}' has an unknown or empty part '{word}'{nearest(word, NAME_PARTS) or '.'}\n"
                '  Type model = "hf/<owner>/<model>?provider=<name>".'
            )
    return options


def _cut(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    flat = " ".join(masked(text, [token] if token else []).split())
    return flat if len(flat) <= WORDS else flat[: WORDS - 1] + "…"
