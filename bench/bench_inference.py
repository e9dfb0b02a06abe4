"""Coverage and speed of the findings: shares, regressions, the whole error, the alternative annotator test.

    python bench/bench_inference.py            everything
    python bench/bench_inference.py coverage   how often a 95 % interval holds the true value
    python bench/bench_inference.py speed      a million labels, ten runs against five coders, fifty runs

Nothing is asserted. Corpora of 5,000 texts, 2,000 replications where no other number stands; the Monte Carlo error of a
coverage of .95 is then .005.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import nbannot as nba
from nbannot.asking.answers import Answer
from nbannot.inference.grid import components
from nbannot.inference.grid_values import over_texts
from nbannot.inference.hierarchical import hierarchical
from nbannot.inference.moments import Sampled, fit
from nbannot.inference.shares import GoldTable, post_stratified, ppi
from nbannot.inference.total_error import Component, whole_limits
from nbannot.measures.resample import wilson
from nbannot.record.coding import Coding
from nbannot.record.run import Run
from nbannot.study.codebook import Codebook
from nbannot.study.config import RunConfig
from nbannot.study.questions import dropdown
from nbannot.study.task import Task
from nbannot.study.task_sources import load_task

Z = 1.959964
N = 5_000
REPLICATIONS = 2_000
SETTINGS = (
    (0.15, 0.80, 0.92, 200),
    (0.05, 0.80, 0.95, 100),
    (0.05, 0.80, 0.95, 500),
    (0.02, 0.70, 0.98, 200),
    (0.40, 0.90, 0.90, 200),
)
SETS = (Path(__file__).parents[2] / "shared/data", Path(__file__).parents[1] / "tests/data")


def seconds(work: Callable[[], Any]) -> str:
    """Return how long `work` takes, by the clock and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return f"{time.perf_counter() - start:.2f} s ({time.process_time() - used:.2f} s of the processor)"


