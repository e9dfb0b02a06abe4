"""The servers of one run: which one gets the next request, and what becomes of one that does not answer.

A run has one server or several of the same model. Each has its own pace and is held back by itself. Of several, one
that fails is left out and looked at again, less and less often, until it answers; what it was sent goes to another one.
A broken connection may mean that another model has been started there: no text goes there before it has said what it
serves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from nbannot.asking.request_reply import Model
from nbannot.engine.pace import Pace
from nbannot.errors import NbannotError
from nbannot.models.several import Several

OUT_AFTER = 3
"""Errors that one of several servers sends, one after the other, from which on it is left out."""
FIRST_LOOK_S = 0.5
"""Until the second look; the first is at once."""
LONGEST_LOOK_S = 30.0
LOOKS = 7
"""Looks in vain at every server, half a minute in all, from which on the run stops."""


class ServerGone(NbannotError):
    """The model server has not answered many times in a row."""


class Server:
    """One server: what it has in flight, its pace, and how it has answered lately.

    Attributes
    ----------
    name
        Its address, where there are several.
    resume_at
        Monotonic time before which it is sent nothing.
    failures
        One after the other, without an answer between; those of requests that were in flight together are one.
    broken
        As `failures`, each by itself.
    out
        Whether it is left out for now.
    refused
        Whether it is left out for good, as it serves something else.
    looks
        How often it was looked at in vain since it last answered.
    """

    def __init__(self, model: Model, most: int | None, name: str | None = None) -> None:
        self.model, self.name = model, name
        self.pace = Pace(max(1, min(model.parallel, most or model.parallel)))
        self.in_flight = 0
        self.resume_at = self.failed_at = self.answered_at = 0.0
        self.failures = self.broken = self.looks = 0
        self.out = self.refused = False
        self.last = ""

    def answered(self, came: float) -> None:
        """Take note of an answer, and of when it came, which may be before others that were sent were dealt with."""
        self.failures = self.broken = self.looks = 0
        self.answered_at = max(self.answered_at, came)
        self.pace.well()


class Servers:
    """The servers of a run, and how many requests they take together.

    Attributes
    ----------
    resting
        How many requests wait before they are sent again: they hold no place.
    changed
        Called when more requests can be sent than before.
    notes
        What to tell of servers that came back with another model.
    """

    def __init__(self, model: Model, most: int | None, wake: Callable[[], None]) -> None:
        self._of = model if isinstance(model, Several) else None
        named: Iterable[tuple[str | None, Model]] = [(None, model)]
        if self._of is not None:
            named = zip(self._of.addresses, self._of.servers, strict=True)
        grows = hasattr(model, "grow")
        self.each = [Server(one, None if grows else most, name) for name, one in named]
        self.several = len(self.each) > 1
        self.resting = 0
        self.changed: Callable[[], None] = lambda: None
        if hasattr(model, "grow"):  # more places may come, and fewer (`nbannot.engine.workers`)
            model.grow = self._grown
        self.notes: list[str] = []
        self.gone = ""
        self._wake = wake
        self._looks: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """How many requests may be in flight; one at least, so that somebody waits for a server to come back."""
        if not self.several:
            return self.each[0].pace.size
        return max(1, sum(server.pace.size for server in self.there))

    @property
    def there(self) -> list[Server]:
        """Those that are not left out."""
        return [server for server in self.each if not server.out]

    def opened(self) -> None:
        """Leave out, for now, what could not be reached when it was asked what it serves."""
        for server in self.each:
            if self._of is not None and server.name in self._of.unreached and not server.out:
                self.leave_out(server, self._of.unreached[server.name])

    def _grown(self) -> None:
        """Take note that the model takes more requests at once than before, or fewer."""
        server = self.each[0]
        server.pace.limit(server.model.parallel)
        self._wake()
        self.changed()

    def candidates(self, tried: Sequence[Server]) -> list[Server]:
        """Return the servers that may get a request: those that have not failed it, else all that are there."""
        there = self.there if self.several else self.each
        return [server for server in there if server not in tried] or there if tried else there

    def is_too_much(self, server: Server, *, silent: bool) -> bool:
        """Count a failure of one of several servers; return whether it is one too many: the first without any reply."""
        server.broken += 1
        return self.several and (silent or server.broken >= OUT_AFTER)

    def leave_out(self, server: Server, why: str) -> None:
        """Send nothing to a server until it answers a question about itself. Called in the event loop."""
        server.last = why
        if not server.out:
            server.out = True
            self._end_if_gone(server)
            look = asyncio.get_running_loop().create_task(self._look(server))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look(self, server: Server) -> None:
        """Ask a server that is left out what it serves, until it answers, or serves something else."""
        assert self._of is not None
        while True:
            if server.looks:
                await asyncio.sleep(min(LONGEST_LOOK_S, FIRST_LOOK_S * 2.0 ** (server.looks - 1)))
            why, for_good = await asyncio.to_thread(self._of.fault, self.each.index(server))
            server.looks += 1
            if for_good:
                self.notes.append(why)
                server.refused = True
            if why:
                server.last = why
                self._end_if_gone(server)
                if for_good:
                    return
                continue
            server.out, server.broken, server.failures = False, 0, 0
            server.resume_at = server.failed_at = 0.0
            server.answered_at = time.monotonic()
            self._wake()
            self.changed()
            return

    def _end_if_gone(self, server: Server) -> None:
        """Give up when every server is left out, and has been looked at often enough."""
        if not self.there and all(one.refused or one.looks >= LOOKS for one in self.each):
            self.gone = f"no server has answered for a while; {server.name}: {server.last}"
            self._wake()

    async def close(self) -> None:
        """Stop looking; whoever is left out is looked at first when the same servers are opened again."""
        if self._of is not None:
            self._of.unreached = {
                server.name: server.last for server in self.each if server.out and server.name
            }
        for look in list(self._looks):
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
