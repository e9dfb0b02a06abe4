"""How long the agreement of many coders takes: 99 coders on 7,322 texts, 4,851 pairs, read from their files.

Run: python bench/bench_agreement.py
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import nbannot as nba
from nbannot.comparing.study_folder import CODERS

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


def main() -> None:
    """Print the seconds, once where everybody coded everything and once where everybody coded a tenth."""
    _ = nba.agreement, nba.load_coder  # imported before the clock runs
    for share in (1.0, 0.1):
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            task = made(root, share)
            began = time.perf_counter()
            found = nba.agreement(task, output_root=root / "outputs")
            read = time.perf_counter() - began
            str(found)
            shown = time.perf_counter() - began
            coders = [nba.load_coder(task, p) for p in sorted((root / "outputs/many/coders").glob("*.csv"))]
            began = time.perf_counter()
            nba.agreement(coders)
            loaded = time.perf_counter() - began
            pairs = len(found.fields["S_Stance"].pairs)
            print(f"everybody coded {share:.0%}: {N_CODERS} coders, {N_TEXTS:,} texts, {pairs:,} pairs:")
            print(
                f"  {read:.2f} s from the files, {shown:.2f} s until shown; {loaded:.2f} s of coders loaded before"
            )


if __name__ == "__main__":
    main()
