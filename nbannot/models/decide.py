"""Models that decide: every closed question about a text in one call, with a probability for every option.

``decide/sparrow`` runs in this process, from weights inside the package `sparrow-decider`; ``decide/decima-small`` and
its like from weights of the Hub by the package `decima-ai`, ``decide/laya`` and its like by `laya`. Other packages add
engines of their own through the entry-point group ``nbannot.deciders``. Any other name, and any name with a
``base_url``, is a model of a server (see `nbannot.models.decide_server`).
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from nbannot.asking.request_reply import AnswerMode, ModelInfo, Reply, Request
from nbannot.errors import ModelError

GROUP = "nbannot.deciders"
NO_QUESTIONS = "a decision model answers closed questions, and this request has none"


class _Backend(Protocol):
    """What `DecideModel` hands everything to."""

    parallel: int

    @property
    def capabilities(self) -> dict[str, Any]: ...
    def info(self) -> ModelInfo: ...
    async def open(self) -> None: ...
    async def ask(self, request: Request) -> Reply: ...
    async def close(self) -> None: ...


class DecideModel:
    """A decision model, in this process or on a server.

    Parameters
    ----------
    name
        ``sparrow``, a ``sparrow-…`` model, the path of a ``.sparrow`` file, a ``decima-…`` or ``laya-…`` model, the
        name of an engine of another package, or the name of a model on a server.
    base_url
        Address of a server; with it no engine of this process is meant.

    Raises
    ------
    ModelError
        If there is no name, or what the model needs is not installed.
    """

    decides = True
    answer_modes: tuple[AnswerMode, ...] = ("score",)

    def __init__(self, name: str, *, base_url: str | None = None, **settings: Any) -> None:
        if not name and not base_url:
            raise ModelError(
                "a decision model needs a name.\n"
                '  Type model = "decide/sparrow", or "decide/<name>" with the base_url of a server.'
            )
        self.name = name
        self._inner: _Backend = _made(name, base_url, settings)
        self.parallel: int = self._inner.parallel

    def info(self) -> ModelInfo:
        """Return what is known of the model."""
        return self._inner.info()

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the model was found to take, and which version answered."""
        return self._inner.capabilities

    @property
    def address(self) -> str | None:
        """Where the server is; ``None`` in this process."""
        return getattr(self._inner, "address", None)

    @property
    def key(self) -> Any:
        """Which key goes to the server (`nbannot.models.keys.KeyChoice`); ``None`` in this process."""
        return getattr(self._inner, "key", None)

    async def open(self) -> None:
        """Get ready in the running event loop."""
        await self._inner.open()

    async def close(self) -> None:
        """Give back the connections; weights stay loaded."""
        await self._inner.close()

    async def ask(self, request: Request) -> Reply:
        """Send the questions of a request and return the decisions; failures are in the reply, never raised."""
        if not request.questions:
            return Reply(error=NO_QUESTIONS, finish_reason="context")
        return await self._inner.ask(request)


def _made(name: str, base_url: str | None, settings: dict[str, Any]) -> _Backend:
    if base_url is None:
        maker = _engine(name)
        if maker is not None:
            from nbannot.models.decide_local import LocalDecisions

            return LocalDecisions(maker(name, **settings))
    from nbannot.models.decide_server import DecisionServer

    return DecisionServer(name, base_url=base_url, **settings)


def _engine(name: str) -> Any:
    """Return what makes the engine of this process that a name means, or ``None`` for a model of a server."""
    own = deciders().get(name.partition("?")[0])
    if own is not None:
        try:
            return own.load()
        except ImportError as error:
            raise ModelError(
                f"decide/{name} needs the package '{error.name}', which is not installed.\n"
                f"  pip install {error.name}"
            ) from None
    if name == "sparrow" or name.startswith("sparrow-") or name.endswith(".sparrow"):
        from nbannot.models.decide_local import Sparrow

        return Sparrow
    if re.match(r"decima(-\w+)?(@|$)", name) or (Path(name).expanduser() / "decima.json").exists():
        from nbannot.models.decide_decima import Decima

        return Decima
    if re.match(r"laya(-[\w-]+)?(@|$)", name) or (Path(name).expanduser() / "rl_agent_config.json").exists():
        from nbannot.models.decide_laya import Laya

        return Laya
    return None


def deciders() -> dict[str, EntryPoint]:
    """Return the engines that other packages add, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}
