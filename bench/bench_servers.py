"""Two servers against one: how much faster a run is.

    python bench/bench_servers.py

Servers of 32 places that take 50 ms, each in a process of its own; 2,000 texts with 3 questions each, by the engine
alone (job, ledger, no scores), in turns; what counts are the medians and their ratio.
Aim: two servers at least 1.9 times as fast as one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_engine import TEXTS, Clock, made_task

HERE = Path(__file__).resolve()
TURNS = 3
AIM = 1.9


def asked(addresses: list[str]) -> dict[str, float]:
    """Ask everything of these servers, and return what it took."""
    from nbannot.asking.ledger import Ledger
    from nbannot.engine.engine import annotate
    from nbannot.models.registry import get_model
    from nbannot.running.design import design
    from nbannot.study.config import RunConfig

    config = RunConfig(model="openai/tiny", base_url=addresses, max_parallel=32)
    plan, model = design(made_task(TEXTS), config, get_model(config))
    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(Path(folder) / "responses.jsonl")
        begin = Clock()
        outcome = annotate(plan.job, model, book)
        found = begin.taken(outcome.progress.calls)
        book.close()
    assert outcome.progress.calls == TEXTS * 3, outcome.stopped
    return found


def main() -> None:
    """Measure, or be the client."""
    if len(sys.argv) > 1:
        print(json.dumps(asked(sys.argv[1:])))
        return
    from serving import in_a_process

    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with ExitStack() as stack:
        urls = [
            stack.enter_context(in_a_process(latency_s=0.05, capacity=32, cheap=True)) + "/v1" for _ in (1, 2)
        ]
        for _ in range(TURNS):
            for number, runs in found.items():
                command = [sys.executable, str(HERE), *urls[:number]]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout))
    rps = {number: statistics.median(run["rps"] for run in runs) for number, runs in found.items()}
    cpu = {number: statistics.median(run["cpu_ms"] for run in runs) for number, runs in found.items()}
    ratio = rps[2] / rps[1]
    print(
        f"50 ms, 32 places each | one server {rps[1]:.0f} /s {cpu[1]:.3f} ms CPU | two {rps[2]:.0f} /s "
        f"{cpu[2]:.3f} ms CPU | ratio {ratio:.2f} (aim {AIM}) | {'reached' if ratio >= AIM else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
