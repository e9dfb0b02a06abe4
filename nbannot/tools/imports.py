"""Imports that an interrupt cannot cut in half.

Large libraries (polars, numpy, scipy) cannot be imported again in a session in which their first import was cut off.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from importlib import import_module
from typing import Any

_BOOTSTRAP = "<frozen importlib._bootstrap>"
_one_at_a_time = threading.Lock()
_waiting: list[str] = []
"""Threads that cannot go on without an import."""


def load(*names: str) -> None:
    """Import modules on a thread of their own, and wait for them.

    Python interrupts the main thread only. There it ends the waiting; the import goes on and will be there next time.

    Raises
    ------
    ImportError
        As the import itself would.
    KeyboardInterrupt
        At once, when the user stops the waiting.
    """
    missing = [name for name in names if not _loaded(name)]
    if not missing:
        return
    faults: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            with _one_at_a_time:
                for name in missing:
                    import_module(name)
        except BaseException as error:  # noqa: BLE001 - carried to the waiting thread
            faults.append(error)
        finally:
            done.set()

    _waiting.append(missing[0])
    try:
        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=work, name="nbannot-imports", daemon=True).start()
            while not done.wait(0.5):  # a wait without end is deaf to interrupts on Windows
                pass
        else:
            for name in missing:
                import_module(name)
    finally:
        _waiting.pop()
    if faults:
        raise faults[0]


def load_aside(*names: str) -> None:
    """Begin to import modules on a thread of their own, without waiting; what goes wrong is said when they are used.

    It goes in slices, as an import lets no other thread work: three quarters of the time are left to the others, until
    somebody waits for an import.
    """
    missing = [name for name in names if not _loaded(name)]

    def work() -> None:
        with _one_at_a_time, contextlib.suppress(Exception):
            pauses = _Pauses()
            sys.meta_path.insert(0, pauses)
            try:
                for name in missing:
                    import_module(name)
            finally:
                sys.meta_path.remove(pauses)

    if missing:
        threading.Thread(target=work, name="nbannot-imports", daemon=True).start()


class _Pauses:
    """Stands before the finders of modules: finds none, but lets its thread rest before each that is looked for."""

    def __init__(self) -> None:
        self.thread, self.worked = threading.current_thread(), time.thread_time()

    def find_spec(self, *_: Any) -> None:
        """Rest three times as long as this thread has worked since its last rest, if that is worth it."""
        if threading.current_thread() is not self.thread:
            return
        worked = time.thread_time() - self.worked
        if worked > 0.001:
            until = time.monotonic() + 3 * worked
            while not (_waiting or _waited_for()) and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.01))
            self.worked = time.thread_time()


def _waited_for() -> bool:
    """Return whether another thread is held up in an import: a finder that rests keeps the lock of all of them."""
    return any(frame.f_code.co_filename == _BOOTSTRAP for frame in sys._current_frames().values())


def _loaded(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)
