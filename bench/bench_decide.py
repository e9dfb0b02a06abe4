"""Is a language model needed at all? Closed fields of several tasks, answered by what is cheap and what is not.

    python bench/bench_decide.py [texts per task, 150 unless told] [--local N] [--data FOLDER]
    python bench/bench_decide.py speed     decide/sparrow: a fresh process, a running one, 10,000 texts with 3 fields
    python bench/bench_decide.py wire      decide/<name> over HTTP against a bare client, 50 ms, 32 at once, 4 fields
    python bench/bench_decide.py odd       10,000 questions with odd option names: how many answers are invalid

The table has, for each field: kappa (quadratic for scales) with its 95 % interval against the human labels of all texts
asked, coverage, ECE with the one that perfect calibration would get on so few answers, the share of labels that change
when a dropdown's options stand in reverse order, and ms and mWh per label. A missing answer agrees with nobody. The
regression learns from 50 and 200 labels, and from all but the text's own fold; with 50 and 200 it is scored on the
texts that it did not learn from. What is learned never saw the labels it is scored on; nothing was tuned here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import nbannot as nba
from nbannot.measures import calibration as measure
from nbannot.record.coding import Coding
from nbannot.record.scoring import score
from nbannot.study.codebook import Codebook
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

HERE = Path(__file__).resolve()
CLOSED = ("checkbox", "dropdown", "likert")
BUNDLED = ("policy-sentiment", "discrete-emotions")
HEAD = (
    f"{'task · field':44} {'model':18} {'n':>4} {'kappa':>6} {'95 % interval':>14} {'cov':>5} {'ECE (null)':>12} "
    f"{'flips':>6} {'ms':>8} {'mWh':>7}"
)


def tasks(texts: int, data: Path) -> list[Task]:
    """Return the bundled tasks and those of a folder, cut to so many texts, the same ones every time."""
    found = [load_task(name) for name in BUNDLED]
    places = sorted(path.parent for path in data.glob("*/codebook.json"))
    found += [load_task(place) for place in places]
    return [cut(task, texts) for task in found if closed(task)]


def cut(task: Task, texts: int) -> Task:
    if len(task) <= texts:
        return task
    chosen = sorted(random.Random(1).sample(range(len(task)), texts))
    return task.select(None, [task.ids[i] for i in chosen], None)


def closed(task: Task) -> list[str]:
    return [f.column for f in task.codebook if f.type in CLOSED and f.column in task.label_columns]


def calibration(coding: Coding, column: str) -> str:
    """Return ECE and its mean under perfect calibration with the same confidences; a dash without probabilities."""
    f = coding.task.codebook[column]
    human = coding.task.human(column)
    pairs = [
        (answer.probabilities[f.labels.index(answer.value)], answer.value == said)
        for answer, said in zip(coding.answers[column], human, strict=True)
        if answer.probabilities and said is not None
    ]
    if len(pairs) < 20:
        return "–"
    confidence, right = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    error = measure.calibration_error(confidence, right, measure.equal_width(confidence))
    return f"{error:.2f} ({measure.null_error(confidence):.2f})"


def line(
    task: Task, coding: Coding, column: str, model: str, flips: str = "–", cost: Sequence[float] = ()
) -> None:
    results = score(replace_answers(coding, [column]), n_resamples=2000).fields[column].results
    kappa = results.get("quadratic_kappa") or results["cohen_kappa"]
    value = "–" if np.isnan(kappa.value) else f"{kappa.value:.2f}"
    interval = "–" if value == "–" or np.isnan(kappa.ci_low) else f"[{kappa.ci_low:.2f}, {kappa.ci_high:.2f}]"
    money = "".join(f" {c:>{w}.{d}f}" for c, w, d in zip(cost, (8, 7), (2, 3), strict=False))
    print(
        f"{task.name[:16] + ' · ' + column.rpartition('_')[2][:24]:44} {model:18} {kappa.n:>4} {value:>6} "
        f"{interval:>14} {results['coverage'].value:>5.2f} {calibration(coding, column):>12} {flips:>6}{money}",
        flush=True,
    )


def replace_answers(coding: Coding, columns: Sequence[str]) -> Coding:
    return replace(coding, answers={c: coding.answers[c] for c in columns})


def flip_shares(task: Task, run: Any, **settings: Any) -> dict[str, str]:
    """Return for every dropdown the share of labels that are others when its options stand the other way round."""
    wide = [f.column for f in task.codebook if f.type == "dropdown" and f.column in run.coding.answers]
    if not wide:
        return {}
    other = nba.run(task, option_order="reversed", **settings)
    shares = {}
    for column in wide:
        pairs = [
            (a, b)
            for a, b in zip(run.coding.values(column), other.coding.values(column), strict=True)
            if a is not None and b is not None
        ]
        shares[column] = f"{np.mean([a != b for a, b in pairs]):.2f}" if pairs else "–"
    return shares


def costs(run: Any) -> list[float]:
    """Return ms and mWh per label."""
    labels = max(1, sum(a.status == "ok" for answers in run.coding.answers.values() for a in answers))
    seconds = run.timing["total_inference_time"]
    energy = run.energy.get("total_energy_kwh")
    return [1000 * seconds / labels, *([] if energy is None else [1e6 * energy / labels])]


def learned_from(task: Task, number: int, root: str) -> Coding | None:
    """Return what a regression on so many labels says of the other texts."""
    if len(task) < number + 40:
        return None
    taught = set(random.Random(number).sample(range(len(task)), number))
    data = task.data
    blank = [
        pl.Series(
            name,
            [value if row in taught else None for row, value in enumerate(data[name])],
            dtype=data[name].dtype,
        )
        for name in task.label_columns
    ]
    less = Task(data.with_columns(blank), task.codebook, task.name, path=None)
    run = nba.run(less, model="baseline/tfidf-lr", fields=closed(task), output_root=root)
    others = [row for row in range(len(task)) if row not in taught]
    tested = task.select(None, [task.ids[row] for row in others], None)
    return Coding(tested, {c: [a[row] for row in others] for c, a in run.coding.answers.items()})


def bake_off(texts: int, local: int, data: Path) -> None:
    print(HEAD)
    for task in tasks(texts, data):
        columns = closed(task)
        with tempfile.TemporaryDirectory() as root:
            settings: dict[str, Any] = {"fields": columns, "output_root": root}
            found: list[tuple[str, Coding, dict[str, str], list[float]]] = []
            for model in ("baseline/majority", "baseline/tfidf-lr", "decide/sparrow"):
                run = nba.run(task, model=model, **settings)
                flips = flip_shares(task, run, model=model, **settings) if model.startswith("decide") else {}
                found.append((model.rpartition("/")[2], run.coding, flips, costs(run)))
            taught = [(number, learned_from(task, number, root)) for number in (50, 200)]
            found += [
                (f"tfidf-lr, {number}", coding, {}, []) for number, coding in taught if coding is not None
            ]
            if local:
                few = cut(task, local)
                run = nba.run(few, model="local", **settings)
                found.append((f"local, {len(few)} texts", run.coding, {}, costs(run)))
        for column in columns:
            for model, coding, flips, cost in found:
                if column in coding.answers:
                    line(task, coding, column, model, flips.get(column, "–"), cost)


# ---- speed ---------------------------------------------------------------------------------------------------------

THREE = ("Explicit evaluation", "Direction", "Intensity")
FRESH = (
    "import time; begin = time.perf_counter(); import nbannot as nba; "
    "run = nba.run('policy-sentiment', model='decide/sparrow', fields={fields}, output_root={root!r}, fresh=True); "
    "str(run); print(time.perf_counter() - begin); begin = time.perf_counter(); "
    "run = nba.run('policy-sentiment', model='decide/sparrow', fields={fields}, output_root={root!r}, fresh=True); "
    "str(run); print(time.perf_counter() - begin)"
)


def speed() -> None:
    with tempfile.TemporaryDirectory() as root:
        for turn in range(3):
            begin = time.perf_counter()
            code = FRESH.format(fields=list(THREE), root=root)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            first, second = (float(word) for word in done.stdout.split()[-2:])
            whole = time.perf_counter() - begin - second
            print(f"64 texts, 3 fields, turn {turn + 1}: fresh process {whole:.2f} s (aim 3), in it {first:.2f} s; "
                  f"again in the same process {second:.2f} s (aim 0.5)", flush=True)  # fmt: skip
        base = load_task("policy-sentiment")
        number = 10_000
        text, ids = base.codebook.text_column, base.codebook.id_column or "id"
        frame = pl.DataFrame({ids: [f"t{i}" for i in range(number)],
                              text: [f"{base.texts[i % len(base)]} ({i})" for i in range(number)]})  # fmt: skip
        begin, cpu = time.perf_counter(), time.process_time()
        run = nba.run(
            Task(frame, base.codebook, "big"), model="decide/sparrow", fields=list(THREE), output_root=root
        )
        wall, used = time.perf_counter() - begin, time.process_time() - cpu
        print(f"10,000 texts, 3 fields: {wall:.1f} s (aim 60), {used:.1f} s of CPU, {run.coding.count()}")


# ---- odd names -----------------------------------------------------------------------------------------------------


def odd(number: int = 10_000) -> None:
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from odd_options import outside_the_codebook

    begin = time.perf_counter()
    bad = outside_the_codebook(number)
    seconds = time.perf_counter() - begin
    print(f"{number:,} questions with odd option names: {bad} answers not in the codebook ({seconds:.0f} s)")


# ---- the wire ------------------------------------------------------------------------------------------------------

SERVER = """
import asyncio, json, sys
from aiohttp import web
async def decide(request):
    body = await request.json()
    await asyncio.sleep(0.05)
    answers = {}
    for name, one in body["questions"].items():
        if one["type"] == "noul":
            answers[name] = {"type": "noul", "noul": 0.7}
        else:
            names = list(one["criteria"]) if one["type"] == "choice" else [str(i) for i in range(len(one["criteria"]))]
            shares = {n: 1 / len(names) for n in names}
            answers[name] = {"type": one["type"], "probabilities": shares, "confidence": 0.1}
    usage = {"input_tokens": 50, "output_tokens": 0}
    return web.json_response({"model": "bench-1", "answers": answers, "usage": usage})
