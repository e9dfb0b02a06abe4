"""A Dask cluster on this machine, in processes of its own: a scheduler and N workers that end with who started them.

``python -m nbannot.engine.local_cluster N`` prints, as one line of JSON, the scheduler's address and the keys of a
connection that nobody else on the machine can join (whoever can speak to a Dask scheduler can run code as its user),
and ends when its standard input does. Killed workers are started again. It is a program of its own, as Dask would start
its workers by importing the user's script a second time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from nbannot.errors import ModelError
from nbannot.models.keys import SECRET_NAMES

END_S = 5.0
"""How long workers may take to end when they are told to."""
CLOSE_S = 10.0
"""How long workers may take to end when there is nobody any more who started them."""
_clusters: dict[int, LocalCluster] = {}
_lock = threading.Lock()


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keys_and_places() -> dict[str, str]:
    """Return what the environment says of keys, and of where servers are and texts may go."""
    told = re.compile(r"_URL$|_HOSTS?$|_ENDPOINT$|_ONLY$")
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAMES.search(name.upper()) or told.search(name.upper())
    }


class LocalCluster:
    """The running processes; `close` ends them, and so does the end of this process.

    Attributes
    ----------
    address
        Of the scheduler.
    keys
        How to speak to it: the keywords of `distributed.Security`.
    """

    def __init__(self, workers: int) -> None:
        self.environment = _keys_and_places()
        with tempfile.TemporaryFile() as told_wrong:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nbannot.engine.local_cluster", str(workers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told_wrong,
                start_new_session=True,  # Ctrl-C in a terminal is for the run, which tells the workers itself
            )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line:
                self.close()
                told_wrong.seek(0)
                last = told_wrong.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                reason = " ".join(last)[:300] or "no reason given"
                raise ModelError(
                    f"the workers of this machine did not start: {reason}.\n"
                    '  They need: pip install "nbannot[cluster]". Without them: leave workers out.'
                )
        told = json.loads(line)
        self.address: str = told["address"]
        self.keys: dict[str, Any] = told["keys"]

    @property
    def is_alive(self) -> bool:
        """Whether the scheduler is still there."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the scheduler and the workers."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            _kill_group(self.process)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session of its own, with all that it started: a frozen worker hears nothing else."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def local_cluster(workers: int) -> LocalCluster:
    """Return the processes of this machine, which stay for the next run with what they have loaded.

    Others are started where they ended, or where a key or an address in the environment has changed since.
    """
    with _lock:
        there = _clusters.pop(workers, None)
        if there is not None and not (there.is_alive and there.environment == _keys_and_places()):
            there.close()
            there = None
        _clusters[workers] = there or LocalCluster(workers)
        return _clusters[workers]


def serve(workers: int) -> None:
    """Run the scheduler and the workers until standard input ends."""
    from dask import config
    from distributed import LocalCluster as Processes

    config.set(
        {
            "distributed.admin.log-length": 0,
            "distributed.comm.timeouts.connect": "10s",
            "distributed.scheduler.worker-ttl": "60s",  # a frozen one is killed and started anew
        }
    )
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    processes = Processes(
        n_workers=workers,
        threads_per_worker=max(1, cores() // workers),
        processes=True,
        host="127.0.0.1",
        security=True,
        dashboard_address=None,
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )
    secure = processes.security
    keys = {
        "require_encryption": True,
        "tls_ca_file": secure.tls_ca_file,
        "tls_client_key": secure.tls_client_key,
        "tls_client_cert": secure.tls_client_cert,
    }
    sys.stdout.write(json.dumps({"address": processes.scheduler_address, "keys": keys}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    if hasattr(os, "killpg"):  # a frozen worker would be waited for without end
        late = threading.Timer(CLOSE_S, os.killpg, (os.getpgrp(), signal.SIGKILL))
        late.daemon = True
        late.start()
    processes.close(timeout=3)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
