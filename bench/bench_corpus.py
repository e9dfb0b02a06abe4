"""A corpus through the whole machinery: texts of 200 characters from Parquet, mock, one field.

    python bench/bench_corpus.py 1000000         so many texts (a million if not given), in a folder of its own
    python bench/bench_corpus.py 1000000 PLACE   in this folder; what was written there before is used again

One process does it all: the plan (with the one pass over the texts), a run that a budget stops at half, a plan and the
same run again to its end, and the finished run once more. Printed: seconds, texts per second, peak memory (all of the
process), and what the last tenth of the blocks takes against the first tenth, in seconds of CPU, which another load on
the machine does not change, and in seconds.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

WORDS = (
    "the people of this country deserve a government that will listen act and build schools roads hospitals homes for "
    "everyone not only some taxes must fall rise war peace trade climate jobs health care now never again"
)
BOOK = {
    "text_column": "text",
    "id_column": "id",
    "section_1": {
        "section_name": "S",
        "annotations": {"annotation_1": {"name": "Good", "type": "checkbox"}},
    },
}
PER_FILE = 100_000
CODED = 300
"""How many texts people coded."""


def made(n: int, place: Path) -> str:
    """Write the texts, one in a hundred of them twice; return the pattern of the files."""
    place.mkdir(parents=True, exist_ok=True)
    chance, known = np.random.default_rng(1), np.array(WORDS.split())
    for first in range(0, n, PER_FILE):
        path = place / f"{first:09d}.parquet"
        size = min(PER_FILE, n - first)
        words = known[chance.integers(0, len(known), size=(size, 40))]
        texts = np.array([" ".join(row)[:200] for row in words])
        texts[chance.integers(0, size, size // 100)] = texts[chance.integers(0, size, size // 100)]
        if path.exists():
            continue
        rows = np.arange(first, first + size)
        coded = ["1" if row % 2 else "0" for row in rows]
        labels = [label if row < CODED else "" for row, label in zip(rows, coded, strict=True)]
        pl.DataFrame({"id": [f"p{row}" for row in rows], "text": texts, "S_Good": labels}).write_parquet(path)
    return str(place / "*.parquet")


def peak_gb() -> float:
    """Return the most memory that this process has held, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def main(n: int, place: Path) -> None:
    """Measure, and print."""
    pattern = made(n, place / "texts")
    os.environ["NBANNOT_CACHE"] = str(place / "cache")
    import nbannot as nba
    from nbannot.running import corpus_design, corpus_run

    blocks: list[tuple[float, float]] = []
    work = corpus_run._Work._block

    def timed(self, *given):  # type: ignore[no-untyped-def]
        before = time.process_time(), time.monotonic()
        done = work(self, *given)
        blocks.append((time.process_time() - before[0], time.monotonic() - before[1]))
        return done

    corpus_run._Work._block = timed  # type: ignore[method-assign]
    settings = {"model": "mock", "output_root": str(place / "outputs")}

    def took(what: str, do):  # type: ignore[no-untyped-def]
        begun, cpu = time.monotonic(), time.process_time()
        result = do()
        seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
        print(f"{what:34} {seconds:9.1f} s {cpu:9.1f} s of CPU, peak {peak_gb():.2f} GB", flush=True)
        return result, seconds

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{n:,} texts, load {load:.1f}")
    corpus, _ = took("corpus()", lambda: nba.corpus(pattern, BOOK, name="many"))
    plan, _ = took("plan, with the first pass", lambda: nba.plan(corpus, **settings))
    half, first = took("run to half", lambda: nba.run(corpus, **settings, budget={"calls": n // 2}))
    again, _ = took("corpus() again", lambda: nba.corpus(pattern, BOOK, name="many"))
    took("plan of the other half", lambda: nba.plan(again, **settings))
    done, second = took("run to the end", lambda: nba.run(again, **settings))
    took("the finished run again", lambda: nba.run(again, **settings))
    assert half.status == "partial", half.status
    assert done.status == "complete", done.status
    calls = done.timing["inference_count"]
    assert calls == n - done.n_duplicates, (calls, done.n_duplicates)
    print(f"texts per second: {n / (first + second):,.0f}; same texts not asked about: {done.n_duplicates:,}")
    whole = [block for block in blocks if block[0] > 0][: n // corpus_design.BLOCK_TEXTS]
    tenth = max(1, len(whole) // 10)
    for i, what in enumerate(("CPU", "wall")):
        ends = sum(b[i] for b in whole[:tenth]), sum(b[i] for b in whole[-tenth:])
        print(f"last against first tenth of {len(whole)} blocks, {what}: {ends[1] / ends[0]:.2f}")
    ledger = sum(path.stat().st_size for path in (done.folder / "responses").iterdir())
    print(f"ledger {ledger / 1e6:,.0f} MB, output.parquet {done.table_path.stat().st_size / 1e6:,.0f} MB")
    print(f"planned at least {plan.calls_at_least:,} calls, made {calls:,}")


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        main(many, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory(prefix="nbannot-corpus-") as scratch:
            main(many, Path(scratch))
