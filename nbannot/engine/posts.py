"""The workers of a cluster as a run sees them, and the requests that are on their way to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from nbannot.asking.request_reply import Reply, Request
from nbannot.engine.station import Introduction, Used

MOST_IN_PARCEL = 16
MOST_OF_QUICK = 64
"""As that, where the model answers within milliseconds."""
QUICK_S, SLOW_S = 0.01, 0.25
"""A worker that takes less over a parcel is sent larger ones, and one that takes more smaller ones again."""
CLOCK_S = 2.0
"""Records tell the second in which they end: two that overlap by less come one after the other."""


class Lot:
    """A request on its way, where its reply goes, and how often it was lost."""

    __slots__ = ("lost", "reply", "request", "size")

    def __init__(self, request: Request, reply: asyncio.Future[Reply]) -> None:
        self.request, self.reply, self.lost = request, reply, 0
        self.size = sum(len(message["content"]) for message in request.messages)


class Post:
    """One worker: what it is, and what it has at hand.

    Attributes
    ----------
    parcel
        How many requests are sent together.
    """

    def __init__(self, address: str, said: Introduction) -> None:
        self.address, self.said = address, said
        self.at_hand: dict[asyncio.Task[None], list[Lot]] = {}
        self.count = 0
        self.used: Used | None = None
        self.parcel = self._least = min(MOST_IN_PARCEL, max(1, said.parallel // 2))

    def told(self, used: Used | None) -> None:
        """Keep what it says it has used, unless it said so later already."""
        if used is not None and (self.used is None or used.kwh >= self.used.kwh):
            self.used = used

    @property
    def room(self) -> int:
        """How many requests it is given: twice as many as it asks at once, so that it need not wait for more."""
        places = self.said.parallel
        return places + (places if self.parcel == self._least else max(places, 2 * self.parcel))

    def took(self, parcel: int, seconds: float) -> bool:
        """Return whether it is sent more, or fewer, at a time from now on, by how long it took over a parcel.

        Sending a parcel takes some milliseconds by itself, however many requests are in it.
        """
        before = self.parcel
        if parcel >= self.parcel and seconds < QUICK_S:
            self.parcel = min(MOST_OF_QUICK, 2 * self.parcel)
        elif seconds > SLOW_S:
            self.parcel = max(self._least, self.parcel // 2)
        return self.parcel != before


def by_our_meter(used: Used) -> bool:
    """Return whether it is measured by the run itself: its meter is of the machine that the worker is on."""
    return used.of_the_machine and used.host == socket.gethostname()


def in_sum(used: Iterable[Used]) -> list[dict[str, Any]]:
    """Return the records of energy that add up: one per worker; of one machine's meter, one at a time."""
    records = []
    spans: dict[str, list[tuple[float, float]]] = {}
    for one in sorted(used, key=lambda one: -one.kwh):
        if one.record is None or by_our_meter(one):
            continue
        if one.of_the_machine:
            end = datetime.fromisoformat(one.record["timestamp"]).timestamp()
            begin, taken = end - one.record["duration"], spans.setdefault(one.host, [])
            if any(min(end, its_end) - max(begin, its_begin) > CLOCK_S for its_begin, its_end in taken):
                continue
            taken.append((begin, end))
        records.append(one.record)
    return records


def silent_in_words(last: Iterable[Used | None]) -> str:
    """Return what to tell of workers that did not say at the end what they had used; "" where all did.

    Parameters
    ----------
    last
        Of each, what it had told before.
    """
    every = list(last)
    told = sum(one is not None and one.record is not None for one in every)
    words = []
    if told:
        words.append(
            f"{_workers(told)} did not say at the end what was used, and counted up to the last report"
        )
    if never := len(every) - told:
        words.append(f"what {_workers(never)} used is not known")
    return "; ".join(words)


def _workers(n: int) -> str:
    return f"{n} worker{'s' if n > 1 else ''}"