async def main():
    app = web.Application()
    app.router.add_post("/v1/systemone", decide)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def wire(texts: int = 2000, turns: int = 3) -> None:
    import aiohttp

    from nbannot.asking.decisions import compose_questions
    from nbannot.models.decide_wire import questions_body, with_text

    section = {"section_name": "S", "annotations": {
        "annotation_1": {"name": "Gate", "type": "checkbox", "tooltip": "Is a policy judged?"},
        "annotation_2": {"name": "Side", "type": "dropdown", "options": ["for", "against", "neither"]},
        "annotation_3": {"name": "Tone", "type": "likert", "min_value": 1, "max_value": 5},
        "annotation_4": {"name": "Date", "type": "checkbox", "tooltip": "Is a date named?"},
    }}  # fmt: skip
    book = Codebook.from_dict({"text_column": "text", "section_1": section})
    frame = pl.DataFrame(
        {"text": [f"The council voted {i} times for a new law on rents." for i in range(texts)]}
    )
    body = questions_body("systemone", "bench", compose_questions(book.fields).questions)

    async def bare(url: str) -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            left = iter(frame["text"])

            async def worker() -> None:
                for text in left:
                    async with session.post(url, data=with_text("systemone", body, text),
                                            headers={"Content-Type": "application/json"}) as response:  # fmt: skip
                        await response.read()

            begin = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(32)))
            return texts / (time.perf_counter() - begin)

    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    plain, ours, cpu = [], [], []
    try:
        for turn in range(turns):
            plain.append(asyncio.run(bare(f"{address}/v1/systemone")))
            with tempfile.TemporaryDirectory() as root:
                marks: list[tuple[float, float, int]] = []

                def tick(progress: Any, marks: list[tuple[float, float, int]] = marks) -> None:
                    if 0 < progress.calls < texts:
                        marks.append((time.perf_counter(), time.process_time(), progress.calls))

                run = nba.run(Task(frame, book, f"wire{turn}"), model="decide/bench", base_url=address,
                              output_root=root, tick=tick, max_parallel=32)  # fmt: skip
                assert run.coding.count() == {"ok": 4 * texts}
                (wall, used, first), (end, spent, last) = marks[0], marks[-1]
                ours.append((last - first) / (end - wall))
                cpu.append(1000 * (spent - used) / (last - first))
    finally:
        server.stdin.close()  # type: ignore[union-attr]
        server.wait(10)
    ratio = float(np.median(ours) / np.median(plain))
    print(
        f"{texts} texts, 4 fields, 50 ms, 32 at once: bare {np.median(plain):.0f} requests/s, run "
        f"{np.median(ours):.0f} ({ratio:.2f} of it, aim 0.95), {np.median(cpu):.2f} ms of CPU per call (aim 0.5)"
    )


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("what", nargs="?", default="150")
    given.add_argument("--local", type=int, default=0, help="texts per task for the embedded language model")
    folder = os.environ.get("NBANNOT_DATA", str(HERE.parents[1] / "tests" / "data"))
    given.add_argument("--data", type=Path, default=Path(folder))
    chosen = given.parse_args()
    if chosen.what in ("speed", "odd", "wire"):
        {"speed": speed, "odd": odd, "wire": wire}[chosen.what]()
    else:
        bake_off(int(chosen.what), chosen.local, chosen.data)


if __name__ == "__main__":
    main()
