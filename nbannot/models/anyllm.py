"""A back door to every provider that the package any-llm knows: ``anyllm/<provider>/<model>``.

For providers whose language is neither OpenAI's nor Anthropic's (Bedrock, Cohere, watsonx, …). The provider's own
library sends the requests and finds the key where it always does, in the provider's environment variable. What our own
backends reach is better asked through them: they count what was sent, keep keys to their hosts, and know more about
what went wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError, listed, nearest
from nbannot.models.addresses import checked_address, is_loopback
from nbannot.models.chat import failed_reply, read_completion
from nbannot.models.dialect import Dialect
from nbannot.models.exchange import WORDS, Exchange, failure
from nbannot.models.http import TIMEOUT_S, parallel_for
from nbannot.models.keys import Secret, masked

LEFT_OUT = {"chat_template_kwargs": "any-llm has no such switch", "top_k": "any-llm has no such parameter"}
"""What a request may ask for and any-llm has no argument for."""


class AnyLLMModel:
    """A model of a provider that any-llm reaches.

    Parameters
    ----------
    name
        ``<provider>/<model>``; the provider as any-llm calls it.
    base_url
        Address of the provider, where it is not the usual one.

    Raises
    ------
    ModelError
        If the name cannot be one, or any-llm or the provider's library is not installed.
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
        from any_llm import AnyLLM

        self.provider, _slash, self.model = name.partition("/")
        known = sorted(AnyLLM.get_supported_providers())
        if not self.model or self.provider not in known:
            raise ModelError(
                f"'anyllm/{name}' names no provider that any-llm knows{nearest(self.provider, known) or '.'}\n"
                f"  Type anyllm/<provider>/<model>; it knows {len(known)}: {listed(known, 12)}."
            )
        self.name = name
        self.address = checked_address(base_url, "base_url") if base_url else None
        self.parallel = parallel_for(max_parallel)
        self._context_size, self._timeout_s = context_size, timeout_s
        self._dialect = Dialect("max_tokens", "reasoning_effort", dropped=dict(LEFT_OUT))
        self._client: Any = None

    def info(self) -> ModelInfo:
        """Return what is known of the model without asking it."""
        local = self.address is not None and is_loopback(self.address)
        return ModelInfo(
            name=self.name,
            backend="anyllm",
            context_size=self._context_size,
            endpoint=self.address,
            is_local=local,
            energy_measured=local,
            notes=(
                f"Asked through any-llm: the name was not checked, and {self.provider}'s library sends it.",
            ),
        )

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the provider takes, as far as its replies have told."""
        return self._dialect.told()

    async def open(self) -> None:
        """Get ready for requests in the running event loop."""
        from any_llm import AnyLLM
        from any_llm.exceptions import AnyLLMError

        try:
            self._client = AnyLLM.create(
                self.provider, api_base=self.address, unified_exceptions=True, max_retries=0
            )
        except (AnyLLMError, ImportError, ValueError) as error:
            words = masked(str(error)).strip().splitlines()
            raise ModelError(
                f"any-llm cannot make a client for {self.provider}: {' '.join(words)[:WORDS]}\n"
                f"  Set its key, and install its library: pip install 'any-llm-sdk[{self.provider}]'."
            ) from None
        for part in (self._client, getattr(self._client, "client", None)):
            if isinstance(key := getattr(part, "api_key", None), str) and key:
                Secret(key)  # known from here on, and taken out of every reply

    async def close(self) -> None:
        """Give back the connections, as far as the provider's library lets them go."""
        client, self._client = self._client, None
        close = getattr(getattr(client, "client", None), "close", None)
        if asyncio.iscoroutinefunction(close):
            await close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and return its reply; failures are in the reply, never raised."""
        if self._client is None:
            await self.open()
        exchange = await self._dialect.exchange(
            request, self._dialect.parameters, lambda sent: self._send(request, sent)
        )
        if exchange.error is not None:
            return failed_reply(exchange)
        return read_completion(exchange)

    async def _send(self, request: Request, parameters: Mapping[str, Any]) -> Exchange:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                completion = await self._client.acompletion(
                    self.model, [dict(message) for message in request.messages],
                    **{"reasoning_effort": None, **parameters},
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - whatever a provider's library raises is told in the reply
            return self._went_wrong(error, time.perf_counter() - start)
        return Exchange(200, completion.model_dump(), seconds=time.perf_counter() - start)

    def _went_wrong(self, error: Exception, seconds: float) -> Exchange:
        """Return the exchange for an error of any-llm, which keeps the provider's status, code and words."""
        if isinstance(error, TimeoutError):
            return Exchange(error=f"no reply within {self._timeout_s:g} s", retriable=True, seconds=seconds)
        status = getattr(error, "status_code", None)
        words = masked(str(getattr(error, "message", "") or error)) or type(error).__name__
        if not isinstance(status, int):
            passing = not isinstance(error, ValueError | TypeError | ImportError)
            return Exchange(error=" ".join(words.split())[:WORDS], retriable=passing, seconds=seconds)
        said = {
            "message": words,
            "code": getattr(error, "code", None),
            "param": getattr(error, "param", None),
        }
        return failure(status, {"error": said}, words, lambda text: masked(text)[:WORDS], seconds=seconds)

    def __repr__(self) -> str:
        return f"<AnyLLMModel '{self.name}'>"
