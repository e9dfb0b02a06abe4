"""What a worker of a Dask cluster does for a run: it asks its own model, and hands the replies back.

Everything here runs in a process of the cluster. A worker is sent settings and requests, never a key: keys come from
its own environment. Requests and replies travel as bytes in a `Parcel`, so that neither a dashboard nor a log shows
a text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nbannot import __version__
from nbannot.asking.request_reply import AnswerMode, Model, ModelInfo, Reply, Request
from nbannot.engine.energy import Meter
from nbannot.models.keys import known_secrets, scrubbed
from nbannot.models.registry import get_model
from nbannot.models.together import Together
from nbannot.study.config import RunConfig

IDLE_S = 600.0
"""How long the model of a run that was broken off stays loaded."""
HALT_S = 30.0
"""How long a model may take to let go of what it was asked."""
LOOK_S = 5.0
"""How often energy is measured while requests are answered."""


class Parcel:
    """Some requests or replies on their way; tells nothing of what is in it.

    Parameters
    ----------
    used
        What the worker has used so far, where it has looked anew: it counts if the worker is lost.
    known
        Whether the worker knew the run; else nothing was asked.
    took_s
        How long the worker took over it.
    """

    def __init__(
        self, items: Sequence[Any], used: Used | None = None, known: bool = True, took_s: float = 0.0
    ) -> None:
        self.number, self.used, self.known, self.took_s = len(items), used, known, took_s
        self._bytes = pickle.dumps(tuple(items), protocol=pickle.HIGHEST_PROTOCOL)

    def items(self) -> tuple[Any, ...]:
        """Return what is in it."""
        items: tuple[Any, ...] = pickle.loads(self._bytes)
        return items

    def __repr__(self) -> str:
        return f"<Parcel of {self.number}>"


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself and of its model.

    Attributes
    ----------
    place
        Host and process, for people.
    """

    place: str
    host: str
    version: str
    info: ModelInfo
    answer_modes: tuple[AnswerMode, ...]
    parallel: int
    reply_tokens: int | None = None


@dataclass(frozen=True)
class Used:
    """What a worker has used for a run, so far or in all.

    Attributes
    ----------
    of_the_machine
        Whether energy was measured for all processes of the machine together.
    record
        The columns of CodeCarbon; ``None`` where nothing was measured.
    """

    host: str
    of_the_machine: bool = False
    record: dict[str, Any] | None = None

    @property
    def kwh(self) -> float:
        """The energy in the record, kWh; 0 where there is none."""
        return float(self.record["energy_consumed"]) if self.record else 0.0


class Station:
    """The model of one run in one process, with an event loop of its own."""

    def __init__(self, settings: Mapping[str, Any], threads: int) -> None:
        config = RunConfig(**settings)
        if config.threads is None:
            config = config.change(threads=max(1, threads))
        self.model: Model = Together(get_model(config))
        self.info = self.model.info()
        self.used = time.monotonic()
        self.at_work = 0
        self._meter = Meter(config.country_iso_code)
        self._looked = time.monotonic()
        self._meter_lock = threading.Lock()
        self._closed, self._door = False, threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._places = asyncio.Semaphore(max(1, self.model.parallel))
        threading.Thread(target=self._loop.run_forever, name="nbannot-station", daemon=True).start()
        metering = threading.Thread(target=self._meter.start if self.info.energy_measured else lambda: None)
        metering.start()  # which takes seconds, as the model may
        self._run(self.model.open())
        metering.join()

    def _run(self, work: Any) -> Any:
        with self._door:  # what a stopped loop is given would be waited for without end
            if self._closed:
                work.close()
                raise RuntimeError("the run has left this worker")
            begun = asyncio.run_coroutine_threadsafe(work, self._loop)
        return begun.result()

    def answer(self, requests: Sequence[Request]) -> Parcel:
        """Return the replies to some requests, asked all at once as far as the model has places."""
        self.at_work += 1
        began = time.monotonic()
        try:
            replies = self._run(self._all(requests))
        finally:
            self.at_work -= 1
            self.used = time.monotonic()
        return Parcel(replies, self._used(), took_s=self.used - began)

    async def _all(self, requests: Sequence[Request]) -> list[Reply]:
        replies = await asyncio.gather(*map(self._one, requests))
        # Once per parcel, as it takes as long as a request; and after the asking, when every key was used.
        secrets = known_secrets()
        return [
            scrubbed(reply, secrets, partial(_sent, request))
            for request, reply in zip(requests, replies, strict=True)
        ]

    async def _one(self, request: Request) -> Reply:
        async with self._places:
            try:
                return await self.model.ask(request)
            except Exception as error:  # noqa: BLE001 - a backend may be anybody's
                words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                return Reply(error=f"the model's backend failed: {words}", finish_reason="error")

    def _used(self) -> Used | None:
        """Return what was used so far, measured anew now and then; ``None`` in between."""
        if not self.info.energy_measured:
            return None
        with self._meter_lock:
            if time.monotonic() - self._looked < LOOK_S:
                return None
            self._looked = time.monotonic()
            record = self._meter.so_far()
            return Used(socket.gethostname(), self._meter.of_the_machine, record) if record else None

    async def _halt(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self.model.close()

    def close(self) -> Used:
        """Give up what is in flight, close the model, and return what was used."""
        with self._door:
            self._closed = True
            halted = asyncio.run_coroutine_threadsafe(self._halt(), self._loop)
        with contextlib.suppress(Exception):
            halted.result(HALT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        return Used(socket.gethostname(), self._meter.of_the_machine, self._meter.stop())


def _sent(request: Request) -> str:
    return "\n".join(message["content"] for message in request.messages)


_stations: dict[str, Station] = {}
_lock = threading.Lock()


def introduce(run: str, settings: Mapping[str, Any]) -> Introduction:
    """Return what this worker and its model are; the model is loaded or contacted.

    Parameters
    ----------
    run
        Names the session of work.
    settings
        Those that the model is made with, as plain data.
    """
    from distributed import get_worker

    with _lock:
        for other, station in list(_stations.items()):
            if other != run and not station.at_work and time.monotonic() - station.used > IDLE_S:
                del _stations[other]
                station.close()
        if run not in _stations:
            _stations[run] = Station(settings, get_worker().state.nthreads)
        station = _stations[run]
    model, host = station.model, socket.gethostname()
    return Introduction(
        f"{host}, process {os.getpid()}",
        host,
        __version__,
        replace(station.info, details=dict(station.info.details)),
        model.answer_modes,
        model.parallel,
        getattr(model, "reply_tokens", None),
    )


def answer(run: str, parcel: Parcel) -> Parcel:
    """Return the replies to the requests of a parcel."""
    from distributed import secede

    station = _stations.get(run)
    if station is None:  # started again under the same address
        return Parcel((), known=False)
    secede()  # while it waits, the worker's thread is free for the next parcel
    return station.answer(parcel.items())


def leave(run: str) -> Used:
    """End the session here."""
    with _lock:
        station = _stations.pop(run, None)
    return station.close() if station is not None else Used(socket.gethostname())
