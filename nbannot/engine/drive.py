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
    halt: Callable[[str], None],
    progress: Progress,
    tick: Tick | None,
    stop: threading.Event | None,
    every_s: float,
    grace_s: float,
    outcome: Outcome,
) -> BaseException | None:
    """Run a coroutine in its own loop on a worker thread while the calling thread shows progress and listens.

    Parameters
    ----------
    halt
        Called in the loop, with the reason, when `tick` raises: nothing more is to be sent.
    """
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
                if tick and outcome.raised is None:
                    _show(tick, progress, outcome)
                    if outcome.raised is not None:
                        why = f"{type(outcome.raised).__name__}: {outcome.raised}"
                        _in_the_loop(box, ready, halt, f"showing the progress failed: {why}")
                if stop is not None and stop.is_set() and deadline is None:
                    deadline = _cancel(box, ready, grace_s, outcome)
                if deadline is not None and time.monotonic() > deadline:
                    break
            break
        except KeyboardInterrupt:
            if deadline is not None:
                break
            deadline = _cancel(box, ready, grace_s, outcome)
    if tick and outcome.raised is None:
        _show(tick, progress, outcome)
    error = box.get("error")
    return None if isinstance(error, asyncio.CancelledError) else _single(error)


def _show(tick: Tick, progress: Progress, outcome: Outcome) -> None:
    """Call `tick`; what it raises, an interrupt apart, is in the outcome."""
    try:
        tick(progress)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - raised by the caller, once every answer is kept
        outcome.raised = error


def _in_the_loop(box: dict[str, Any], ready: threading.Event, call: Callable[..., None], *given: Any) -> None:
    ready.wait(1)
    if "loop" in box:
        with contextlib.suppress(RuntimeError):  # the loop has just ended
            box["loop"].call_soon_threadsafe(call, *given)


def _cancel(box: dict[str, Any], ready: threading.Event, grace_s: float, outcome: Outcome) -> float:
    outcome.interrupted = True
    outcome.stopped = "stopped by the user"
    _in_the_loop(box, ready, lambda: box["task"].cancel())
    return time.monotonic() + grace_s


def _single(error: BaseException | None) -> BaseException | None:
    """Return the one error in a group of one, without the chain that makes notebooks print raw tracebacks."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
