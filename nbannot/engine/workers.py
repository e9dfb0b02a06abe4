"""The workers of a Dask cluster as one model: requests go out in small parcels, each worker asks its own model.

Everything that decides stays where the run is: the order of work, calibration, further attempts, the budget, the one
ledger. Only the asking is elsewhere, so that a run has the same id and the same answers with workers and without.

A worker is given texts once it has said that its model is the same as the others'. What one had that is lost goes to
another one; workers may come later. When the scheduler is gone the run ends, and goes on later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from nbannot.asking.request_reply import AnswerMode, Model, ModelInfo, Reply, Request
from nbannot.engine.cluster_link import (
    LOOK_S,
    NOBODY_S,
    SILENT_S,
    Roll,
    WorkerLost,
    first,
    introduced,
    left,
    reached,
    result_of,
)
from nbannot.engine.local_cluster import LocalCluster
from nbannot.engine.posts import Lot, Post, by_our_meter, in_sum, silent_in_words
from nbannot.engine.servers import ServerGone
from nbannot.engine.station import Introduction, Parcel, Used, answer
from nbannot.errors import ModelError, ModelUnreached
from nbannot.models.addresses import is_loopback
from nbannot.models.http import at_once
from nbannot.models.several import differing, part_in_words
from nbannot.study.config import RunConfig
from nbannot.study.settings import DEFAULTS

LEAVE_S = 5.0
MOST_BYTES = 1 << 18
"""A parcel holds no more characters than that, unless one text alone does."""
MOST_LOST = 4
"""How often a request is given to workers that are lost before it fails: it may be what ends them."""
TOLD = (
    "model", "base_url", "context_size", "threads", "seed", "timeout_s", "max_parallel", "local_only",
    "allowed_hosts", "country_iso_code",
)  # fmt: skip
"""Settings that a worker is told: those that a model is made with."""
LOST = "the worker that had the request was lost; it was sent to another one"


class Workers:
    """The model of a run whose workers ask it.

    Parameters
    ----------
    config
        The settings; `config.workers` says where the workers are.
    home
        The same model in this process. It is asked for nothing but what kind of model it is, and what it is in full
        where the workers are processes of this machine.

    Attributes
    ----------
    grow
        Called when there are more workers, or fewer, than before.
    through
        The scheduler by which texts leave this machine, once the model was asked what it is.
    """

    unanswered_words = LOST

    def __init__(self, config: RunConfig, home: Model, say: Callable[[str], None] | None = None) -> None:
        assert config.workers is not None
        self.home, self.place, self._say = home, config.workers, say or (lambda _: None)
        self.settings = {
            name: value
            for name, value in config.to_dict().items()
            if name in TOLD and value != DEFAULTS[name]
        }
        for name in ("decides", "writes"):
            if hasattr(home, name):
                setattr(self, name, getattr(home, name))
        self.session = ""
        self.through: str | None = None
        self.grow: Callable[[], None] = lambda: None
        self._said: Introduction | None = None
        self._posts: dict[str, Post] = {}
        self._known: set[str] = set()
        self._queue: deque[Lot] = deque()
        self._cluster: LocalCluster | None = None
        self._client: Any = None
        self._roll = Roll(None)
        self._gone: ServerGone | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers = self._most = 0
        self._scheduler = ""
        self._flushing = False
        self._used: list[Used] = []  # by workers that are no more there
        self._silent: list[Used | None] = []  # what those had told that did not say it at the end

    # ---- what it is -------------------------------------------------------------------------------------------------

    def info(self) -> ModelInfo:
        """Return what the model is: of this machine's own processes as here, else as the first worker says.

        Raises
        ------
        ModelUnreached
            If the scheduler cannot be reached, or has no worker.
        ModelError
            If the worker cannot use the model, or has another version of nbannot.
        """
        if isinstance(self.place, int):
            return self.home.info()
        if self._said is None:
            self._scheduler, self._said = at_once(first(self.place, self.settings, self._say))
        info = self._said.info
        at = self._scheduler
        here = is_loopback(at) and self._said.host == socket.gethostname()
        self.through = None if here else at
        return replace(
            info,
            notes=(*info.notes, f"Texts go to the workers of the cluster at {at}."),
            is_local=info.is_local and here,
            endpoint=at if info.is_local and not here else info.endpoint,
        )

    @property
    def answer_modes(self) -> tuple[AnswerMode, ...]:
        """The ways in which the model can answer."""
        return self._said.answer_modes if self._said else self.home.answer_modes

    @property
    def reply_tokens(self) -> int:
        """The longest reply to allow where nothing is said."""
        told = self._said.reply_tokens if self._said else getattr(self.home, "reply_tokens", None)
        if told is None:
            raise AttributeError("reply_tokens")
        return told

    @property
    def parallel(self) -> int:
        """How many requests the workers take, with those that wait there."""
        if self._posts:
            return sum(post.room for post in self._posts.values())
        one = self._said.parallel if self._said else self.home.parallel
        return 2 * one * (self.place if isinstance(self.place, int) else 1)

    @property
    def capabilities(self) -> dict[str, Any]:
        """How many workers there were at the end."""
        return {"workers": self._most}

    def kwh(self) -> float:
        """Return the energy that the workers have told of so far, kWh."""
        now = [post.used for post in self._posts.values() if post.used is not None]
        records = in_sum([*self._used, *now])
        return sum(float(record["energy_consumed"]) for record in records)

    @property
    def energy_records(self) -> list[dict[str, Any]]:
        """What each worker used, once the model is closed."""
        return in_sum(self._used)

    @property
    def energy_gap(self) -> str:
        """What may be missing in them, in words."""
        return silent_in_words(self._silent)

    # ---- workers ----------------------------------------------------------------------------------------------------

    async def _take_in(self, address: str) -> None:
        """Let a worker load its model, and give it texts if that is the one of the run."""
        self._known.add(address)
        try:
            said = await introduced(self._client, address, self.session, self.settings)
        except WorkerLost:
            self._known.discard(address)  # if it is there after all, it is asked again
            raise
        mine = (
            self.home.info()
            if isinstance(self.place, int)
            else self._said.info
            if self._said is not None
            else said.info
        )
        if what := differing(mine, said.info):
            raise ModelError(
                f"the worker on {said.place} does not have the same model; {what}: "
                f"{part_in_words(said.info, what)}, not {part_in_words(mine, what)}.\n"
                "  Give all workers the same model, weights and versions."
            )
        self._posts[address] = Post(address, said)
        self._most = max(self._most, len(self._posts))

    async def open(self) -> None:
        """Start the workers of this machine, or find those of the cluster, and let each load its model."""
        self.session = uuid.uuid4().hex[:12]
        self._gone, self._posts, self._known = None, {}, set()
        try:
            self._client, self._cluster = await reached(self.place)
            self._scheduler = str(self._client.scheduler.address)
            self._roll = Roll(self._client)
            await self._begin()
        except BaseException:
            await self.close()
            raise
        self._do(self._watch())
        self.grow()

    async def _begin(self) -> None:
        """Take in the workers that are there; one that is silent is not waited for once another one is ready."""
        coming = {address: self._do(self._take_in(address)) for address in await self._roll.there()}
        lost: WorkerLost | None = None
        while coming:
            await asyncio.wait(coming.values(), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for address in [one for one, task in coming.items() if task.done()]:
                try:
                    coming.pop(address).result()
                except WorkerLost as error:
                    lost = error
            if self._posts and coming and not coming.keys() & set(await self._roll.there(SILENT_S)):
                break
        if lost is not None and not self._posts:
            raise lost
        for address, task in coming.items():
            self._say(f"the worker at {address} gives no sign of life; the run begins without it")
            self._do(self._later(task))

    async def _watch(self) -> None:
        """Look which workers there are: take in new ones, and give what lost ones had to others."""
        seen = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            there: set[str] | None = None
            with contextlib.suppress(ModelUnreached):
                there = set(await self._roll.there())
            if there is None or self._client.status != "running":
                self._end(f"the scheduler at {self._scheduler} does not answer any more")
                return
            for lost in [post for address, post in self._posts.items() if address not in there]:
                self._lost(lost)
            self._known &= there
            for address in there - self._known:
                self._known.add(address)
                self._do(self._later(self._take_in(address)))
            if self._posts:
                seen = time.monotonic()
            elif time.monotonic() - seen > NOBODY_S:
                self._end(f"the cluster at {self._scheduler} has had no worker for {NOBODY_S:g} seconds")
                return

    async def _later(self, coming: Awaitable[None]) -> None:
        """Give a worker texts when it has come."""
        try:
            await coming
        except Exception as error:  # noqa: BLE001 - one worker less; it is looked at again under another address
            self._say(str(error).splitlines()[0])
            return
        self.grow()
        self._soon()

    def _lost(self, post: Post) -> None:
        """Take back what a lost worker had."""
        if self._posts.pop(post.address, None) is None:
            return
        self._known.discard(post.address)
        self._goodbye(post, None)
        for task in list(post.at_hand):
            task.cancel()
        self.grow()

    def _end(self, why: str) -> None:
        """Give up: every request that waits, or is on its way, ends the run."""
        self._gone = ServerGone(f"{why}; what was answered is kept, and the same run goes on from there")
        waiting = [
            *self._queue,
            *(lot for post in self._posts.values() for lots in post.at_hand.values() for lot in lots),
        ]
        self._queue.clear()
        for lot in waiting:
            if not lot.reply.done():
                lot.reply.set_exception(self._gone)

    # ---- requests ---------------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Reply:
        """Return the reply that a worker got.

        Raises
        ------
        ServerGone
            If there is no scheduler or no worker any more.
        """
        if self._gone is not None:
            raise self._gone
        lot = Lot(request, asyncio.get_running_loop().create_future())
        self._queue.append(lot)
        self._soon()
        return await lot.reply

    def _soon(self) -> None:
        """Send what waits, once everyone who is about to ask has asked."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._queue:
            post = min(self._posts.values(), key=lambda post: post.count / post.room, default=None)
            if post is None or post.count >= post.room:
                return  # until a parcel is back, or a worker comes
            lots: list[Lot] = []
            size = 0
            while (
                self._queue
                and len(lots) < min(post.parcel, post.room - post.count)
                and (not lots or size < MOST_BYTES)
            ):
                if lots and (self._queue[0].lost or lots[0].lost):
                    break  # what was lost with a worker goes alone, in case it is what ended it
                lot = self._queue.popleft()
                if not lot.reply.done():  # else nobody waits for it any more
                    lots.append(lot)
                    size += lot.size
            if lots:
                post.count += len(lots)
                task = self._do(self._deliver(post, lots))
                post.at_hand[task] = lots

    async def _deliver(self, post: Post, lots: list[Lot]) -> None:
        """Send a parcel to a worker and hand out what comes back; what does not is sent to another one."""
        replies: tuple[Reply, ...] = ()
        why = "the worker was lost"
        self._numbers += 1
        try:
            work = self._client.submit(
                answer,
                self.session,
                Parcel([lot.request for lot in lots]),
                key=f"nbannot-{self.session}-{self._numbers}",
                workers=[post.address],
                pure=False,
            )
            back: Parcel = await result_of(self._client, work)
            if back.known:
                replies = back.items()
                post.told(back.used)
                if post.took(len(lots), back.took_s):
                    self.grow()
            else:
                self._lost(post)
        except asyncio.CancelledError:
            if post.address in self._posts and self._client.status == "running" and self._ending():
                raise
        except WorkerLost:
            self._lost(post)
        except Exception as error:  # noqa: BLE001 - whatever Dask tells of a worker or a scheduler that is gone
            why = f"{type(error).__name__}: {error}"[:200]
        finally:
            post.count -= len(lots)
            task = asyncio.current_task()
            if task is not None:
                post.at_hand.pop(task, None)
        for lot, reply in zip(lots, replies, strict=False):
            if not lot.reply.done():
                told = None if self._cluster is not None else post.said.host
                lot.reply.set_result(replace(reply, server=told, unanswered=reply.unanswered + lot.lost))
        for lot in lots[len(replies) :]:
            self._again(lot, why)
        self._soon()

    def _ending(self) -> bool:
        """Return whether it is the run that cancels this task."""
        task = asyncio.current_task()
        return task is not None and bool(task.cancelling())

    def _again(self, lot: Lot, why: str) -> None:
        lot.lost += 1
        if lot.reply.done():
            return
        if self._gone is not None:
            lot.reply.set_exception(self._gone)
        elif lot.lost >= MOST_LOST:
            words = f"{lot.lost} workers were lost over it; the last: {why}"
            lot.reply.set_result(Reply(error=words, finish_reason="error", unanswered=lot.lost - 1))
        else:
            self._queue.append(lot)
            asyncio.get_running_loop().call_later(0.05, self._soon)

    def _do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let every worker give up what it still has, tell what it used, and let go of the cluster."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is None:
            return
        posts, self._posts = list(self._posts.values()), {}
        leaving = {
            post.address: asyncio.create_task(left(client, post.address, self.session))
            for post in posts
            if client.status == "running"
        }
        if leaving:  # one that is frozen takes nothing from what the others say
            await asyncio.wait(leaving.values(), timeout=LEAVE_S)
        for post in posts:
            said = None
            if (last := leaving.get(post.address)) is not None:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    said = last.result() if last.done() else None
                last.cancel()
            self._goodbye(post, said)
        with contextlib.suppress(Exception):
            await client.close(timeout=1)

    def _goodbye(self, post: Post, said: Used | None) -> None:
        """Keep what a worker used: as it said when it left, else as far as it had told before."""
        post.told(said)
        if post.used is not None:
            self._used.append(post.used)
        told = said is not None and said.record is not None
        if post.said.info.energy_measured and not told and not (post.used and by_our_meter(post.used)):
            self._silent.append(post.used)
