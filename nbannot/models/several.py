"""Several servers of one model: the same thing at several addresses, taken for one model.

Which server gets which request is the engine's business (`nbannot.engine.servers`); here it is made sure that they all
serve the same, before the first text and whenever one comes back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nbannot.asking.request_reply import AnswerMode, Model, ModelInfo, Reply, Request
from nbannot.errors import ModelError, ModelUnreached
from nbannot.models.addresses import door_of, is_loopback
from nbannot.models.exchange import ONE_OF_SEVERAL

SAME = {
    "name": "the model",
    "digest": "the weights",
    "quantization": "the quantisation",
    "parameters": "the size",
    "context_size": "the context window",
    "server": "the server's version",
    "root": "the model behind the name",
}
"""What servers of one model must agree in, as far as they tell it, and what it is called."""
HANDED_ON = ("reply_tokens", "decides", "writes")


class Several:
    """The servers of a model.

    Parameters
    ----------
    make
        Returns the model at an address, not yet contacted.
    addresses
        At least two, as they were given.

    Attributes
    ----------
    servers
        One model per address, in their order.
    """

    def __init__(self, make: Callable[[str], Model], addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        self._maker = make
        self.servers: tuple[Model, ...] = tuple(map(self._make, addresses))
        self._each_once()
        first = self.servers[0]
        self.answer_modes: tuple[AnswerMode, ...] = first.answer_modes
        self.parallel = sum(server.parallel for server in self.servers)
        for name in HANDED_ON:
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
        self.unreached: dict[str, str] = {}
        """Address -> why it could not be asked what it serves; it is looked at again before it gets a text."""
        self._info: ModelInfo | None = None
        self._told: dict[str, ModelInfo] = {}

    def _each_once(self) -> None:
        """Refuse a server that is named twice: it would get twice the requests that it is to get at once."""
        places: dict[str, str] = {}
        for address, server in zip(self.addresses, self.servers, strict=True):
            place = door_of(str(getattr(server, "address", address)))
            if place in places:
                raise ModelError(
                    f"base_url names one server twice: {places[place]} and {address}.\n  Leave one of them out."
                )
            places[place] = address

    def _make(self, address: str) -> Model:
        before = ONE_OF_SEVERAL.set(True)
        try:
            return self._maker(address)
        finally:
            ONE_OF_SEVERAL.reset(before)

    def info(self) -> ModelInfo:
        """Return what the servers say of the model; those that cannot be reached are left out for now.

        Raises
        ------
        ModelUnreached
            If none can be reached.
        ModelError
            If one serves something else than the others, refuses the key, or does not have the model.
        """
        if self._info is None:
            told: dict[str, ModelInfo] = {}
            for address, said in self._asked().items():
                if isinstance(said, ModelInfo):
                    told[address] = said
                elif isinstance(said, ModelUnreached):
                    self.unreached[address] = str(said)
                else:
                    raise said
            if not told:
                raise ModelUnreached(next(iter(self.unreached.values())))
            self._told, self._info = told, self._joined(told)
        return self._info

    def _asked(self) -> dict[str, ModelInfo | Exception]:
        """Return what each server says, or why it says nothing; all are asked at once, as one may hang."""
        said: dict[str, ModelInfo | Exception] = {}

        def ask(address: str, server: Model) -> None:
            try:
                said[address] = server.info()
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                said[address] = error

        threads = [
            threading.Thread(target=ask, args=pair, name="nbannot-info", daemon=True)
            for pair in zip(self.addresses, self.servers, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {address: said[address] for address in self.addresses}

    def _joined(self, told: dict[str, ModelInfo]) -> ModelInfo:
        known = list(told.values())
        for address, info in told.items():
            if what := differing(known[0], info):
                first = next(iter(told))
                raise ModelError(
                    f"the servers of base_url do not serve the same; {what}: {part_in_words(known[0], what)} at "
                    f"{first}, {part_in_words(info, what)} at {address}.\n"
                    "  Leave one out, or start both with the same model and the same options."
                )
        away = [f"{address} cannot be reached and is left out until it can." for address in self.unreached]
        # One that cannot be reached now may be sent texts later: it counts in what is said of where they go.
        here = all(map(is_loopback, self.unreached))
        ends = {address: info.endpoint or address for address, info in told.items()}
        return replace(
            known[0],
            endpoint=", ".join(ends.get(address, address) for address in self.addresses),
            is_local=here and all(info.is_local for info in known),
            energy_measured=here and all(info.energy_measured for info in known),
            notes=tuple(dict.fromkeys([*(note for info in known for note in info.notes), *away])),
        )

    def fault(self, number: int) -> tuple[str, bool]:
        """Return why a server cannot be used now, "" if it can, and whether that is for good: it serves something else.

        Asks the server anew, and waits for it.
        """
        address = self.addresses[number]
        try:
            info = self._make(address).info()
        except ModelError as error:
            return str(error).splitlines()[0], False
        # With the first server, and with what it said itself before: one may tell more than the other.
        for known in (self.info(), self._told.setdefault(address, info)):
            if what := differing(known, info):
                was, now = part_in_words(known, what), part_in_words(info, what)
                return (
                    f"{address} came back with something else ({what}: {now}, not {was}) and got no more texts",
                    True,
                )
        return "", False

    @property
    def key(self) -> Any:
        """Which key goes to the first server; each has its own choice."""
        return getattr(self.servers[0], "key", None)

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the servers were found to take: once if they agree, else by address."""
        told = {a: getattr(s, "capabilities", {}) for a, s in zip(self.addresses, self.servers, strict=True)}
        every = list(told.values())
        return every[0] if all(one == every[0] for one in every) else {"servers": told}

    async def open(self) -> None:
        """Get every server ready."""
        await asyncio.gather(*(server.open() for server in self.servers))

    async def close(self) -> None:
        """Give back the connections of all."""
        await asyncio.gather(*(server.close() for server in self.servers))

    async def ask(self, request: Request) -> Reply:
        """Send a request to the first server that could be reached; a run chooses among them itself."""
        there = [s for a, s in zip(self.addresses, self.servers, strict=True) if a not in self.unreached]
        return await (there or self.servers)[0].ask(request)

    async def digest_now(self) -> str | None:
        """Return what identifies the weights now: of a server that has others than before, if one has."""
        asked = [again() for s in self.servers if (again := getattr(s, "digest_now", None)) is not None]
        told = [
            digest
            for digest in await asyncio.gather(*asked, return_exceptions=True)
            if isinstance(digest, str)
        ]
        return next((digest for digest in told if digest != self.info().digest), told[0] if told else None)


def _part(info: ModelInfo, name: str) -> Any:
    return info.details.get("root") if name == "root" else getattr(info, name)


def differing(one: ModelInfo, other: ModelInfo) -> str:
    """Return in words the first thing in which two servers differ; "" if they agree in what both tell."""
    for name, words in SAME.items():
        a, b = _part(one, name), _part(other, name)
        if a is not None and b is not None and a != b:
            return words
    return ""


def part_in_words(info: ModelInfo, words: str) -> str:
    """Return what a server says of the thing that `differing` named."""
    name = next(name for name, said in SAME.items() if said == words)
    return str(_part(info, name))[:19] if name == "digest" else str(_part(info, name))