def line(name: str, **numbers: float) -> None:
    print(f"  {name:<52}" + "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()), flush=True)


def drawn(rng: np.random.Generator, p: float, se: float, sp: float, n: int) -> tuple[GoldTable, np.ndarray]:
    """Return tables of counts of many corpora with random gold, and the true share in each corpus."""
    cells = rng.multinomial(N, [(1 - p) * sp, (1 - p) * (1 - sp), p * (1 - se), p * se], REPLICATIONS)
    gold = (
        np.array([rng.multivariate_hypergeometric(row, n) for row in cells]).reshape(-1, 2, 2).astype(float)
    )
    gold = np.concatenate([gold, np.zeros((REPLICATIONS, 2, 1))], 2)
    corpus = np.column_stack([cells[:, 0] + cells[:, 2], cells[:, 1] + cells[:, 3], np.zeros(REPLICATIONS)])
    return GoldTable(gold, gold, gold, corpus.astype(float)), (cells[:, 2] + cells[:, 3]) / N


def holds(low: Any, high: Any, truth: Any) -> float:
    return float(((np.asarray(low) <= truth) & (truth <= np.asarray(high))).mean())


def shares() -> None:
    print("\nShares: coverage and mean width (prevalence, Se, Sp, gold)")
    rng = np.random.default_rng(1)
    for p, se, sp, n in SETTINGS:
        table, truth = drawn(rng, p, se, sp, n)
        for name, population, target in (("corpus", False, truth), ("population", True, p)):
            found = post_stratified(table, population=population)
            low, high = (np.clip(found.value[:, 1] + sign * Z * found.se[:, 1], 0, 1) for sign in (-1, 1))
            line(f"post-stratified, {name} ({p:g}, {se:g}, {sp:g}, {n})", cover=holds(low, high, target),
                 width=float((high - low).mean()))  # fmt: skip
        gold = np.array([wilson(y, n) for y in table.counts.sum(2)[:, 1]])
        tuned = ppi(table)
        naive = table.corpus[:, 1] / N
        half = Z * np.sqrt(naive * (1 - naive) / N)
        line("    gold only / PPI++ / naive", gold=holds(*gold.T, p), ppi=holds(tuned[1][:, 1], tuned[2][:, 1], p),
             naive=holds(naive - half, naive + half, p))  # fmt: skip


def floor() -> None:
    print(
        "\nNo error in the sample although the model errs in 3 / n of the texts: coverage where none was seen"
    )
    rng = np.random.default_rng(2)
    for n in (50, 100, 200):
        for p in (0.1, 0.3, 0.5):
            table, truth = drawn(rng, p, 1 - 3 / n, 1 - 3 / n, n)
            none = (table.counts[:, 0, 1] + table.counts[:, 1, 0]) == 0
            found = post_stratified(table)
            low, high = (np.clip(found.value[:, 1] + s * Z * found.se[:, 1], 0, 1) for s in (-1, 1))
            without = (
                found.value[:, 1] - Z * found.se_classical[:, 1],
                found.value[:, 1] + Z * found.se_classical[:, 1],
            )
            seen = {"no_error": holds(low[none], high[none], truth[none]), "seen_none": float(none.mean())}
            line(
                f"n {n}, prevalence {p:g}",
                all=holds(low, high, truth),
                without_floor=holds(*without, truth),
                **seen,
            )


def regressions(replications: int = 1_000) -> None:
    print(
        f"\nRegression: coverage of the slope, {replications:,} replications, 2,000 texts, 200 of them coded"
    )
    rng = np.random.default_rng(3)
    n, coded = 2_000, 200
    for family in ("ols", "logit", "poisson"):
        cover = {"corrected": 0, "naive": 0, "gold_only": 0}
        width = dict.fromkeys(cover, 0.0)
        for _ in range(replications):
            left = rng.random(n) < 0.5
            if family == "poisson":
                y = rng.poisson(np.exp(0.2 + 0.5 * left)).astype(float)
                yhat, true = np.maximum(0, y + rng.integers(-1, 2, n) + left * (rng.random(n) < 0.3)), 0.5
            else:
                p = np.where(left, 0.5, 0.3)
                y = (rng.random(n) < p).astype(float)
                wrong = rng.random(n) < np.where(left, 0.2, 0.08)
                yhat = np.where(wrong, 1 - y, y)
                true = 0.2 if family == "ols" else float(np.log(1.0) - np.log(0.3 / 0.7))
            x = np.column_stack([np.ones(n), left])
            rows = rng.permutation(n)[:coded]
            sampled = Sampled(rows, x[rows], y[rows], np.full(coded, n / coded))
            for name, found in (("corrected", fit(family, x, yhat, sampled=sampled)), ("naive", fit(family, x, yhat)),
                                ("gold_only", fit(family, x[rows], y[rows]))):  # fmt: skip
                half = _t(found.df) * found.se[1]
                cover[name] += abs(found.beta[1] - true) <= half
                width[name] += 2 * half
        line(family, **{k: v / replications for k, v in cover.items()},
             width=width["corrected"] / replications, gold_width=width["gold_only"] / replications)  # fmt: skip
    covered = 0
    for _ in range(replications):
        truth = (rng.random(n) < 0.4).astype(float)
        y = 1 + 2 * truth + rng.normal(0, 1, n)
        label = np.where(rng.random(n) < 0.15, 1 - truth, truth)
        x, rows = np.column_stack([np.ones(n), label]), rng.permutation(n)[:coded]
        people = np.column_stack([np.ones(coded), truth[rows]])
        found = fit("ols", x, y, sampled=Sampled(rows, people, y[rows], np.full(coded, n / coded)))
        covered += abs(found.beta[1] - 2) <= _t(found.df) * found.se[1]
    line("ols, the model's label as a covariate", corrected=covered / replications)


def _t(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, df))


def whole_error(replications: int = 1_000) -> None:
    print(f"\nThe whole error: prompts with a sd of .03 around .8, 200 texts, {replications:,} replications")
    rng = np.random.default_rng(4)
    for prompts in (5, 7, 10):
        whole = texts = drawn = 0
        for _ in range(replications):
            accuracy = np.clip(0.8 + rng.normal(0, 0.03, prompts), 0, 1)
            hard = rng.random(200)
            mixed = np.where(rng.random((200, prompts)) < 0.7, hard[:, None], rng.random((200, prompts)))
            right = (mixed < accuracy).astype(float)
            values, variance, df, _, _, residuals = over_texts(right, 1, None, "")
            names = [str(i) for i in range(prompts)]
            _, _, rest, _ = components(values.ravel(), {"prompt": names})
            parts = [Component("texts", 200, df, variance), Component("prompt", prompts, prompts - 1, rest)]
            mean = float(values.mean())
            low, high, freedom = whole_limits(mean, [variance, rest / prompts], [one.df for one in parts])
            whole += low <= 0.8 <= high
            boot = hierarchical(values.ravel(), {"prompt": names}, residuals, variance, freedom, 1, 1_000)
            drawn += boot.low <= 0.8 <= boot.high
            one = float(values[0, 0])
            half = Z * np.sqrt(one * (1 - one) / 200)
            texts += one - half <= 0.8 <= one + half
        line(
            f"{prompts} prompts",
            whole=whole / replications,
            bootstrap=drawn / replications,
            one_run_texts_only=texts / replications,
        )


