"""The engine against a bare HTTP client: 2,000 texts with 3 questions each, over a server in a process of its own.

The bare client sends the same bodies over the same kind of connections and does nothing else: it reads no reply,
checks no answer and writes nothing down. The engine makes prompts, asks, checks, and keeps its ledger. Both run in
processes of their own, in turns; what counts are the medians and their ratio, as other work on the machine moves single
numbers.

Aims: 95 % of the bare client's requests per second with a server that takes 50 ms, at 32 and at 128 requests at once;
50 % with one that takes no time; under 0.5 ms of the client's CPU time for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests"))

TEXTS = 2000
TURNS = 3
SENTENCE = (
    "the council voted for a new law on rents and the opposition called it unfair while tenants were glad of it "
    "because prices had risen for years and nobody had done anything about housing in the city"
)


def made_task(n: int) -> Any:
    """Return a task of `n` texts of about 900 characters with a checkbox, a dropdown and a likert field."""
    import polars as pl

    from nbannot.task import Task

    drawing, words = random.Random(1), SENTENCE.split()
    texts = [f"{i}. " + " ".join(drawing.choices(words, k=170)) for i in range(n)]
    guide = "Read the whole text and judge only what it says. " * 5
    annotations = {
        "annotation_1": {"name": "Judges", "type": "checkbox", "tooltip": guide},
        "annotation_2": {
            "name": "Direction",
            "type": "dropdown",
            "tooltip": guide,
            "options": ["positive", "negative", "mixed", "no clear sentiment"],
        },
        "annotation_3": {
            "name": "Strength",
            "type": "likert",
            "tooltip": guide,
            "min_value": 1,
            "max_value": 5,
        },
    }
    section = {"section_name": "Policy", "section_instruction": guide, "annotations": annotations}
    codebook = {"text_column": "text", "section_1": section}
    data = pl.DataFrame({"id": [f"t{i}" for i in range(n)], "text": texts})
    return Task(data, codebook, "bench")


def prepared(url: str, parallel: int) -> tuple[Any, Any]:
    """Return the job and the model, ready to be asked."""
    from nbannot.config import RunConfig
    from nbannot.models.openai_compatible import OpenAIModel
    from nbannot.run import design

    config = RunConfig(model="openai/tiny", base_url=f"{url}/v1", max_parallel=parallel)
    model = OpenAIModel("tiny", base_url=f"{url}/v1", max_parallel=parallel)
    plan, _ = design(made_task(TEXTS), config, model)
    return plan.job, model


def with_engine(url: str, parallel: int) -> dict[str, float]:
    """Let the engine do the whole job, and return what it took."""
    from nbannot.engine import annotate
    from nbannot.ledger import Ledger

    job, model = prepared(url, parallel)
    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(Path(folder) / "responses.jsonl")
        begin = Clock()
        outcome = annotate(job, model, book)
        found = begin.taken(outcome.progress.calls)
        book.close()
    right = sum(a is not None and a.status == "ok" for answers in outcome.answers.values() for a in answers)
    assert right == TEXTS * len(job.fields), f"{right} valid answers"
    return found


def with_bare_client(url: str, parallel: int) -> dict[str, float]:
    """Send the same bodies with aiohttp and read the replies, and nothing else."""
    import aiohttp

    job, model = prepared(url, parallel)
    bodies = list(bodies_of(job, model))

    async def run() -> dict[str, float]:
        limit = aiohttp.ClientTimeout(total=120, ceil_threshold=float("inf"))
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=connector, timeout=limit, headers=headers) as session:
            left = iter(bodies)

            async def worker() -> None:
                for body in left:
                    async with session.post(f"{url}/v1/chat/completions", data=body) as response:
                        await response.read()
                        assert response.status == 200

            begin = Clock()
            await asyncio.gather(*(worker() for _ in range(parallel)))
            return begin.taken(len(bodies))

    return asyncio.run(run())


def bodies_of(job: Any, model: Any) -> Iterator[bytes]:
    """Yield the bodies that the engine sends, in its order: one question over all texts, then the next."""
    from nbannot.engine import Engine, Progress
    from nbannot.ledger import Ledger

    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(Path(folder) / "responses.jsonl")
        engine = Engine(job, model, book, Progress())
        for group in job.groups:
            for row in range(len(job.ids)):
                yield model.body(engine.request(row, group, ()))
        book.close()


class Clock:
    """Wall time and the CPU time of this process from here on."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), self._cpu()

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def taken(self, requests: int) -> dict[str, float]:
        """Return requests per second and the CPU milliseconds of each."""
        wall, cpu = time.perf_counter() - self.wall, self._cpu() - self.cpu
        return {"rps": requests / wall, "cpu_ms": 1000 * cpu / requests, "requests": requests}


def measured(which: str, url: str, parallel: int) -> dict[str, float]:
    """Return what a client took, in a process of its own."""
    command = [sys.executable, str(HERE), "--client", which, url, str(parallel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(latency_s: float, parallel: int) -> None:
    """Print one line: both clients in turns over the same server."""
    from serving import in_a_process

    runs: dict[str, list[dict[str, float]]] = {"bare": [], "engine": []}
    with in_a_process(latency_s=latency_s, capacity=parallel, cheap=True) as url:
        for _ in range(TURNS):
            for which, found in runs.items():
                found.append(measured(which, url, parallel))
    rps = {which: statistics.median(one["rps"] for one in found) for which, found in runs.items()}
    cpu = {which: statistics.median(one["cpu_ms"] for one in found) for which, found in runs.items()}
    spread = max(
        (max(v) - min(v)) / statistics.median(v) for v in ([o["rps"] for o in f] for f in runs.values())
    )
    aim = 0.95 if latency_s else 0.5
    ratio = rps["engine"] / rps["bare"]
    verdict = "reached" if ratio >= aim and cpu["engine"] < 0.5 else "MISSED"
    print(
        f"{1000 * latency_s:5.0f} ms {parallel:4d} at once | bare {rps['bare']:6.0f} /s {cpu['bare']:.3f} ms CPU | "
        f"engine {rps['engine']:6.0f} /s {cpu['engine']:.3f} ms CPU | ratio {ratio:.2f} (aim {aim:.2f}) | "
        f"spread {100 * spread:.0f} % | {verdict}",
        flush=True,
    )


def main() -> None:
    """Measure everything, or be one of the clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--client", nargs=3, metavar=("WHICH", "URL", "PARALLEL"))
    client = parser.parse_args().client
    if client:
        which, url, parallel = client
        run = with_engine if which == "engine" else with_bare_client
        print(json.dumps(run(url, int(parallel))))
        return
    print(f"{TEXTS:,} texts x 3 questions; medians of {TURNS} turns")
    for latency_s, parallel in ((0.05, 32), (0.05, 128), (0.0, 32)):
        compare(latency_s, parallel)


if __name__ == "__main__":
    main()
