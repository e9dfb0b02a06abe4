"""The keys of a Dask cluster of one's own: one file, readable by its owner alone, beside the scheduler file.

``python -m nbannot.engine.cluster_keys FILE`` writes one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def write_keys(place: Path) -> None:
    """Write a new key and its certificate, with which scheduler, workers and clients know each other."""
    from distributed.security import Security

    made = Security.temporary()
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{made.tls_client_key}\n{made.tls_client_cert}\n")


def keys_beside(scheduler_file: str) -> dict[str, Any]:
    """Return the keywords of `distributed.Security` where keys lie beside a scheduler file; none where not."""
    place = Path(scheduler_file).with_suffix(".pem")
    if not place.exists():
        return {}
    file = str(place)
    return {
        "require_encryption": True,
        "tls_ca_file": file,
        "tls_client_key": file,
        "tls_client_cert": file,
    }


if __name__ == "__main__":
    write_keys(Path(sys.argv[1]))
