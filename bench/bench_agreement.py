"""How long the agreement of many coders takes: 99 coders on 7,322 texts, 4,851 pairs, read from their files.

Run: python bench/bench_agreement.py
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import nbannot as nba
from nbannot.study.study_folder import CODERS

N_CODERS, N_TEXTS = 99, 7_322
OPTIONS = ("pro", "anti", "neutral")


def made(root: Path, share: float) -> nba.Task:
    """Return a task whose coders each labelled a share of the texts, right three times in four."""
    import pandas as pd

    draw = random.Random(1)
    book = nba.Codebook.build(
        text_column="text", sections={"S": [nba.dropdown("Stance", options=list(OPTIONS))]}
    )
    ids = [f"t{i}" for i in range(N_TEXTS)]
    truth = [draw.choice(OPTIONS) for _ in ids]
    folder = root / "outputs" / "many" / CODERS
    folder.mkdir(parents=True)
    for coder in range(N_CODERS):
        rows = [
            f"{i},{label if draw.random() < 0.75 else draw.choice(OPTIONS)}"
            for i, label in zip(ids, truth, strict=True)
            if draw.random() < share
        ]
        (folder / f"w{coder}.csv").write_text("\n".join(["id,S_Stance", *rows]) + "\n")
    return nba.Task(pd.DataFrame({"id": ids, "text": ids}), book, name="many")


FRESH = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import nbannot as nba
found = nba.agreement({folder!r})
read = time.perf_counter() - wall, time.process_time() - cpu
str(found)
shown = time.perf_counter() - wall, time.process_time() - cpu
print(f"  import and agreement {{read[0]:.2f}} s ({{read[1]:.2f}} s of CPU),", end=" ")
print(f"until shown {{shown[0]:.2f}} s ({{shown[1]:.2f}} s of CPU)")
"""


def main() -> None:
    """Print the seconds of a fresh process, once where everybody coded everything and once where each coded a tenth."""
    for share in (1.0, 0.1):
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            task = made(root, share)
            folder = root / "many"
            task.codebook.save(folder)
            task.data.write_csv(folder / "ground-truth.csv")
            (root / "outputs/many/coders").rename(folder / CODERS)
            pairs = N_CODERS * (N_CODERS - 1) // 2
            load = os.getloadavg()[0]
            print(
                f"everybody coded {share:.0%}: {N_CODERS} coders, {N_TEXTS:,} texts, {pairs:,} pairs, load {load:.1f}:"
            )
            subprocess.run([sys.executable, "-c", FRESH.format(folder=str(folder))], check=True)


if __name__ == "__main__":
    main()
