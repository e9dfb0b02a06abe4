"""How the tidy tables behave with a million rows: seconds, and the ratio to doing the same without any care.

Run ``python bench/bench_tables.py [rows]``; nothing is asserted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from nbannot.record import tables

METRICS_PER_RUN = 100


def rows_of(run_id: str) -> list[dict[str, object]]:
    return [
        {
            "run_id": run_id,
            "column": f"Policy Sentiment_Field {i // 20}",
            "annotation_type": "dropdown",
            "metric": f"metric_{i % 20}",
            "value": i / 7,
            "n": 2000,
            "n_answered": 1990,
            "ci_low": i / 8,
            "ci_high": i / 6,
            "ci_method": "bootstrap",
        }
        for i in range(METRICS_PER_RUN)
    ]


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    """Return the shortest of some times that the action takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def show(what: str, taken: float, plain: float | None = None) -> None:
    ratio = "" if plain is None else f"   {taken / plain:8.1f} x the plain way ({plain:.4f} s)"
    print(f"{what:<58}{taken:9.4f} s{ratio}")


def main(n_rows: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench_tables_"))
    names = [f"{i:07x}a" for i in range(n_rows // METRICS_PER_RUN)]
    long = [row for name in names for row in rows_of(name)]
    runs = [{"run_id": name, "model_id": "local/smollm2-135m"} for name in names]
    text = (
        tables.csv_record(tables.LONG_COLUMNS)
        + "\n"
        + "".join(
            tables.csv_record(tables.cell_text(name, row.get(name)) for name in tables.LONG_COLUMNS) + "\n"
            for row in long
        )
    )
    plain_file = folder / "plain.csv"

    plain = seconds(lambda: plain_file.write_text(text))
    show(
        f"first write of {len(long):,} rows, {len(names):,} runs in one call",
        seconds(lambda: tables.upsert(folder, "t", long=long, runs=runs, classes=[])),
        plain,
    )
    path = tables.table_path(folder, "t", "long")
    print(f"{'size of the long table':<58}{path.stat().st_size / 1e6:9.1f} MB")

    fresh = iter(range(10**6))

    def append() -> None:
        name = f"{next(fresh):07d}f"
        tables.upsert(folder, "t", long=rows_of(name), runs=[{"run_id": name}], classes=[])

    def plain_append() -> None:
        block = "".join(
            tables.csv_record(tables.cell_text(n, row.get(n)) for n in tables.LONG_COLUMNS) + "\n"
            for row in rows_of("0000000f")
        )
        with plain_file.open("a") as file:
            file.write(block)

    plain = seconds(plain_append, 5)
    show(f"append of one new run ({METRICS_PER_RUN} rows)", seconds(append, 5), plain)
    empty = Path(tempfile.mkdtemp(prefix="bench_tables_"))
    tables.upsert(empty, "t", long=rows_of("0000000b"), runs=[{"run_id": "0000000b"}], classes=[])
    count = iter(range(10**6))

    def append_small() -> None:
        name = f"{next(count):07d}e"
        tables.upsert(empty, "t", long=rows_of(name), runs=[{"run_id": name}], classes=[])

    show("the same on an almost empty table", seconds(append_small, 5), plain)
    replaced = names[len(names) // 2]
    show(
        "replacement of one run in the middle",
        seconds(lambda: tables.upsert(folder, "t", long=rows_of(replaced), runs=None, classes=None), 3),
        seconds(lambda: plain_file.write_bytes(plain_file.read_bytes()), 3),
    )
    plain = seconds(lambda: pd.read_csv(path))
    show("read_long, pandas", seconds(lambda: tables.read_long(folder, "t")), plain)
    show("read_long, polars", seconds(lambda: tables.read_long(folder, "t", polars=True)), plain)
    show("joined, pandas", seconds(lambda: tables.joined(folder, "t")), plain)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
