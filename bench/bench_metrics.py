"""Speed and coverage of the metrics, beside the plain way with the reference libraries, in the same run.

    python bench/bench_metrics.py            everything
    python bench/bench_metrics.py speed      labels, text, spans, a million rows, twenty runs
    python bench/bench_metrics.py folder     a million rows from the folder, end to end
    python bench/bench_metrics.py coverage   how often a 95 % interval holds the true value

Nothing is asserted. Where the plain way takes too long, a part of it is measured and scaled up; the line says so.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import nbannot as nba
from nbannot.measures.accounting import FieldData
from nbannot.measures.classification import cohen_kappa, f1_macro, f1_per_class, label_counts
from nbannot.measures.field import score_field
from nbannot.measures.paired import compare_many
from nbannot.measures.resample import bootstrap, percentile_limits, sample_cells

N = 100_000
RESAMPLES = 10_000
WORDS = [
    "the",
    "tax",
    "of",
    "a",
    "minister",
    "will,",
    "rise",
    "again.",
    "in",
    "spring",
    "say",
    "3.5",
    "U.S.",
    "don't",
]


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def line(what: str, ours: float, target: str, plain: float = 0.0, how: str = "") -> None:
    """Print one comparison."""
    beside = f"plain way {plain:10.1f} s   x{plain / ours:<8.0f} {how}" if plain else ""
    print(f"{what:<58} {ours:8.2f} s  ({target:>7})   {beside}", flush=True)


def labelled(
    labels: tuple[Any, ...], n: int, right: float, rng: np.random.Generator
) -> tuple[list[Any], list[Any]]:
    """Return human labels and answers that are right with this probability, 2 % missing."""
    human = [labels[i] for i in rng.integers(0, len(labels), n)]
    other = rng.integers(0, len(labels), n)
    fate = rng.random(n)
    model = [
        h if f < right else None if f < right + 0.02 else labels[o]
        for h, f, o in zip(human, fate, other, strict=True)
    ]
    return human, model


def bench_dropdown(rng: np.random.Generator) -> None:
    from sklearn.metrics import cohen_kappa_score, f1_score

    labels = tuple("abcdef")
    human, model = labelled(labels, N, 0.7, rng)
    ours = seconds(lambda: score_field(FieldData("dropdown", labels, human, model), n_resamples=RESAMPLES))
    h, m = np.array(human), np.array([x or "-" for x in model])
    part = 10

    def plain() -> None:
        for _ in range(part):
            rows = rng.integers(0, N, N)
            f1_score(h[rows], m[rows], labels=list(labels), average="macro", zero_division=0)
            cohen_kappa_score(h[rows], m[rows])

    how = f"scikit-learn, 2 metrics, {part} of {RESAMPLES:,} resamples scaled"
    line(
        "dropdown, 100,000 rows, 6 labels, all metrics",
        ours,
        "< 0.5 s",
        seconds(plain) * RESAMPLES / part,
        how,
    )


def bench_likert(rng: np.random.Generator) -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import cohen_kappa_score

    scale = (1, 2, 3, 4, 5)
    human, model = labelled(scale, N, 0.7, rng)
    ours = seconds(lambda: score_field(FieldData("likert", scale, human, model), n_resamples=RESAMPLES))
    pairs = np.array([(h, m) for h, m in zip(human, model, strict=True) if m is not None])
    part = 10

    def plain() -> None:
        for _ in range(part):
            h, m = pairs[rng.integers(0, len(pairs), len(pairs))].T
            spearmanr(h, m)
            cohen_kappa_score(h, m, labels=scale, weights="quadratic")

    how = f"scipy + scikit-learn, 2 metrics, {part} of {RESAMPLES:,} resamples scaled"
    line("likert, 100,000 rows, all metrics", ours, "< 0.5 s", seconds(plain) * RESAMPLES / part, how)


def sentences(n: int, rng: np.random.Generator, words: int = 12) -> list[str]:
    """Return texts of so many words."""
    picks = rng.integers(0, len(WORDS), (n, words))
    return [" ".join(WORDS[i] for i in row) for row in picks.tolist()]


def bench_text(rng: np.random.Generator) -> None:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rapidfuzz.distance import Levenshtein

    human = sentences(N, rng)
    model = [h[int(cut) :] + " rise" for h, cut in zip(human, rng.integers(0, 30, N), strict=True)]
    ours = seconds(lambda: score_field(FieldData("textbox", (), human, model), n_resamples=RESAMPLES))
    part, smooth = 2_000, SmoothingFunction().method1

    def points() -> None:
        for h, m in zip(human[:part], model[:part], strict=True):
            Levenshtein.normalized_similarity(h, m)
            sentence_bleu([h.split()], m.split(), smoothing_function=smooth)

    def means() -> None:
        values = rng.random((N, 2))
        for _ in range(10):
            values[rng.integers(0, N, N)].mean(axis=0)

    plain = seconds(points) * N / part + seconds(means) * RESAMPLES / 10
    how = f"rapidfuzz + nltk, {part:,} of 100,000 rows, means of 10 of {RESAMPLES:,} resamples scaled"
    line("textbox, 100,000 rows, Levenshtein + BLEU", ours, "< 4 s", plain, how)


def spans_of(text: str, rng: np.random.Generator) -> list[tuple[int, int, str]]:
    """Return up to two spans of a text."""
    starts = rng.integers(0, len(text) - 15, rng.integers(0, 3))
    return [(int(s), int(s + rng.integers(2, 15)), "AB"[rng.integers(2)]) for s in starts]


def bench_spans(rng: np.random.Generator) -> None:
    from nervaluate.evaluator import Evaluator

    texts = sentences(N, rng)
    human = [spans_of(text, rng) for text in texts]
    model = [h if rng.random() < 0.5 else spans_of(t, rng) for h, t in zip(human, texts, strict=True)]
    data = FieldData("span", ("A", "B"), human, model, texts=texts)
    ours = seconds(lambda: score_field(data, n_resamples=RESAMPLES))
    part = 2_000
    entities = [
        [[{"label": label, "start": s, "end": e - 1} for s, e, label in spans] for spans in side[:part]]
        for side in (human, model)
    ]

    def plain() -> None:
        Evaluator(*entities, tags=["A", "B"], loader="dict").evaluate()

    how = f"nervaluate, values only, no interval, {part:,} of 100,000 texts scaled"
    line("spans, 100,000 texts, all metrics", ours, "< 3 s", seconds(plain) * N / part, how)


def bench_million(rng: np.random.Generator) -> None:
    """Print time and memory of four coded fields at growing numbers of rows."""
    for n in (250_000, 500_000, 1_000_000):
        fields = []
        for labels, kind in (
            ((0, 1), "checkbox"),
            (tuple("abcdef"), "dropdown"),
            ((1, 2, 3, 4, 5), "likert"),
        ):
            for _ in range(2 if kind == "dropdown" else 1):
                human = rng.integers(0, len(labels), n, dtype=np.int32)
                model = np.where(rng.random(n) < 0.7, human, rng.integers(-1, len(labels), n, dtype=np.int32))
                fields.append(FieldData(kind, labels, human_codes=human, model_codes=model.astype(np.int32)))
        took = seconds(lambda fields=fields: [score_field(f, n_resamples=RESAMPLES) for f in fields])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(
            f"{n:>9,} rows x 4 coded fields {took:8.2f} s   {took / n * 1e6:6.2f} us per row   peak {peak:.2f} GB"
        )


WORDS_GIVEN = ("tax", "the minister", "no plan", "spring", "rise of the city council", "the old bridge")
CALL = {
    "raw": '{"response": 1}',
    "reasoning": None,
    "finish_reason": "stop",
    "input_tokens": 340,
    "output_tokens": 2,
    "seconds": 0.000276,
    "input_chars": 1971,
    "error": None,
    "time": "2026-01-01T00:00:00.000+00:00",
    "messages_hash": "09b665209234f921",
}
"""The end of a ledger's line, as it is in a run."""


