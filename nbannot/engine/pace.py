"""How many requests are in flight, and the workers that send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

from nbannot.errors import NbannotError


class Halted(NbannotError):
    """No more calls are made; what is in flight is waited for, as it has been paid."""


class BudgetSpent(Halted):
    """The next call would go beyond the budget."""


def handed_out(items: Iterator[int]) -> Callable[[], Coroutine[Any, Any, int | None]]:
    """Return what hands out the next item each time it is called, ``None`` when there is none left."""

    async def next_item() -> int | None:
        return next(items, None)

    return next_item


class Places(Protocol):
    """How many requests may be in flight, over all servers; `changed` is called when that may be more than before."""

    resting: int
    changed: Callable[[], None]

    @property
    def size(self) -> int: ...


class Pace:
    """How many requests are in flight: more while all goes well, half as many when the server is in trouble.

    Parameters
    ----------
    most
        Never more than this.

    """

    START = 32

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = min(most, self.START)
        self._room = float(self.size)
        self._doubling = True
        self._calm_from = 0.0

    def limit(self, most: int) -> None:
        """Never more than this from now on; a limit that rises before the first reply is taken for the first one."""
        untried = self._doubling and self.size == min(self.most, self.START)
        self.most = most
        self._room = float(min(most, self.START)) if untried else min(float(most), self._room)
        self.size = max(1, int(self._room))

    def well(self) -> None:
        """A reply came: one more for every reply at first, later one more for a whole round of replies."""
        self._room = min(self.most, self._room + (1.0 if self._doubling else 1.0 / max(self._room, 1.0)))
        self.size = int(self._room)

    def trouble(self, sent: float) -> None:
        """The server was overloaded by a request sent at this (monotonic) time; one halving per round of requests."""
        self._doubling = False
        if sent < self._calm_from:
            return
        self._calm_from = time.monotonic()
        self._room = max(1.0, self._room / 2)
        self.size = int(self._room)


AHEAD = 8
"""For every so many requests in flight one more is got ready meanwhile, so that a free place is taken at once."""


def is_cancelled() -> bool:
    """Return whether the running task was told to end, also where it had something to write down first."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def pool(
    next_item: Callable[[], Coroutine[Any, Any, Any]],
    do: Callable[[Any], Awaitable[None]],
    pace: Places,
    *,
    ahead: bool = False,
) -> None:
    """Do every item with as many workers as `pace` says; the first error stops them all and is raised as it is.

    When a budget is spent, or the work is halted, what is in flight is waited for: it has been paid.

    Parameters
    ----------
    ahead
        Have a few workers more than places: `do` must see to it that they wait for one.
    """
    failure: BaseException | None = None
    tasks: set[asyncio.Task[None]] = set()
    exhausted = False

    def most() -> int:
        return pace.size + pace.resting + (pace.size // AHEAD if ahead else 0)

    async def worker() -> None:
        nonlocal exhausted
        while len(tasks) <= most() and not is_cancelled():
            item = await next_item()
            if item is None:
                exhausted = True
                return
            await do(item)
            grow()

    def grow() -> None:
        while not exhausted and len(tasks) < most():
            tasks.add(asyncio.create_task(worker()))

    pace.changed = grow
    grow()
    try:
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks -= done
            failures = [task.exception() for task in done if task.exception() is not None]
            failure = failure or next(iter(failures), None)
            exhausted = exhausted or failure is not None
            if failure is not None and not isinstance(failure, Halted):
                break
            grow()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        raise failure
