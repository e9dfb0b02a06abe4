"""How fast runs are compared: seconds, and the ratio to a loop over scikit-learn in the same minute.

Run ``python bench/bench_compare.py [runs] [texts]``; nothing is asserted. All pairs, 10,000 resamples; the loop does
a hundredth of the resamples, and its time is taken times a hundred.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, mean_absolute_error

from nbannot.asking.answers import Answer
from nbannot.comparing.comparison import compare
from nbannot.comparing.found import Comparison
from nbannot.record.coding import Coding
from nbannot.record.run import Run
from nbannot.study.codebook import Codebook
from nbannot.study.task import Task

RESAMPLES = 10_000
LESS = 100
OPTIONS = ["positive", "negative", "neutral", "mixed", "unclear", "none"]
METRICS: dict[tuple[str, str], Callable[[np.ndarray, np.ndarray], float]] = {
    ("Stance", "accuracy"): accuracy_score,
    ("Stance", "f1_macro"): lambda h, m: f1_score(h, m, average="macro", zero_division=0),
    ("Stance", "cohen_kappa"): cohen_kappa_score,
    ("Degree", "quadratic_kappa"): lambda h, m: cohen_kappa_score(
        h, m, labels=[1, 2, 3, 4, 5], weights="quadratic"
    ),
    ("Degree", "mae"): mean_absolute_error,
}


def made_runs(n_runs: int, n_texts: int) -> list[Run]:
    """Return runs that are right in 60 to 80 % of the texts."""
    rng = np.random.default_rng(1)
    stance = rng.choice(OPTIONS, n_texts, p=[0.35, 0.25, 0.15, 0.12, 0.08, 0.05])
    degree = rng.integers(1, 6, n_texts)
    codebook = Codebook.from_dict(
        {
            "text_column": "text",
            "section_1": {
                "section_name": "S",
                "section_instruction": "",
                "annotations": {
                    "annotation_1": {"name": "Stance", "type": "dropdown", "options": OPTIONS},
                    "annotation_2": {"name": "Degree", "type": "likert", "min_value": 1, "max_value": 5},
                },
            },
        }
    )
    texts = [f"text {i}" for i in range(n_texts)]
    data = {"id": texts, "text": texts, "S_Stance": stance, "S_Degree": [str(v) for v in degree]}
    task = Task(pl.DataFrame(data), codebook, "bench")
    runs = []
    for number, share in enumerate(np.linspace(0.6, 0.8, n_runs)):
        said = {
            "S_Stance": np.where(rng.random(n_texts) < share, stance, rng.choice(OPTIONS, n_texts)),
            "S_Degree": np.where(rng.random(n_texts) < share, degree, rng.integers(1, 6, n_texts)),
        }
        answers = {c: [Answer(c, "ok", value) for value in values.tolist()] for c, values in said.items()}
        config = {"run_id": f"{number:07x}a", "model": f"model {number}", "model_id": f"model {number}"}
        runs.append(Run(Path("nowhere"), config, task, Coding(task, answers, config["run_id"])))
    return runs


def plain_way(runs: list[Run], column: str, metric: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Return the seconds of a paired bootstrap and randomisation of every pair, with a hundredth of the resamples."""
    human = np.array(runs[0].task.human(column))
    answers = [np.array(run.coding.values(column)) for run in runs]
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    pairs = list(combinations(answers, 2))
    timed = pairs[:: max(1, len(pairs) // 10)]
    for one, two in timed:
        for _ in range(RESAMPLES // LESS):
            rows = rng.integers(0, len(human), len(human))
            metric(human[rows], one[rows]) - metric(human[rows], two[rows])
            swap = rng.random(len(human)) < 0.5
            metric(human, np.where(swap, two, one)) - metric(human, np.where(swap, one, two))
    return (time.perf_counter() - start) * LESS * len(pairs) / len(timed)


def main(n_runs: int, n_texts: int) -> None:
    runs = made_runs(n_runs, n_texts)
    print(f"{n_runs} runs x {n_texts:,} texts, all pairs, {RESAMPLES:,} resamples, best run corrected")
    for (field, name), metric in METRICS.items():
        start = time.perf_counter()
        compared: Comparison = compare(runs, name, field, n_resamples=RESAMPLES)
        taken = time.perf_counter() - start
        plain = plain_way(runs, f"S_{field}", metric)
        print(
            f"  {field}, {name:<16}{taken:7.2f} s for {compared.family} pairs   "
            f"1/{plain / taken:,.0f} of a loop over scikit-learn ({plain / 3600:.1f} h)"
        )


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [20, 2_000][len(given) :]))
