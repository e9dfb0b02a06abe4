"""The link to a Dask cluster: its scheduler is reached, and a worker says what it and its model are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot import __version__
from nbannot.engine.cluster_keys import keys_beside
from nbannot.engine.local_cluster import LocalCluster, local_cluster
from nbannot.engine.station import Introduction, introduce, leave
from nbannot.errors import ConfigError, ModelError, ModelUnreached
from nbannot.study.workers import security_of

CONNECT_S = 15.0
LOOK_S = 0.5
"""How often a scheduler is asked which workers there are."""
NOBODY_S = 60.0
"""How long a run waits for a worker before it ends."""
FROZEN_S = 60.0
"""A worker of which its scheduler has heard nothing for so long is taken for lost, however long a text takes it."""
HEARD_S = 5.0
"""How often a scheduler is asked when it last heard of each worker, which is a long answer."""


async def connected(place: int | str, cluster: LocalCluster | None = None) -> Any:
    """Return a client of the scheduler at a place, in the running event loop.

    Parameters
    ----------
    place
        An address, or the name of a scheduler file; not used with `cluster`.
    cluster
        The processes of this machine.

    Raises
    ------
    ModelUnreached
        If it cannot be reached.
    ModelError
        If distributed is not installed.
    """
    try:
        from distributed import Client, Security
    except ImportError:
        raise ModelError(
            'workers need the package "distributed", which is not installed.\n  pip install "nbannot[cluster]"'
        ) from None
    _quiet()
    given: dict[str, Any] = {"asynchronous": True, "set_as_default": False, "timeout": CONNECT_S}
    if cluster is not None:
        given |= {"address": cluster.address, "security": Security(**cluster.keys)}
    elif str(place).endswith(".json"):
        given |= {"scheduler_file": await _file(str(place))}
        if keys := keys_beside(str(place)):
            given |= {"security": Security(**keys)}
    else:
        given |= {"address": place, "security": security_of(str(place))}
    try:
        with warnings.catch_warnings():
            # Of numpy's version and the like; what matters is told of each worker.
            warnings.filterwarnings("ignore", "Mismatched versions found")
            return await Client(**given)
    except (OSError, TimeoutError, ValueError, TypeError, ImportError) as error:
        where = f"at {given['address']}" if "address" in given else f"named in {place}"
        why = " ".join(str(error).split())[:200] or type(error).__name__
        start = "Start it (dask scheduler)"
        if isinstance(error, TypeError):  # of a call that one of the two does not know
            start = f"Start it with the distributed that is installed here ({version('distributed')})"
        raise ModelUnreached(
            f"the scheduler {where} cannot be reached: {why}.\n"
            f"  {start}, or give workers another address; workers = 2 are two processes here."
        ) from None


async def reached(place: int | str) -> tuple[Any, LocalCluster | None]:
    """Return a client, and the processes of this machine, if so many of them are the place.

    Those that do not answer are ended and started anew, once.
    """
    if not isinstance(place, int):
        return await connected(place), None
    processes = await asyncio.to_thread(local_cluster, place)
    try:
        return await connected(place, processes), processes
    except ModelUnreached:
        await asyncio.to_thread(processes.close)
        processes = await asyncio.to_thread(local_cluster, place)
        return await connected(place, processes), processes


async def _file(place: str) -> str:
    """Return the name of a scheduler file once it is there: a job in a queue writes it when it starts."""
    began = time.monotonic()
    while not Path(place).exists():
        if time.monotonic() - began > NOBODY_S:
            raise ModelUnreached(
                f"there is no scheduler file {place}.\n"
                "  Is the job that starts the scheduler running (squeue)? nbannot worker-setup writes such a job."
            )
        await asyncio.sleep(LOOK_S)
    return place


def _quiet() -> None:
    """Keep Dask's lines on a lost connection out of the notebook: the run says what it means for it."""
    for name in ("client", "core", "batched", "comm", "comm.tcp", "utils"):
        logging.getLogger(f"distributed.{name}").addFilter(_is_of_somebody_else)


def _is_of_somebody_else(record: logging.LogRecord) -> bool:
    return record.threadName not in ("nbannot-engine", "nbannot-call")


