"""Two worker processes against one process, and kills of everything that takes part.

    python bench/bench_workers.py              throughput, in turns; what counts are the medians and their ratio
    python bench/bench_workers.py http         a server that takes no time: two workers, one process, two bare clients
    python bench/bench_workers.py kill 50 1    so many kills of a worker, the scheduler or the notebook, from a seed

Throughput: a mock model that takes 50 ms, 32 requests at once in each of two workers against 64 at once in one process;
the embedded model with one thread in each of two workers against one process with two. By the engine alone (job,
ledger, no scores), counted from the first question on. Aim: 0.9 of the one process, and the same answers. With a
server that takes no time the process that has the ledger is the limit; what is measured is what workers take off it.

Kills: workers ask a real HTTP server, which counts what it is asked. Each kill is a SIGKILL at a random number of
further requests. At the end every run is complete, holds every line that any ledger held before, and its output.csv
is that of a run without workers; no answer is in a ledger twice, and no more was asked again than the killed workers,
or all of them, can have had at hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests"))
sys.path.insert(0, str(HERE.parent))

from bench_engine import made_task  # noqa: E402

TURNS = 3
AIM = 0.9
HOW = {
    "mock": (3000, "mock/?slow_s=0.05&parallel={}", ("Judges", "Direction")),
    "local": (60, "local", ("Direction",)),
    "http": (2000, "openai/tiny", ("Judges", "Direction", "Strength")),
}
ROOM = 16
"""Requests that a worker with 8 places has at hand."""
PATIENT_S = 180.0


def asked(kind: str, workers: int | None, url: str | None = None) -> dict[str, Any]:
    """Ask everything, and return how fast, and a digest of the answers."""
    import hashlib

    from nbannot.asking.ledger import Ledger
    from nbannot.engine.engine import annotate
    from nbannot.running.design import design
    from nbannot.study.config import RunConfig

    texts, model, fields = HOW[kind]
    config = RunConfig(
        model=model.format(32 if workers else 64),
        workers=workers,
        fields=fields,
        threads=1 if workers else 2,
        calibration="none" if kind == "local" else None,
        **({"base_url": f"{url}/v1", "max_parallel": 32} if url else {}),
    )
    plan, made = design(made_task(texts), config)
    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(Path(folder) / "responses.jsonl")
        cpu = time.process_time()
        outcome = annotate(plan.job, made, book)
        cpu = time.process_time() - cpu
        book.close()
    assert outcome.progress.calls == texts * len(fields), outcome.stopped
    answers = [[(a.status, a.value) for a in column if a] for column in outcome.answers.values()]
    return {
        "rps": outcome.progress.calls / outcome.progress.asking_s,
        "cpu_ms": 1000 * cpu / outcome.progress.calls,
        "answers": hashlib.sha256(json.dumps(answers).encode()).hexdigest(),
    }


def throughput() -> None:
    """Print the ratio for both models."""
    for kind in ("mock", "local"):
        found: dict[str, list[dict[str, Any]]] = {"0": [], "2": []}
        for _ in range(TURNS):
            for workers, runs in found.items():
                runs.append(told("ask", kind, workers))
        one, two = (statistics.median(run["rps"] for run in runs) for runs in found.values())
        same = len({run["answers"] for runs in found.values() for run in runs}) == 1
        print(
            f"{kind} | one process {one:.1f} /s | two workers {two:.1f} /s | ratio {two / one:.2f} (aim {AIM}) | "
            f"answers {'the same' if same else 'DIFFER'} | {'reached' if two >= AIM * one and same else 'MISSED'}",
            flush=True,
        )


def told(*words: str) -> dict[str, Any]:
    """Return what a process of this program prints."""
    done = subprocess.run([sys.executable, str(HERE), *words], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def http() -> None:
    """Print requests per second of one process, of two workers and of two bare clients, over a server of its own."""
    from serving import in_a_process

    found: dict[str, list[dict[str, Any]]] = {"0": [], "2": []}
    bare: list[float] = []
    client = [sys.executable, str(HERE.parent / "bench_engine.py"), "--client", "bare"]
    with in_a_process(capacity=64, cheap=True) as url:
        for _ in range(TURNS):
            for workers, runs in found.items():
                runs.append(told("ask", "http", workers, url))
            both = [subprocess.Popen([*client, url, "32"], stdout=subprocess.PIPE, text=True) for _ in "12"]
            bare.append(sum(json.loads(one.communicate()[0])["rps"] for one in both))
    one, two = (statistics.median(run["rps"] for run in runs) for runs in found.values())
    cpu = [statistics.median(run["cpu_ms"] for run in runs) for runs in found.values()]
    clients = statistics.median(bare)
    same = len({run["answers"] for runs in found.values() for run in runs}) == 1
    print(
        f"http, 0 ms | two bare clients {clients:.0f} /s | one process {one:.0f} /s, {cpu[0]:.3f} ms of its CPU each | "
        f"two workers {two:.0f} /s, {cpu[1]:.3f} ms of the run's CPU each | {two / one:.2f} of one process, "
        f"{two / clients:.2f} of the bare clients (one process {one / clients:.2f}) | "
        f"answers {'the same' if same else 'DIFFER'}"
    )


# ---- kills --------------------------------------------------------------------------------------------------------


class Cluster:
    """A scheduler and two workers as `dask` starts them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.file.unlink(missing_ok=True)
        self.log = open(folder / "cluster.log", "ab")  # noqa: SIM115 - as long as the processes
        self.scheduler = self._started("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
        end = time.monotonic() + PATIENT_S
        while not self.file.exists():
            assert time.monotonic() < end, "no scheduler"
            time.sleep(0.05)
        self.nannies = self._started("worker", "--nworkers", "2", "--nthreads", "1", "--no-dashboard")

    def _started(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", words[0], "--scheduler-file", str(self.file), *words[1:]],
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def worker_pids(self) -> list[int]:
        """Return the processes that ask: the children of the nannies which have children of nobody else's."""
        import psutil

        below = psutil.Process(self.nannies.pid).children(recursive=True)
        return [one.pid for one in below if "spawn_main" in " ".join(one.cmdline())]

    def close(self) -> None:
        """End everything."""
        for process in (self.nannies, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.log.close()


def tell_where(*_: Any) -> None:
    """Print the stack of every thread and of every task."""
    import asyncio
    import faulthandler
    import gc

    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    for task in [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]:
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def ended(process: subprocess.Popen[bytes], folder: Path, cluster: Cluster) -> None:
    """Say where everything is that takes part, and give up: a run has not ended in time."""
    process.send_signal(signal.SIGUSR1)
    if spy := shutil.which("py-spy"):
        for pid in cluster.worker_pids():
            told = subprocess.run([spy, "dump", "--pid", str(pid)], capture_output=True, text=True)
            print(told.stdout, file=sys.stderr)
    time.sleep(5)
    process.kill()
    for name in ("notebook.log", "cluster.log"):
        print(name, (folder / name).read_text()[-20000:], sep="\n", file=sys.stderr)
    cluster.close()
    raise SystemExit(f"a run has not ended in {PATIENT_S:g} s")


def notebook(url: str, root: str, repeat: int, scheduler: str) -> None:
    """Run, or go on; SIGUSR1 makes it tell where every thread and every task is."""
    signal.signal(signal.SIGUSR1, tell_where)
    import nbannot
    from nbannot.engine import energy

    energy.prewarm = lambda: None
    energy.Meter.start = lambda self: None  # type: ignore[method-assign]
    done = nbannot.run(
        made_task(150),
        model="openai/tiny",
        base_url=url,
        output_root=root,
        fields=("Judges", "Direction"),
        repeat=repeat,
        workers=None if scheduler == "-" else scheduler,
        max_parallel=8,
    )
    print(done.status, done.config.get("stopped"))


def ledger_lines(root: Path) -> dict[tuple[Any, ...], int]:
    """Return how often each question has an answer in the ledgers below a folder."""
    from nbannot.asking.ledger_lines import read_lines

    counts: Counter[tuple[Any, ...]] = Counter()
    for path in root.glob("*/*/responses.jsonl"):
        for line in read_lines(path):
            if "text_id" in line and not line.get("error"):
                counts[path.parent.name, line["text_id"], tuple(line["columns"]), line["attempt"]] += 1
    return counts


def kills(number: int, seed: int) -> None:
    """Kill, go on, and count."""
    from serving import Serving

    drawing = random.Random(seed)
    done: Counter[str] = Counter()
    allowed, lost, repeat = 0, 0, 1
    with tempfile.TemporaryDirectory() as place, Serving(latency_s=0.05) as server:
        folder, root = Path(place), Path(place) / "outputs"
        command = [sys.executable, str(HERE), "notebook", server.openai_url]
        truth = subprocess.run([*command, str(folder / "truth"), "1", "-"], capture_output=True, check=True)
        assert truth.stdout.startswith(b"complete"), truth
        right = next((folder / "truth").glob("*/*/output.csv")).read_bytes()
        server.calls.clear()
        before: dict[tuple[Any, ...], int] = {}
        cluster = Cluster(folder)
        unfinished = False
        while sum(done.values()) < number or unfinished:
            log = open(folder / "notebook.log", "w+b")  # noqa: SIM115 - closed below
            process = subprocess.Popen(
                [*command, str(root), str(repeat), str(cluster.file)], stdout=log, stderr=subprocess.STDOUT
            )
            unfinished, end = True, time.monotonic() + PATIENT_S
            at = len(server.calls) + drawing.randrange(1, 220)
            while process.poll() is None:
                if time.monotonic() > end:
                    ended(process, folder, cluster)
                time.sleep(0.002)
                if len(server.calls) < at or sum(done.values()) >= number:
                    continue
                at = len(server.calls) + drawing.randrange(20, 220)
                what = drawing.choice(("worker", "scheduler", "notebook"))
                if what == "worker":
                    if not (there := cluster.worker_pids()):
                        continue
                    os.kill(drawing.choice(there), signal.SIGKILL)
                elif what == "scheduler":
                    os.killpg(cluster.scheduler.pid, signal.SIGKILL)
                else:
                    process.kill()
                done[what] += 1
                allowed += ROOM if what == "worker" else 2 * ROOM
                if what != "worker":
                    process.wait(60)
            log.close()
            if process.returncode not in (0, -signal.SIGKILL):
                cluster.close()
                raise SystemExit((folder / "notebook.log").read_text()[-3000:])
            unfinished = not (folder / "notebook.log").read_text().startswith("complete")
            if cluster.scheduler.poll() is not None:
                cluster.close()
                cluster = Cluster(folder)
            time.sleep(0.3)  # what workers still send for a notebook that is gone
            now = ledger_lines(root)
            lost += sum(key not in now for key in before)
            before = now
            repeat += not unfinished
            print(f"{dict(done)} runs {repeat}", file=sys.stderr, flush=True)
        cluster.close()
        runs = list(root.glob("*/*/output.csv"))
        wrong = sum(path.read_bytes() != right for path in runs)
        expected = 300 * len(runs)
        missing = expected - len(before)
        twice = sum(before.values()) - len(before)
        asked_more = len(server.calls) - sum(before.values())
        print(
            f"kills {sum(done.values())} {dict(done)} | runs {len(runs)} | lost {lost + missing} | "
            f"output.csv that differ {wrong} | answers twice in a ledger {twice} | asked again {asked_more}, "
            f"at hand when something was killed at most {allowed} | "
            f"{'reached' if not (lost or missing or wrong or twice or asked_more > allowed) else 'MISSED'}"
        )


def main() -> None:
    """Measure, or be one of the processes."""
    match sys.argv[1:]:
        case []:
            throughput()
        case ["ask", kind, workers]:
            print(json.dumps(asked(kind, int(workers) or None)))
        case ["ask", kind, workers, url]:
            print(json.dumps(asked(kind, int(workers) or None, url)))
        case ["http"]:
            http()
        case ["notebook", url, root, repeat, scheduler]:
            notebook(url, root, int(repeat), scheduler)
        case ["kill", number, seed]:
            kills(int(number), int(seed))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
