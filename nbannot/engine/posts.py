"""The workers of a cluster as a run sees them, and the requests that are on their way to them."""

from __future__ import annotations

import asyncio

from nbannot.asking.request_reply import Reply, Request
from nbannot.engine.station import Introduction

MOST_IN_PARCEL = 16


class Lot:
    """A request on its way, where its reply goes, and how often it was lost."""

    __slots__ = ("lost", "reply", "request", "size")

    def __init__(self, request: Request, reply: asyncio.Future[Reply]) -> None:
        self.request, self.reply, self.lost = request, reply, 0
        self.size = sum(len(message["content"]) for message in request.messages)


class Post:
    """One worker: what it is, and what it has at hand."""

    def __init__(self, address: str, said: Introduction) -> None:
        self.address, self.said = address, said
        self.at_hand: dict[asyncio.Task[None], list[Lot]] = {}
        self.count = 0
        self.kwh = 0.0

    @property
    def room(self) -> int:
        """How many requests it is given: half as many again as it asks at once, so that it need not wait for more."""
        return self.said.parallel + max(1, self.said.parallel // 2)

    @property
    def parcel(self) -> int:
        """How many requests are sent together."""
        return min(MOST_IN_PARCEL, max(1, self.said.parallel // 4))