class Roll:
    """Which workers a scheduler has, without those that give no sign of life.

    A frozen process keeps its connections open: only the heartbeats that a worker sends beside its work tell it from a
    slow one. Dask itself looks after five minutes, where the cluster does not say otherwise.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._heard: dict[str, tuple[float, float]] = {}  # what the scheduler said, and when that was news
        self._asked = -HEARD_S

    async def there(self) -> list[str]:
        """Return the addresses of the workers."""
        known = list(await self._client.scheduler.ncores())
        now = time.monotonic()
        if now - self._asked >= HEARD_S:
            self._asked = now
            told = (await self._client.scheduler.identity())["workers"]
            last = {address: float(one["last_seen"]) for address, one in told.items()}
            self._heard = {
                address: kept
                if (kept := self._heard.get(address)) is not None and kept[0] == seen
                else (seen, now)
                for address, seen in last.items()
            }
        return [
            address
            for address in known
            if address not in self._heard or now - self._heard[address][1] < FROZEN_S
        ]


async def result_of(client: Any, work: Any) -> Any:
    """Return the result of a piece of work; who is cancelled meanwhile leaves nothing behind that complains.

    Raises
    ------
    WorkerLost
        If the result went with the worker that had it.
    Exception
        Whatever the work raised.
    """
    waiting = asyncio.ensure_future(_fetched(client, work))
    waiting.add_done_callback(lambda task: task.cancelled() or task.exception())
    return await asyncio.shield(waiting)


async def _fetched(client: Any, work: Any) -> Any:
    # Dask fetches the results of several pieces of work together: a frozen worker's would hold up those of all others.
    await work.exception()
    if work.status != "finished":
        return await work
    told = await client.scheduler.gather(keys=[work.key])
    if told["status"] != "OK":
        raise WorkerLost("the worker was lost with the result")
    return told["data"][work.key]


def key_of(session: str) -> str:
    """Return a name for a piece of work that dashboards may show."""
    return f"nbannot-{session}-{uuid.uuid4().hex[:8]}"


class WorkerLost(ModelUnreached):
    """A worker went while it loaded the model; others may be there."""


async def _while_there(client: Any, address: str, work: Any) -> Any:
    """Return the result of a piece of work for one worker; Dask itself would wait for a lost one for ever."""
    roll, waiting = Roll(client), asyncio.ensure_future(result_of(client, work))
    while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
        try:
            async with asyncio.timeout(CONNECT_S):
                gone = address not in await roll.there()
        except (OSError, TimeoutError, ValueError):
            gone = True
        if gone:
            waiting.cancel()
            raise WorkerLost(
                f"the worker at {address} was lost while it loaded the model.\n  Run the same again."
            )
    return waiting.result()


async def _packages(client: Any, address: str) -> Mapping[str, str | None]:
    """Return the versions of what a worker has installed, as it can tell them even if it has no nbannot."""
    with contextlib.suppress(OSError, TimeoutError, ValueError, KeyError):
        async with asyncio.timeout(CONNECT_S):
            told = await client.scheduler.broadcast(
                msg={"op": "versions", "packages": ["nbannot"]}, workers=[address], on_error="ignore"
            )
            packages: Mapping[str, str | None] = told[address]["packages"]
            return packages
    return {}


def _lost_for(packages: Mapping[str, str | None]) -> str:
    """Return why a worker may have ended its connection when it was sent its first piece of work; "" if unknown."""
    if "nbannot" in packages and packages["nbannot"] is None:
        return "has no nbannot"
    theirs, ours = packages.get("distributed"), version("distributed")
    return f"has distributed {theirs}, and this is {ours}" if theirs not in (None, ours) else ""


async def introduced(client: Any, address: str, session: str, settings: Mapping[str, Any]) -> Introduction:
    """Return what a worker says of itself; its model is loaded by that.

    Raises
    ------
    WorkerLost
        If it goes meanwhile.
    ModelError
        If it cannot use the model, or has no nbannot of this version.
    """
    packages = await _packages(client, address)
    work = client.submit(introduce, session, settings, key=key_of(session), workers=[address], pure=False)
    try:
        said: Introduction = await _while_there(client, address, work)
    except WorkerLost:
        if why := _lost_for(packages):
            raise ModelError(
                f"the worker at {address} {why}.\n"
                f"  Install nbannot {__version__} for its scheduler and workers, in the same way as here."
            ) from None
        raise
    except (ModelError, ConfigError) as error:
        kind = ModelUnreached if isinstance(error, ModelUnreached) else ModelError
        raise kind(f"the worker at {address} cannot use the model: {error}") from None
    except (ImportError, AttributeError, TypeError, RuntimeError) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(
            f"the cluster has no nbannot like the one here ({words}).\n"
            f"  Install nbannot {__version__} for its scheduler and workers, in the same way as here."
        ) from None
    if said.version != __version__:
        raise ModelError(
            f"the worker on {said.place} has nbannot {said.version}, and this is {__version__}.\n"
            "  Install the same version on both."
        )
    return said


async def first(
    place: int | str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[str, Introduction]:
    """Return the scheduler's address and what the first worker says of itself; waits for one.

    Raises
    ------
    ModelUnreached
        If the scheduler cannot be reached, or has no worker.
    """
    client = await connected(place)
    at, session, roll = str(client.scheduler.address), uuid.uuid4().hex[:12], Roll(client)
    try:
        began, told = time.monotonic(), False
        while True:
            for address in await roll.there():
                with contextlib.suppress(WorkerLost):
                    said = await introduced(client, address, session, settings)
                    with contextlib.suppress(
                        Exception
                    ):  # what it has loaded goes by itself after a while, too
                        async with asyncio.timeout(CONNECT_S):
                            await client.submit(
                                leave, session, key=key_of(session), workers=[address], pure=False
                            )
                    return at, said
            if not told:
                say(f"waiting for a worker of the cluster at {at}")
                told = True
            if time.monotonic() - began > NOBODY_S:
                raise ModelUnreached(
                    f"the cluster at {at} has no worker.\n"
                    "  Start one (dask worker), or wait for the queue, and run the same again."
                )
            await asyncio.sleep(LOOK_S)
    finally:
        await client.close()
