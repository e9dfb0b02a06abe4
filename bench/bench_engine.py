"""The engine against a bare HTTP client: 2,000 texts with 3 questions each, over a server in a process of its own.

The bare client sends the same bodies over the same kind of connections and does nothing else: it reads no reply,
checks no answer and writes nothing down. The engine makes prompts, asks, checks, and keeps its ledger. Both run in
processes of their own, in turns; what counts are the medians and their ratio, as other work on the machine moves single
numbers.

    python bench/bench_engine.py          that
    python bench/bench_engine.py flat     50,000 texts: CPU per answer at the beginning and at the end, peak memory
    python bench/bench_engine.py start    seconds until the first request, in a new process and in a running one
    python bench/bench_engine.py whole    5,000 requests from the call of `nbannot.run` to its scores, report and files
    python bench/bench_engine.py two      no latency, two processes: two whole engines against two bare clients

Aims: 97 % of the bare client's requests per second with a server that takes 50 ms, at 32 and at 128 requests at once
(more than 100 % is possible: the engine has requests ready before a place is free, the bare client makes none ahead);
50 % with one that takes no time; under 0.5 ms of the client's CPU time for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
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

    from nbannot.study.task import Task

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
    from nbannot.models.openai_compatible import OpenAIModel
    from nbannot.running.design import design
    from nbannot.study.config import RunConfig

    config = RunConfig(model="openai/tiny", base_url=f"{url}/v1", max_parallel=parallel)
    model = OpenAIModel("tiny", base_url=f"{url}/v1", max_parallel=parallel)
    plan, _ = design(made_task(TEXTS), config, model)
    return plan.job, model


def with_engine(url: str, parallel: int) -> dict[str, float]:
    """Let the engine do the whole job, and return what it took."""
    from nbannot.asking.ledger import Ledger
    from nbannot.engine.engine import annotate

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
    from nbannot.asking.ledger import Ledger
    from nbannot.engine.engine import Engine
    from nbannot.engine.job import Progress

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
    aim = 0.97 if latency_s else 0.5
    ratio = rps["engine"] / rps["bare"]
    verdict = "reached" if ratio >= aim and cpu["engine"] < 0.5 else "MISSED"
    print(
        f"{1000 * latency_s:5.0f} ms {parallel:4d} at once | bare {rps['bare']:6.0f} /s {cpu['bare']:.3f} ms CPU | "
        f"engine {rps['engine']:6.0f} /s {cpu['engine']:.3f} ms CPU | ratio {ratio:.2f} (aim {aim:.2f}) | "
        f"spread {100 * spread:.0f} % | {verdict}",
        flush=True,
    )


# ---- many texts -------------------------------------------------------------------------------------------------

MANY_TEXTS = 50_000


def flat() -> None:
    """Print the CPU per answer in the first and last tenth of each question, and the peak memory of the process.

    A run asks one question over all texts, then the next; questions differ in their cost, so tenths are compared
    within a question.
    """
    import nbannot
    from nbannot.engine import energy
    from nbannot.engine.job import Progress

    energy.prewarm = lambda: None
    energy.Meter.start = lambda self: None  # type: ignore[method-assign]
    task = made_task(MANY_TEXTS)
    marks: list[tuple[int, float]] = []

    def tick(progress: Progress) -> None:
        marks.append((progress.done, time.process_time()))

    with tempfile.TemporaryDirectory() as place:
        run = nbannot.run(task, model="mock", output_root=place, tick=tick)
    assert run.status == "complete"
    ratios = []
    for number, f in enumerate(run.coding.fields):
        begin, tenth = number * MANY_TEXTS, MANY_TEXTS // 10
        first = cpu_at(marks, begin + tenth) - cpu_at(marks, begin)
        last = cpu_at(marks, begin + MANY_TEXTS) - cpu_at(marks, begin + MANY_TEXTS - tenth)
        ratios.append(last / first)
        print(
            f"{f.name:10} CPU per answer: first tenth {1000 * first / tenth:.3f} ms, last {1000 * last / tenth:.3f} ms"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    verdict = "reached" if max(ratios) <= 1.1 and peak < 400 else "MISSED"
    print(f"{MANY_TEXTS:,} texts x 3 questions | last to first at most {max(ratios):.2f} (aim 1.10) | "
          f"peak {peak:.0f} MB with the task, its scores and its report (aim 400) | {verdict}")  # fmt: skip


def cpu_at(marks: list[tuple[int, float]], done: int) -> float:
    """Return the CPU seconds at which so many answers were done, between two looks in proportion."""
    earlier = (0, marks[0][1])
    for mark in marks:
        if mark[0] >= done:
            share = (done - earlier[0]) / max(1, mark[0] - earlier[0])
            return earlier[1] + share * (mark[1] - earlier[1])
        earlier = mark
    return earlier[1]


# ---- a whole run ------------------------------------------------------------------------------------------------

WHOLE_REQUESTS = 5000
WHOLE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import bench_engine as bench
if sys.argv[2] == "bare":
    bench.TEXTS = bench.WHOLE_REQUESTS // 3 + 1
    found = bench.with_bare_client(sys.argv[3], 32)
    print(json.dumps({"seconds": bench.WHOLE_REQUESTS / found["rps"]}))
else:
    task = bench.coded_task()
    import nbannot
    took = []
    if sys.argv[2] == "notebook":  # as after the first cell, while the second is typed
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "nbannot")
        shell.run_cell("pass")
        time.sleep(4)
    for turn in range(2):
        began = time.perf_counter()
        run = nbannot.run(task, model="openai/tiny", base_url=sys.argv[3] + "/v1", output_root=sys.argv[4],
                          max_parallel=32, fresh=True)
        took.append(time.perf_counter() - began)
        assert run.status == "complete" and run.outcome.progress.calls == 3 * len(task), run.status
    calls = run.outcome.progress.calls
    print(json.dumps({"new": took[0] * bench.WHOLE_REQUESTS / calls, "again": took[1] * bench.WHOLE_REQUESTS / calls}))
"""


