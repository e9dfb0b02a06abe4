"""Where the workers of a run are: what its setting `workers` may be, and what an object of Dask stands for."""

from __future__ import annotations

import re
from typing import Any

MOST = 512
"""Processes of this machine."""
ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|gateway)://[^\s@?#]+")

_security: dict[str, Any] = {}
"""Address of a scheduler -> how to speak to it, as the client or cluster that was given knows."""


def workers(value: Any) -> str:
    """Check for a number of processes, the address of a scheduler, or the name of its file."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "" if 1 <= value <= MOST else f"must be a number of processes from 1 to {MOST}"
    known = isinstance(value, str) and (
        ADDRESS.fullmatch(value) or re.fullmatch(r"[^\x00-\x1f]+\.json", value)
    )
    return "" if known else (
        'must be a number of processes on this machine, the address of a Dask scheduler ("tcp://host:8786"), '
        "its scheduler file (….json), or a Dask client or cluster"
    )  # fmt: skip


def place_of(given: Any) -> Any:
    """Return the address of the scheduler of a Dask client or cluster, 4 for ``local:4``; anything else as it is."""
    if isinstance(given, str) and (here := re.fullmatch(r"local:(\d{1,4})", given)):
        return int(here[1])
    if isinstance(given, str | int) or given is None:
        return given
    scheduler = getattr(given, "scheduler", None)
    address = getattr(given, "scheduler_address", None) or getattr(scheduler, "address", None)
    if not isinstance(address, str):
        return given
    _security[address] = getattr(given, "security", None)
    return address


def security_of(address: str) -> Any:
    """Return how to speak to a scheduler; ``None``: as Dask is configured."""
    return _security.get(address)