def write_folder(root: Path, n: int, rng: np.random.Generator) -> Path:
    """Write a task of `n` texts and a finished run on it, one ledger line per text and field; return the run folder."""
    questions = [
        nba.checkbox("Gate"),
        nba.dropdown("Topic", options=list("abcdef")),
        nba.likert("Degree", min_value=1, max_value=5),
        nba.textbox("Word"),
    ]
    codebook = nba.Codebook.build(text_column="text", id_column="id", sections={"S": questions})
    (root / "task").mkdir()
    codebook.save(root / "task" / "codebook.json")
    options = ((0, 1), tuple("abcdef"), (1, 2, 3, 4, 5), WORDS_GIVEN)
    human, model = zip(*(labelled(values, n, 0.7, rng) for values in options), strict=True)
    columns = [f.column for f in codebook]
    ids = [f"t{i:07d}" for i in range(n)]
    texts = [f"Text number {i}: the council of town {i * 7 % 13} decided about the road." for i in range(n)]
    write_csv(
        root / "task" / "ground-truth.csv", ["id", "text", *columns], zip(ids, texts, *human, strict=True)
    )
    task = nba.load_task(root / "task")
    first = nba.run(task, model="mock", limit=1, output_root=str(root / "outputs"))
    shutil.rmtree(root / "outputs" / "metrics")
    folder: Path = first.folder
    config = {**first.config, "limit": None, "n_texts": n, "data_hash": task.data_hash()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_csv(folder / "human_labels.csv", ["text_id", *columns], zip(ids, *human, strict=True))
    write_csv(folder / "output.csv", ["id", "text", *columns], zip(ids, texts, *model, strict=True))
    with (folder / "responses.jsonl").open("w", encoding="utf-8") as ledger:
        for column, values in zip(columns, model, strict=True):
            for text_id, text, value in zip(ids, texts, values, strict=True):
                ledger.write(json.dumps(call(text_id, text, column, value), separators=(",", ":")) + "\n")
    return folder


def call(text_id: str, text: str, column: str, value: Any) -> dict[str, Any]:
    """Return one line of a ledger."""
    status = "invalid" if value is None else "ok"
    answer = {"column": column, "status": status, "value": value, "reason": "" if value else "not an option"}
    head = {"text_id": text_id, "columns": [column], "attempt": 1, "repeat": 1, "status": status}
    return {**head, "answers": [answer], **CALL, "messages": [{"role": "user", "content": text}]}


def write_csv(path: Path, header: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a table; None is a blank."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


SCORE_FOLDER = """
import resource, sys, time
start = time.perf_counter()
import nbannot as nba
run = nba.load_run(sys.argv[1])
loaded = time.perf_counter() - start
save_scores(run)
took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(f"{len(run.task):>9,} rows x 4 fields from the folder, end to end {took:8.2f} s "
      f"({loaded:.2f} s to read, {time.process_time():.2f} s of CPU; < 30 s)   peak {peak:.2f} GB (< 1.5)")
"""


def bench_folder(rng: np.random.Generator) -> None:
    """Print time and memory, in its own process, of reading a run folder, scoring it, writing report and tables."""
    for n in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as place:
            folder = write_folder(Path(place), n, rng)
            subprocess.run([sys.executable, "-c", SCORE_FOLDER, str(folder)], check=True)


def bench_runs(rng: np.random.Generator) -> None:
    """Print the comparison of twenty runs, all pairs, for one metric of each kind."""
    from sklearn.metrics import f1_score

    n, runs = 2_000, 20
    labels, scale = tuple("abcdef"), (1, 2, 3, 4, 5)
    human = [labels[i] for i in rng.integers(0, 6, n)]
    points = [scale[i] for i in rng.integers(0, 5, n)]
    texts = sentences(n, rng)
    spans = [spans_of(text, rng) for text in texts]

    def answers(right: float, truth: list[Any], options: tuple[Any, ...]) -> list[Any]:
        return [t if rng.random() < right else options[rng.integers(len(options))] for t in truth]

    fields = {
        "f1_macro": [FieldData("dropdown", labels, human, answers(0.7, human, labels)) for _ in range(runs)],
        "spearman_corr": [
            FieldData("likert", scale, points, answers(0.7, points, scale)) for _ in range(runs)
        ],
        "bleu": [
            FieldData("textbox", (), texts, [t[int(rng.integers(0, 20)) :] for t in texts])
            for _ in range(runs)
        ],
        "token_f1": [
            FieldData(
                "span",
                ("A", "B"),
                spans,
                [s if rng.random() < 0.5 else spans_of(t, rng) for s, t in zip(spans, texts, strict=True)],
                texts=texts,
            )
            for _ in range(runs)
        ],
    }
    h, part = np.array(human), 20
    sides = [np.array(field.model) for field in fields["f1_macro"][:2]]

    def plain() -> None:
        for _ in range(part):
            rows = rng.integers(0, n, n)
            for side in sides:
                f1_score(h[rows], side[rows], average="macro", labels=list(labels), zero_division=0)

    each = seconds(plain) / part * RESAMPLES * 2 * runs * (runs - 1) / 2
    for metric, data in fields.items():
        ours = seconds(lambda data=data, metric=metric: compare_many(data, metric, n_resamples=RESAMPLES))
        plain_way = (
            (each, "scikit-learn f1_score, interval and test of 190 pairs, scaled")
            if metric == "f1_macro"
            else ()
        )
        line(f"20 runs, 2,000 texts, 190 pairs: {metric}", ours, "< 5 s", *plain_way)


POPULATIONS = {
    "A: 4 classes, rarest 2 %": (
        np.array([0.5, 0.3, 0.18, 0.02]),
        (50, 100, 200, 500),
        (0.91, 0.94, 0.94, 0.94),
    ),
    "B: 3 classes, rarest 9 %": (np.array([0.6, 0.31, 0.09]), (50, 100, 200), (0.91, 0.95, 0.94)),
}
RIGHT = 0.75


def bench_coverage(replications: int = 1_500, resamples: int = 1_000) -> None:
    """Print how often the percentile interval of macro F1 and kappa holds the true value.

    The population: these shares of human labels, the model right in 75 % and otherwise any other class with equal
    chance. True macro F1: the mean over the classes that humans used in the sample.
    """
    for name, (shares, sizes, published) in POPULATIONS.items():
        k = len(shares)
        table = np.full((k, k), (1 - RIGHT) / (k - 1))
        np.fill_diagonal(table, RIGHT)
        table = table * shares[:, None]
        true = label_counts(np.hstack([table, np.zeros((k, 1))]))
        true_f1, true_kappa = f1_per_class(true), float(cohen_kappa(true))

        def metrics(totals: np.ndarray, k: int = k) -> dict[str, np.ndarray]:
            tables = totals.reshape(-1, k, k)
            c = label_counts(np.concatenate([tables, np.zeros((len(tables), k, 1))], axis=-1))
            return {"f1": f1_macro(c), "kappa": cohen_kappa(c)}

        for n, expected in zip(sizes, published, strict=True):
            rng = np.random.default_rng(n)
            held = np.zeros(2)
            for replication in range(replications):
                cells = rng.choice(k * k, n, p=table.ravel())
                drawn = bootstrap(sample_cells(cells, k * k), metrics, resamples, replication)
                used = np.bincount(cells // k, minlength=k) > 0
                for i, (key, truth) in enumerate((("f1", true_f1[used].mean()), ("kappa", true_kappa))):
                    low, high, _ = percentile_limits(drawn[key], 0.95)
                    held[i] += low <= truth <= high
            f1, kappa = held / replications
            print(
                f"{name}  n={n:<4} macro F1 {f1:.3f} (section 2.3: {expected:.2f})   kappa {kappa:.3f} (.93-.95)"
            )


def main(what: str = "") -> None:
    """Run what was asked for."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(1)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the start")
    if what in ("", "speed"):
        score_field(FieldData("likert", (1, 2), [1, 2] * 20, [1, 1] * 20))  # imports
        for bench in (bench_dropdown, bench_likert, bench_text, bench_spans, bench_runs, bench_million):
            bench(rng)
    if what in ("", "folder"):
        bench_folder(rng)
    if what in ("", "coverage"):
        bench_coverage()


if __name__ == "__main__":
    main(*sys.argv[1:2])
