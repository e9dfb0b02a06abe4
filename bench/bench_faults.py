"""The engine against a server that misbehaves: every kind of fault at 5, 20 and 50 %, 500 texts with 2 questions each.

    python bench/bench_faults.py         the table
    python bench/bench_faults.py kill    kill -9 at 50 random moments under 20 % mixed faults; `kill 500 7`: at so many,
                                         from another seed (1 if not given), for several processes side by side
    python bench/bench_faults.py matrix  kill -9 before every single file operation of a run, then the same run again
    python bench/bench_faults.py starts  many processes that start the same run at the same moment

The server answers what the mock model answers in process, so that every valid answer can be checked. Waiting times are
short (20 ms before the first request is sent again, 50 ms for a reply that never comes), as what is measured is what
becomes of the answers. What is checked is listed in `checked`; a check that fails ends the program.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests"))
sys.path.insert(0, str(HERE.parent))

from bench_engine import made_task  # noqa: E402
from serving import FAULTS, OF_THE_WIRE, Serving, content_of  # noqa: E402

TEXTS = 500
FIELDS = ("Direction", "Strength")
SHARES = (0.05, 0.2, 0.5)
KILLS = 50
FIRST_WAIT_S = 0.02
HANG_TIMEOUT_S = 0.05
PATIENT_S = 30.0
NAMED = ("invalid", "refused", "truncated")
CHAT = "/v1/chat/completions"


def prepare() -> None:
    """Shorten the waits, and leave out the energy meter, which takes seconds to start."""
    from nbannot.engine import energy, sending

    sending.FIRST_WAIT_S = FIRST_WAIT_S
    energy.prewarm = lambda: None
    energy.Meter.start = lambda self: None  # type: ignore[method-assign]


def annotated(task: Any, url: str, place: str, timeout_s: float) -> Any:
    """Return the run over a server."""
    import nbannot

    return nbannot.run(
        task, model="openai/tiny", base_url=url, output_root=place, fields=FIELDS, timeout_s=timeout_s
    )


def truth(task: Any) -> dict[str, list[Any]]:
    """Return column -> the answers that the mock model gives in process to the same questions."""
    from nbannot.asking.answers import read_reply
    from nbannot.asking.ledger import Ledger
    from nbannot.engine.engine import Engine
    from nbannot.engine.job import Progress
    from nbannot.models.mock import MockModel
    from nbannot.running.design import design
    from nbannot.study.config import RunConfig

    model = MockModel()
    job = design(task, RunConfig(model="mock", fields=FIELDS), model)[0].job
    found: dict[str, list[Any]] = {f.column: [] for f in job.fields}

    async def ask() -> None:
        with tempfile.TemporaryDirectory() as place:
            book = Ledger(Path(place) / "responses.jsonl")
            engine = Engine(job, model, book, Progress())
            for (f,) in job.groups:
                for row in range(len(job.ids)):
                    reply = await model.ask(engine.request(row, (f,), ()))
                    found[f.column].append(read_reply((f,), job.originals[row], reply, 1)[f.column].value)
            book.close()

    asyncio.run(ask())
    return found


def ledger_calls(place: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every call in a run's ledger with the hash by which the server knows its content."""
    from nbannot.asking.ledger_lines import messages_of, prefixes_in, read_lines

    path = place / "responses.jsonl"
    prefixes = prefixes_in(path)
    for record in read_lines(path):
        if "text_id" in record:
            body = {"model": "tiny", "messages": messages_of(record, prefixes)}
            yield record, content_of(CHAT, body)


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a question and its attempt."""
    return record["text_id"], tuple(record["columns"]), record["attempt"]


def checked(run: Any, server: Serving, right: dict[str, list[Any]], kind: str) -> dict[str, int]:
    """Check what must hold of every run, and return the counts for the table.

    - Every text and field has exactly one status; a run that calls itself complete has nothing failed or missing.
    - Every valid answer is the one that the server's model gives to this text without faults.
    - No question was answered twice for one attempt.
    - The ledger has every request that the server had. Where a connection breaks before the reply, a request on a
      used connection is sent a second time within one call (it may have been closed while it lay idle), and a refused
      schema is sent without it: only these may be missing, as many as there were such faults at most.
    - Every answer that the server gave is in the ledger (a time-out may have come before it).
    """
    counts = Counter(answer.status for answers in run.coding.answers.values() for answer in answers)
    assert sum(counts.values()) == TEXTS * len(FIELDS), counts
    assert (run.status == "complete") == (counts["failed"] + counts["not_asked"] == 0), (run.status, counts)
    invented = [
        (column, row)
        for column, answers in run.coding.answers.items()
        for row, answer in enumerate(answers)
        if answer.status == "ok" and answer.value != right[column][row]
    ]
    assert not invented, f"{kind}: {len(invented)} labels that the server never gave, first {invented[0]}"
    calls = list(ledger_calls(run.folder))
    answered = Counter(key_of(record) for record, _ in calls if record["error"] is None)
    twice = sum(n - 1 for n in answered.values())
    assert twice == 0, f"{kind}: {twice} questions were answered twice"
    within_one_call = sum(call.fault in ("reset", "schema_400") for call in server.calls)
    missing = len(server.calls) - len(calls)
    assert 0 <= missing <= within_one_call, f"{kind}: {missing} requests are not in the ledger"
    told = Counter(content for record, content in calls if record["error"] is None)
    given = Counter(call.content for call in server.calls if call.fault not in (*OF_THE_WIRE, "schema_400"))
    assert not told - given, f"{kind}: the ledger has answers that the server never gave"
    lost = sum((given - told).values())
    timed_out = sum("no reply within" in (record["error"] or "") for record, _ in calls)
    assert lost <= max(0, timed_out - server.count["hang"]), f"{kind}: {lost} answers are not in the ledger"
    return {
        "valid": counts["ok"],
        "named": sum(counts[name] for name in NAMED),
        "failed": counts["failed"],
        "not_asked": counts["not_asked"],
        "sent": len(server.calls),
        "ledger": len(calls),
        "twice": twice,
    }


def table() -> None:
    """Print one line for each kind of fault and each share."""
    task, began = made_task(TEXTS), time.monotonic()
    right = truth(task)
    print(f"{TEXTS} texts x {len(FIELDS)} questions; answers: right, named as not valid, failed, not asked")
    print(f"{'fault':13} {'share':>5} | {'right':>5} {'named':>5} {'failed':>6} {'not a.':>6} | {'sent':>5} "
          f"{'ledger':>6} {'twice':>5} | {'s':>5} | status")  # fmt: skip
    mixed = {kind: 1 / len(FAULTS) for kind in FAULTS}
    for kind, faults in [*((kind, {kind: 1.0}) for kind in FAULTS), ("mixed", mixed)]:
        for share in SHARES:
            line(task, right, kind, {name: share * part for name, part in faults.items()}, share)
    print(f"every check held; {time.monotonic() - began:.0f} s in all")


def line(task: Any, right: dict[str, list[Any]], kind: str, faults: dict[str, float], share: float) -> None:
    """Run one cell of the table, check it and print it."""
    timeout_s = HANG_TIMEOUT_S if "hang" in faults else PATIENT_S
    with tempfile.TemporaryDirectory() as place, Serving(faults=faults, slow_s=0.02) as server:
        began = time.monotonic()
        run = annotated(task, server.openai_url, place, timeout_s)
        seconds = time.monotonic() - began
        found = checked(run, server, right, kind)
    assert found["not_asked"] == 0, f"{kind}: the run was stopped: {run.config['stopped']}"
    print(
        f"{kind:13} {100 * share:4.0f}% | {found['valid']:5} {found['named']:5} {found['failed']:6} "
        f"{found['not_asked']:6} | {found['sent']:5} {found['ledger']:6} {found['twice']:5} | {seconds:5.1f} | "
        f"{run.status}",
        flush=True,
    )


# ---- kill -9 ----------------------------------------------------------------------------------------------------


def child(url: str, place: str) -> None:
    """Do the run once, in this process, and say how it ended."""
    prepare()
    task = made_task(TEXTS)
    print("go", flush=True)
    print(annotated(task, url, place, 1.0).status, flush=True)


def started(url: str, place: Path) -> subprocess.Popen[str]:
    """Return a process that does the run and is about to begin."""
    command = [sys.executable, str(HERE), "--child", url, str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def finished(url: str, place: Path) -> float:
    """Run until the run is complete (a request may fail all five times), and return the seconds of the first turn."""
    seconds = 0.0
    for _ in range(20):
        began = time.monotonic()
        out, _ = started(url, place).communicate(timeout=120)
        seconds = seconds or time.monotonic() - began
        if out.strip() == "complete":
            return seconds
    raise AssertionError("the run does not come to an end")


def only(place: Path, name: str) -> Path:
    """Return this file of the one run below a folder."""
    [found] = place.glob(f"*/????????/{name}")
    return found


def kills(most: int = KILLS, seed: int = 1) -> None:
    """Kill runs at random moments until there were enough, resume each to its end, and compare with an unbroken one."""
    share = 0.2 / len(FAULTS)
    faults = dict.fromkeys(FAULTS, share)
    chance, began = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        with Serving(faults=faults, lasting=True, slow_s=0.02, latency_s=0.005) as server:
            span = finished(server.openai_url, Path(root) / "whole")
        wanted = only(Path(root) / "whole", "output.csv").read_bytes()
        done = lost = runs = sent = 0
        by_place: Counter[str] = Counter()
        while done < most:
            runs += 1
            place = Path(root) / f"broken {runs}"
            with Serving(faults=faults, lasting=True, slow_s=0.02, latency_s=0.005) as server:
                while done < most and (where := killed(server, place, chance.uniform(0, span))):
                    by_place[where] += 1
                    done += 1
                    if done % 50 == 0:
                        print(
                            f"{done} kills, {runs} runs so far, {time.monotonic() - began:.0f} s", flush=True
                        )
                finished(server.openai_url, place)
                lost += compared(server, place, wanted)
                sent += len(server.calls)
    where = ", ".join(f"{n} {words}" for words, n in by_place.items())
    print(f"{done} kills in {runs} runs ({where}); {sent:,} requests in all")
    print(f"output.csv is byte for byte that of the unbroken run in {runs} of {runs}")
    print("requests whose answer was in the ledger and that were sent again: 0")
    print(f"answers under way when the process was killed, asked for again: {lost}")
    print(f"unbroken run {span:.1f} s; {time.monotonic() - began:.0f} s in all")


def killed(server: Serving, place: Path, after_s: float) -> str:
    """Start, kill after a while, and return what it was doing; "" if it was complete before."""
    before = len(server.calls)
    process = started(server.openai_url, place)
    try:
        out, _ = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        written = list(place.glob("*/????????/output.csv"))
        return (
            "after asking" if written else "while asking" if len(server.calls) > before else "before asking"
        )
    return "" if out.strip() == "complete" else "after asking"


def compared(server: Serving, place: Path, wanted: bytes) -> int:
    """Check a resumed run, and return how many answers the kills lost."""
    assert only(place, "output.csv").read_bytes() == wanted, "the resumed run has other answers"
    calls = list(ledger_calls(only(place, "responses.jsonl").parent))
    answered = Counter(key_of(record) for record, _ in calls if record["error"] is None)
    assert max(answered.values()) == 1, "a question with an answer was asked again"
    told = Counter(content for record, content in calls if record["error"] is None)
    given = Counter(call.content for call in server.calls if call.fault not in (*OF_THE_WIRE, "schema_400"))
    assert not told - given, "the ledger has answers that the server never gave"
    return sum((given - told).values())


# ---- kill -9 before every file operation, and many starts at once ---------------------------------------------------


def small_run(place: Path) -> Any:
    """Return a run of the mock model on 12 labelled texts, finished."""
    import nbannot
    from nbannot.record.run import Run

    Run.scoring = {"n_resamples": 20}  # type: ignore[assignment,method-assign] # what is killed is not the arithmetic
    return nbannot.run(
        "policy-sentiment", model="mock", limit=6, fields=("Explicit evaluation",), output_root=str(place)
    )


def forked(work: Any) -> int:
    """Do something in a fork of this process, and return its exit status; minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the exit status, and in words
            print(f"  {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(place: Path, number: int) -> Any:
    """Return work that does the run and is killed before its file operation of this number."""
    count = 0

    def step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir"):
            step()

    def work() -> None:
        write, fsync = os.write, os.fsync
        os.write = lambda *a: (step(), write(*a))[1]
        os.fsync = lambda *a: (step(), fsync(*a))[1]
        sys.addaudithook(heard)
        small_run(place)

    return work


def in_tables(place: Path) -> list[list[str]]:
    """Return the rows of the tables without the columns that tell time, place and energy."""
    from nbannot.record.csv_store import rows_of

    found = rows_of(place / "metrics", "policy-sentiment", only(place, "output.csv").parent.name)
    told = ("time", "timestamp", "directory", "energy", "emissions", "output_root")
    return [[f"{n}={c}" for n, c in row.items() if not any(word in n for word in told)]
            for kind in found.values() for row in kind]  # fmt: skip


def matrix(first: int = 1) -> None:
    """Kill a run before every file operation from the first on, do it again, and compare with an unbroken one."""
    prepare()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        assert forked(lambda: small_run(whole)) == 0  # in a fork: a library's threads would not survive one
        wanted, rows = only(whole, "output.csv").read_bytes(), in_tables(whole)
        number, refused, lost, invented = first - 1, 0, 0, 0
        while True:
            number += 1
            place = Path(root) / str(number)
            if (status := forked(killed_at(place, number))) != -signal.SIGKILL:
                assert status == 0, f"operation {number}: the run failed by itself"
                break
            if number % 20 == 0:
                print(f"  {number} operations, {refused} refused, {lost} other files", flush=True)
            if forked(lambda place=place: small_run(place)) != 0:
                refused += 1
                print(f"  refused after a kill before operation {number}", flush=True)
                continue
            if only(place, "output.csv").read_bytes() != wanted or in_tables(place) != rows:
                lost += 1
                print(f"  other files after a kill before operation {number}", flush=True)
            keys = Counter(key_of(record) for record, _ in ledger_calls(only(place, "output.csv").parent))
            invented += max(keys.values()) > 1
            left = [
                p.name
                for p in only(place, "output.csv").parent.iterdir()
                if p.name.count(".") > 1 and p.name != ".lock"
            ]
            assert not left, f"left after operation {number}: {left}"
    print(
        f"file operations {first} to {number - 1}, killed before each and run again: {refused} refused, "
        f"{lost} with other files, {invented} with an answer asked for twice; {time.monotonic() - began:.0f} s"
    )


def starts(rounds: int = 20, at_once: int = 8) -> None:
    """Start the same run in many processes at the same moment, several times over."""
    prepare()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        assert forked(lambda: small_run(Path(root) / "whole")) == 0
        wanted = only(Path(root) / "whole", "output.csv").read_bytes()
        ended: Counter[str] = Counter()
        for number in range(rounds):
            place, gate = Path(root) / str(number), time.time() + 0.3

            def work(place: Path = place, gate: float = gate) -> None:
                from nbannot.errors import NbannotError

                time.sleep(max(0.0, gate - time.time()))
                try:
                    small_run(place)
                except NbannotError as error:
                    os._exit(7 if "another process is working on run" in str(error) else 1)

            children = []
            for _ in range(at_once):
                if (pid := os.fork()) == 0:
                    work()
                    os._exit(0)
                children.append(pid)
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
            ended.update({0: "complete", 7: "told to wait"}.get(code, "failed") for code in codes)
            assert only(place, "output.csv").read_bytes() == wanted, "other answers"
            keys = Counter(key_of(record) for record, _ in ledger_calls(only(place, "output.csv").parent))
            assert max(keys.values()) == 1, "a question was asked twice"
            assert forked(lambda place=place: small_run(place)) == 0, "refused for good"
    print(f"{rounds} x {at_once} starts at once: {dict(ended)}; {time.monotonic() - began:.0f} s")


def main() -> None:
    """Print the table, or kill, or be the process that is killed."""
    match sys.argv[1:]:
        case ["--child", url, place]:
            child(url, place)
        case ["kill", *most]:
            kills(*map(int, most))
        case ["matrix", *first]:
            matrix(*map(int, first))
        case ["starts"]:
            starts()
        case []:
            prepare()
            table()
        case other:
            sys.exit(f"{json.dumps(other)} is not understood; see the first lines of {HERE.name}")


if __name__ == "__main__":
    main()
