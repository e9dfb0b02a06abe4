"""The link to a Dask cluster: its scheduler is reached, and a worker says what it and its model are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Coroutine, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbannot import __version__
from nbannot.engine.cluster_keys import keys_beside
from nbannot.engine.local_cluster import LocalCluster, local_cluster
from nbannot.engine.station import Introduction, Used, introduce, leave
from nbannot.errors import ConfigError, ModelError, ModelUnreached
from nbannot.study.workers import security_of

CONNECT_S = 15.0
LOOK_S = 0.5
"""How often a scheduler is asked which workers there are."""
NOBODY_S = 60.0
"""How long a run waits for a worker before it ends."""
WRITTEN_S = 2.0
"""How long a scheduler may take to write its file: until then it may be empty, or half there."""
FROZEN_S = 60.0
"""A worker of which its scheduler has heard nothing for so long is taken for lost, however long a text takes it."""
SILENT_S = 10.0
"""One of which nothing has been heard for so long is not waited for where others can begin; it may join later."""
HEARD_S = 5.0
"""How often a scheduler is asked when it last heard of each worker, which is a long answer."""


async def connected(
    place: int | str, cluster: LocalCluster | None = None, say: Callable[[str], None] = lambda _: None
) -> Any:
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
        given |= {"scheduler_file": await _file(str(place), say)}
        if keys := keys_beside(str(place)):
            given |= {"security": Security(**keys)}
    else:
        given |= {"address": place, "security": security_of(str(place))}
    client: Any = None
    try:
        with warnings.catch_warnings():
            # Of numpy's version and the like; what matters is told of each worker.
            warnings.filterwarnings("ignore", "Mismatched versions found")
            client = Client(**given)
            return await client
    except (OSError, TimeoutError, ValueError, TypeError, ImportError, AssertionError) as error:
        if client is not None:  # else it would be closed later, with a warning, when it is forgotten
            with contextlib.suppress(Exception):
                await client.close(timeout=1)
        file = "address" not in given
        where = f"named in {place}" if file else f"at {given['address']}"
        why = " ".join(str(error).split())[:200] or type(error).__name__
        start = "Is the job that wrote the file still running (squeue)? Submit it again" if file else (
            "Start it (dask scheduler)"
        )  # fmt: skip
        if isinstance(error, TypeError):  # of a call that one of the two does not know
            start = f"Start it with the distributed that is installed here ({version('distributed')})"
            if str(place).startswith("tls:") and given["security"] is None:
                start = "It asks for keys: give its scheduler file with the .pem beside it, or a Dask client"
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


async def _file(place: str, say: Callable[[str], None]) -> str:
    """Return the name of a scheduler file once it is written: a job in a queue writes it when it starts."""
    began, waits = time.monotonic(), False
    while True:
        told, wrong = None, ""
        try:
            told = json.loads(Path(place).read_bytes() or b"null")
            if told is not None and not (isinstance(told, dict) and isinstance(told.get("address"), str)):
                wrong = "it holds no address"
        except FileNotFoundError:
            pass
        except OSError as error:
            wrong = f"it cannot be read ({error.strerror})"
        except ValueError:
            if time.monotonic() - began > WRITTEN_S:
                wrong = "it is not JSON"
        if wrong:
            raise ModelUnreached(
                f"{place} is not the file of a Dask scheduler: {wrong}.\n"
                "  Name the file that dask scheduler --scheduler-file, or a job of nbannot worker-setup, writes."
            )
        if told is not None:
            return place
        if not waits:
            say(f"waiting for the scheduler file {place}")
            waits = True
        if time.monotonic() - began > NOBODY_S:
            state = "is empty" if Path(place).exists() else "is not there"
            raise ModelUnreached(
                f"the scheduler file {place} {state}.\n"
                "  Is the job that starts the scheduler running (squeue)? nbannot worker-setup writes such a job."
            )
        await asyncio.sleep(LOOK_S)


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

    async def there(self, silent_s: float | None = None) -> list[str]:
        """Return the addresses of the workers.

        Parameters
        ----------
        silent_s
            Seconds without a sign of life after which one is left out; unset: those after which it counts as lost.

        Raises
        ------
        ModelUnreached
            If the scheduler does not say it.
        """
        most = FROZEN_S if silent_s is None else silent_s
        last = None
        try:
            async with asyncio.timeout(CONNECT_S):
                known = list(await self._client.scheduler.ncores())
                now = time.monotonic()
                if now - self._asked >= HEARD_S:
                    self._asked = now
                    told = (await self._client.scheduler.identity())["workers"]
                    last = {address: float(one["last_seen"]) for address, one in told.items()}
        except (OSError, TimeoutError, ValueError):
            raise ModelUnreached(
                "the scheduler of the workers does not answer any more.\n"
                "  Run the same again when it is there; workers = 2 are two processes here."
            ) from None
        if last is not None:
            self._heard = {
                address: kept
                if (kept := self._heard.get(address)) is not None and kept[0] == seen
                else (seen, now)
                for address, seen in last.items()
            }
        return [
            address for address in known if address not in self._heard or now - self._heard[address][1] < most
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


async def _while_there(client: Any, address: str, work: Coroutine[Any, Any, Any], silent_s: float) -> Any:
    """Return what comes of a piece of work for one worker; Dask itself would wait for a lost one for ever."""
    roll, waiting = Roll(client), asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
            if address not in await roll.there(silent_s):
                raise WorkerLost(
                    f"the worker at {address} was lost while it loaded the model.\n  Run the same again."
                )
        return waiting.result()
    finally:
        waiting.cancel()


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


async def introduced(
    client: Any, address: str, session: str, settings: Mapping[str, Any], silent_s: float | None = None
) -> Introduction:
    """Return what a worker says of itself; its model is loaded by that.

    Parameters
    ----------
    silent_s
        Seconds without a sign of life after which it counts as lost; unset: as while it is at work.

    Raises
    ------
    WorkerLost
        If it goes meanwhile.
    ModelError
        If it cannot use the model, or has no nbannot of this version.
    """
    packages: Mapping[str, str | None] = {}

    async def asked() -> Introduction:
        nonlocal packages
        packages = await _packages(client, address)
        work = client.submit(introduce, session, settings, key=key_of(session), workers=[address], pure=False)
        said: Introduction = await result_of(client, work)
        return said

    try:
        most = FROZEN_S if silent_s is None else silent_s
        said: Introduction = await _while_there(client, address, asked(), most)
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


async def left(client: Any, address: str, session: str) -> Used:
    """Let a worker end its part in a session, and return what it has used."""
    work = client.submit(leave, session, key=key_of(session), workers=[address], pure=False)
    used: Used = await result_of(client, work)
    return used


async def first(
    place: int | str, settings: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[str, Introduction]:
    """Return the scheduler's address and what the first worker says of itself; waits for one.

    Raises
    ------
    ModelUnreached
        If the scheduler cannot be reached, or has no worker.
    """
    client = await connected(place, say=say)
    at, session, roll = str(client.scheduler.address), uuid.uuid4().hex[:12], Roll(client)
    try:
        began, told = time.monotonic(), False
        while True:
            for address in await roll.there():
                with contextlib.suppress(WorkerLost):
                    said = await introduced(client, address, session, settings, SILENT_S)
                    # What it has loaded goes by itself after a while, too.
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(CONNECT_S):
                            await left(client, address, session)
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
