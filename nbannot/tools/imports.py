"""Imports that an interrupt cannot cut in half.

Large libraries (polars, numpy, scipy) cannot be imported again in a session in which their first import was cut off.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib import import_module

_one_at_a_time = threading.Lock()


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

    if threading.current_thread() is threading.main_thread():
        threading.Thread(target=work, name="nbannot-imports", daemon=True).start()
        while not done.wait(0.5):  # a wait without end is deaf to interrupts on Windows
            pass
    else:
        for name in missing:
            import_module(name)
    if faults:
        raise faults[0]


def load_aside(*names: str) -> None:
    """Begin to import modules on a thread of their own, without waiting; what goes wrong is said when they are used."""
    missing = [name for name in names if not _loaded(name)]

    def work() -> None:
        with _one_at_a_time, contextlib.suppress(Exception):
            for name in missing:
                import_module(name)

    if missing:
        threading.Thread(target=work, name="nbannot-imports", daemon=True).start()


def _loaded(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)