def coded_task() -> Any:
    """Return a task of so many texts that they take `WHOLE_REQUESTS` requests, with a human label for every field."""
    import polars as pl

    from nbannot.study.task import Task

    n, drawing = WHOLE_REQUESTS // 3 + 1, random.Random(2)
    task = made_task(n)
    labels = [pl.Series(f.column, drawing.choices(f.labels, k=n)) for f in task.codebook]
    return Task(task.data.with_columns(labels), task.codebook, "bench")


def whole() -> None:
    """Print what a whole run takes: in a process that has done nothing yet, in a kernel, and again in the same one."""
    from serving import in_a_process

    found: dict[str, list[float]] = {"bare": [], "new": [], "again": [], "notebook": []}
    with in_a_process(latency_s=0.05, capacity=32, cheap=True) as url:
        for _ in range(TURNS):
            bare = told(WHOLE, str(HERE.parent), "bare", url)
            found["bare"].append(bare["seconds"])
            for kind in ("ours", "notebook"):
                with tempfile.TemporaryDirectory() as place:
                    ours = told(WHOLE, str(HERE.parent), kind, url, place)
                found["new" if kind == "ours" else kind].append(ours["new"])
                found["again"].append(ours["again"])
    middle = {name: statistics.median(seconds) for name, seconds in found.items()}
    for name, what in (
        ("new", "first run of a process"),
        ("notebook", "first run of a kernel, four seconds after %load_ext"),
        ("again", "again in the same process"),
    ):
        ratio = middle["bare"] / middle[name]
        print(
            f"{WHOLE_REQUESTS:,} requests, 50 ms, 32 at once, {what}: bare {middle['bare']:.2f} s, whole run "
            f"{middle[name]:.2f} s | ratio {ratio:.2f} (aim 0.90) | {'reached' if ratio >= 0.9 else 'MISSED'}",
            flush=True,
        )


def told(code: str, *given: str) -> dict[str, float]:
    """Return what a script prints as JSON in its last line."""
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---- two processes ----------------------------------------------------------------------------------------------


def two() -> None:
    """Print what two processes reach together, each with a whole engine and a ledger of its own, or a bare client.

    More than this no run that is shared by two processes can reach: nothing is handed from one to the other here.
    """
    from serving import in_a_process

    rates: dict[str, list[float]] = {"bare": [], "engine": []}
    with in_a_process(capacity=64, cheap=True) as url:
        for _ in range(TURNS):
            for which, found in rates.items():
                command = [sys.executable, str(HERE), "--client", which, url, "32"]
                both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
                outs = [json.loads(one.communicate()[0]) for one in both]
                found.append(sum(out["rps"] for out in outs))
    middle = {which: statistics.median(found) for which, found in rates.items()}
    ratio = middle["engine"] / middle["bare"]
    print(
        f"0 ms, two processes of 32 at once: bare {middle['bare']:.0f} /s, engines {middle['engine']:.0f} /s | "
        f"ratio {ratio:.2f} (aim 0.80) | {'reached' if ratio >= 0.8 else 'MISSED'}"
    )


# ---- the first request ------------------------------------------------------------------------------------------

FIRST_REQUESTS = """
import sys, time
import nbannot
from nbannot.models.openai_compatible import OpenAIModel
ask, asked = OpenAIModel.ask, []
async def noted(self, request):
    asked.append(time.time())
    return await ask(self, request)
OpenAIModel.ask = noted
for limit in (10, 11, 12):
    began, asked[:] = time.time(), []
    nbannot.run("policy-sentiment", model="openai/tiny", base_url=sys.argv[1], output_root=sys.argv[2], limit=limit)
    print(asked[0], asked[0] - began)
"""


def start() -> None:
    """Print the seconds from the start of a process, and of a further run in it, to the first request."""
    from serving import in_a_process

    new, running = [], []
    with in_a_process() as url:
        for _ in range(5):
            with tempfile.TemporaryDirectory() as place:
                began = time.time()
                command = [sys.executable, "-c", FIRST_REQUESTS, f"{url}/v1", place]
                told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            (first, _), *further = ([float(word) for word in line.split()] for line in told.splitlines())
            new.append(first - began)
            running += [seconds for _, seconds in further]
    for what, found, aim in (("new process", new, 1.5), ("running kernel", running, 0.3)):
        middle = statistics.median(found)
        print(f"{what:14} to the first request: median {middle:.2f} s, {min(found):.2f} to {max(found):.2f} "
              f"(aim {aim}) | {'reached' if middle < aim else 'MISSED'}")  # fmt: skip
    command = [sys.executable, "-c", "from nbannot.engine.energy import Meter; Meter(None).start()"]
    with tempfile.TemporaryDirectory() as place:
        for what in ("a processor it has not seen", "one it has seen"):
            began = time.time()
            subprocess.run(command, check=True, env={**os.environ, "NBANNOT_CACHE": place})
            print(
                f"CodeCarbon alone, a new process, {what}: {time.time() - began:.2f} s; nothing is asked before"
            )


def main() -> None:
    """Measure everything, or be one of the clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("flat", "start", "whole", "two"))
    parser.add_argument("--client", nargs=3, metavar=("WHICH", "URL", "PARALLEL"))
    asked = parser.parse_args()
    client = asked.client
    if asked.part:
        {"flat": flat, "start": start, "whole": whole, "two": two}[asked.part]()
        return
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
