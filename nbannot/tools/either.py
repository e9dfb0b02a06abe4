"""An event that is set when either of two is."""

from __future__ import annotations

import threading


class Either(threading.Event):
    """Set when it is set, or another event."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())
