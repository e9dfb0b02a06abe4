"""From the caller's thread to the event loop and back."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from nbannot.engine.job import Outcome, Progress

Tick = Callable[[Progress], None]


def drive(
    work: Callable[[], Coroutine[Any, Any, None]],
    progress: Progress,
    tick: Tick | None,
    stop: threading.Event | None,
    every_s: float,
    grace_s: float,
    outcome: Outcome,
) -> BaseException | None:
    """Run a coroutine in its own loop on a worker thread while the calling thread shows progress and listens."""
    box: dict[str, Any] = {}
    ready, done = threading.Event(), threading.Event()
    context = contextvars.copy_context()

    def worker() -> None:
        async def main() -> None:
            box["task"], box["loop"] = asyncio.current_task(), asyncio.get_running_loop()
            ready.set()
            await work()

        try:
            with asyncio.Runner() as runner:
                context.run(runner.run, main())
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread
            box["error"] = error
        finally:
            ready.set()
            done.set()

    threading.Thread(target=worker, name="nbannot-engine", daemon=True).start()
    deadline: float | None = None
    while True:
        try:
            while not done.wait(every_s):
                if tick:
                    tick(progress)
                if stop is not None and stop.is_set() and deadline is None:
                    deadline = _cancel(box, ready, grace_s, outcome)
                if deadline is not None and time.monotonic() > deadline:
                    break
            break
        except KeyboardInterrupt:
            if deadline is not None:
                break
            deadline = _cancel(box, ready, grace_s, outcome)
    if tick:
        tick(progress)
    error = box.get("error")
    return None if isinstance(error, asyncio.CancelledError) else _single(error)


def _cancel(box: dict[str, Any], ready: threading.Event, grace_s: float, outcome: Outcome) -> float:
    outcome.interrupted = True
    outcome.stopped = "stopped by the user"
    ready.wait(1)
    if "loop" in box:
        with contextlib.suppress(RuntimeError):  # the work ended just now, and its loop with it
            box["loop"].call_soon_threadsafe(box["task"].cancel)
    return time.monotonic() + grace_s


def _single(error: BaseException | None) -> BaseException | None:
    """Return the one error in a group of one, without the chain that makes notebooks print raw tracebacks."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