def manifesto(replications: int = 1_000) -> None:
    place = next(s / "uk_manifesto_policy" for s in SETS if (s / "uk_manifesto_policy").exists())
    task = load_task(place)
    with tempfile.TemporaryDirectory() as out:
        run = nba.run(task, model="baseline/tfidf-lr", fields=["Area"], output_root=out)
    f = task.codebook["Area"]
    code = {label: i for i, label in enumerate(f.labels)}
    human = np.array([code[v] for v in task.human(f.column)])
    model = np.array([code.get(v, len(code)) for v in run.coding.values(f.column)])
    k, n = len(code), min(200, len(human) // 2)
    print(
        f"\n{place.name}: {len(human)} texts, {n} human labels drawn {replications:,} times, all labels as truth"
    )
    rng = np.random.default_rng(5)
    tables = np.zeros((replications, k, k + 1))
    for r in range(replications):
        rows = rng.permutation(len(human))[:n]
        np.add.at(tables[r], (human[rows], model[rows]), 1)
    corpus = np.tile(np.bincount(model, minlength=k + 1).astype(float), (replications, 1))
    found = post_stratified(GoldTable(tables, tables, tables, corpus))
    truth = np.bincount(human, minlength=k) / len(human)
    for label, i in code.items():
        low, high = (np.clip(found.value[:, i] + s * Z * found.se[:, i], 0, 1) for s in (-1, 1))
        gold = np.array([wilson(y, n) for y in tables.sum(2)[:, i]])
        naive = float((model == i).mean())
        line(f"{label}: true {truth[i]:.3f}, naive {naive:.3f}", cover=holds(low, high, truth[i]),
             width=float((high - low).mean()), gold_width=float((gold[:, 1] - gold[:, 0]).mean()))  # fmt: skip


def made_run(
    n: int, labels: list[Any], options: tuple[str, ...], run_id: str, task: Task, **config: Any
) -> Run:
    same = {v: Answer("S_Kind", "ok", v) for v in options}
    settings = RunConfig(model="mock").to_dict()
    stored = {
        "run_id": run_id,
        "status": "complete",
        "model_info": {},
        "model_id": run_id,
        **settings,
        **config,
    }
    return Run(Path("none"), stored, task, Coding(task, {"S_Kind": [same[v] for v in labels]}, run_id))


def speed() -> None:
    print("\nSpeed")
    rng = np.random.default_rng(6)
    options = tuple("abcdefghij")
    codebook = Codebook.build(text_column="text", sections={"S": [dropdown("Kind", options=list(options))]})
    n = 1_000_000
    truth = rng.choice(options, n)
    model = np.where(rng.random(n) < 0.8, truth, rng.choice(options, n)).tolist()
    human = np.full(n, "", dtype=object)
    gold = rng.permutation(n)[:5_000]
    human[gold] = truth[gold]
    ids = [f"t{i}" for i in range(n)]
    years = [str(i % 50) for i in range(n)]
    data = {"id": ids, "text": ids, "year": years, "S_Kind": human.tolist()}
    run = made_run(n, model, options, "a1b2c3d4", Task(pl.DataFrame(data), codebook, "large"))
    took = seconds(lambda: nba.prevalence(run, by="year"))
    print(f"  prevalence, 1,000,000 labels × 10 classes × 50 groups: {took}")

    n = 1_000
    ids = ids[:n]
    task = Task(pl.DataFrame({"id": ids, "text": ids, "S_Kind": truth[:n].tolist()}), codebook, "small")

    def noisy(right: float) -> list[Any]:
        return np.where(rng.random(n) < right, truth[:n], rng.choice(options, n)).tolist()

    coders = [
        nba.load_coder(task, pl.DataFrame({"id": ids, "S_Kind": noisy(0.85)}), f"coder{i}") for i in range(5)
    ]
    runs = [made_run(n, noisy(0.8), options, f"{i:02d}aabbcc", task, prompt_type=f"p{i % 10}", model=f"mock/m{i // 10}")
            for i in range(50)]  # fmt: skip
    took = seconds(lambda: [nba.alt_test(r, coders=coders, epsilon=0.1) for r in runs[:10]])
    print(f"  alt_test, 10 runs × 5 coders × 1,000 texts: {took}")

    def slow(one: Run) -> float:
        time.sleep(0.01)
        return sum(v == "a" for v in one.coding.values("S_Kind")) / len(one.task)

    print(f"  multiverse of 50 runs, 10 ms each: {seconds(lambda: nba.multiverse(runs, slow))}")
    print(f"  total_error of 50 runs, 10 ms each: {seconds(lambda: nba.total_error(runs, slow))}")
    print(f"  total_error of 50 runs, accuracy: {seconds(lambda: nba.total_error(runs))}")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["coverage", "speed"]
    if "coverage" in wanted:
        shares()
        floor()
        regressions()
        whole_error()
        manifesto()
    if "speed" in wanted:
        speed()
