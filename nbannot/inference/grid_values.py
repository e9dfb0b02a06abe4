"""The value of a statistic in every run of a grid, and how far its mean moves with other texts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nbannot.comparing.align import column_of
from nbannot.comparing.coder import Coder
from nbannot.errors import ScoringError, listed, nearest
from nbannot.inference.finding import MANY
from nbannot.inference.grid import blocks_of, part_of, read_estimate
from nbannot.measures.accounting import NO_REFERENCE, FieldData, account, unit_codes
from nbannot.measures.field import score_field
from nbannot.measures.result import FloatArray
from nbannot.record.run import Run
from nbannot.record.scoring import field_data
from nbannot.study.field import Field

FIRST_METRIC = {"checkbox": "accuracy", "dropdown": "accuracy", "likert": "quadratic_kappa",
                "textbox": "norm_levenshtein", "span": "token_f1", "multiselect": "f1_macro"}  # fmt: skip
SHARE = "share:"
BLOCKS, CALLS, RUNS = 40, 100, 5
"""Blocks of texts of a jackknife; about so many calls of a slow estimator, on so many of the runs."""
QUICK = 0.002
"""Seconds: a faster estimator is called as often as the blocks ask for."""


class Values(NamedTuple):
    """(runs, coders) values of a statistic, the variance of their mean over texts, its degrees of freedom, a name.

    `bounds` is the range of the statistic, where it is known; `residuals` are by how much a text, or cluster, moves
    each of the raveled values when it is drawn once more, where they are means over texts; `n_texts` is how many texts
    the values are of, where these are not all (those with a human label); None: all.
    """

    values: FloatArray
    variance: float
    df: float
    name: str
    bounds: tuple[float, float] = (-math.inf, math.inf)
    residuals: FloatArray | None = None
    n_texts: int | None = None


def grid_values(
    runs: Sequence[Run],
    statistic: Any,
    column: str | None,
    coders: Sequence[Coder],
    cluster: str | None,
    seed: int,
) -> Values:
    """Return the values of a statistic in every run (and against every coder), and how their mean moves with texts.

    Raises
    ------
    ScoringError
        If the statistic cannot be computed for every run.
    """
    clusters = column_of(runs[0].task, runs[0].task.cluster_column(cluster))
    if callable(statistic):
        if coders:
            raise ScoringError("coders= goes with a metric: a function of a run has its own reference.")
        return _of_estimator(runs, statistic, clusters, seed)
    f = runs[0].coding.asked(column)
    if isinstance(statistic, str) and statistic.startswith(SHARE):
        label = statistic.removeprefix(SHARE).strip()
        known = [str(v) for v in f.labels]
        if label not in known:
            raise ScoringError(
                f"'{label}' is no label of {f.name}{nearest(label, known) or '.'}\n  Its labels: {listed(known)}."
            )
        per_text = np.column_stack(
            [[float(_has(v, label)) for v in run.coding.values(f.column)] for run in runs]
        )
        return over_texts(per_text, 1, clusters, f"the share of {label} in {f.name}")
    metric = statistic or FIRST_METRIC[f.type]
    data = [_against(run, f, coder) for run in runs for coder in (coders or (None,))]
    if metric == "accuracy" and f.type in ("checkbox", "dropdown", "likert"):
        return _accuracy(data, max(1, len(coders)), clusters, f)
    return _of_metric(data, max(1, len(coders)), metric, clusters, seed, f)


def _has(value: Any, label: str) -> bool:
    """Return whether a label is the one asked for; of a multiselect, whether it is among those chosen."""
    return label in value if isinstance(value, list) else str(value) == label


def _against(run: Run, f: Field, coder: Coder | None) -> FieldData:
    """Return a field of a run beside the task's labels, or beside one person's."""
    if coder is None:
        return field_data(run.coding, f, weighting=run.task.weighting())
    data = field_data(run.coding, f)
    labels = dict(
        zip(coder.task.ids, field_data(replace(coder.coding, by_person=True), f).model, strict=True)
    )
    human = [labels.get(i) for i in run.task.ids]
    weighting = run.task.weighting()
    weights = None if weighting is None else weighting.on(run.task.ids, [h is not None for h in human])[0]
    return replace(
        data, human=human, human_applies=None, weights=None if weights is None else np.array(weights)
    )


def _accuracy(data: Sequence[FieldData], k: int, clusters: Sequence[str] | None, f: Field) -> Values:
    coded = np.array([[h is not None for h in one.human] for one in data])
    used = np.logical_and.reduce(coded)
    if not used.any():
        raise ScoringError(f"no text has a human label in {f.column} from everybody.")
    right = [[float(h == m) for h, m in zip(one.human, one.model, strict=True)] for one in data]
    per_text = np.array(right).T[used]
    groups = None if clusters is None else [c for c, u in zip(clusters, used.tolist(), strict=True) if u]
    weights = None if data[0].weights is None else np.asarray(data[0].weights)[used]
    return over_texts(per_text, k, groups, f"accuracy in {f.name}", weights)


def over_texts(
    per_text: FloatArray,
    k: int,
    clusters: Sequence[str] | None,
    name: str,
    weights: FloatArray | None = None,
) -> Values:
    """Return a statistic that is a (weighted) mean over texts: its variance is known without resampling."""
    n = len(per_text)
    if n < 2:
        raise ScoringError("two texts at least are needed for an error over texts.")
    w = np.ones(n) if weights is None else weights / weights.mean()
    mean = w @ per_text / n
    residuals = w[:, None] * (per_text - mean) / n
    apart = w * (per_text.mean(1) - mean.mean())
    if clusters is None:
        variance, df = float((apart**2).sum()) / (n * (n - 1)), float(n - 1)
    else:
        codes = unit_codes(clusters)
        sums = np.bincount(codes, apart)
        of_clusters = np.zeros((len(sums), residuals.shape[1]))
        np.add.at(of_clusters, codes, residuals)
        residuals = of_clusters
        g = len(sums)
        variance, df = float((sums**2).sum()) / n**2 * g / max(1, g - 1), float(max(1, g - 1))
    return Values(mean.reshape(-1, k), variance, df, name, (0.0, 1.0), residuals, n)


def _of_metric(
    data: Sequence[FieldData], k: int, metric: str, clusters: Sequence[str] | None, seed: int, f: Field
) -> Values:
    def value(one: FieldData) -> float:
        scores = score_field(one, n_resamples=1)
        known = {**scores.results, **scores.extra}
        if metric not in known:
            raise ScoringError(f"'{metric}' is no metric of a {f.type}{nearest(metric, known) or '.'}")
        return float(known[metric].value)

    used = np.flatnonzero(
        np.logical_or.reduce([account(one).status != NO_REFERENCE for one in data])
    ).tolist()
    if len(used) < 2:
        raise ScoringError("two texts with a human label at least are needed for an error over texts.")
    data = [_rows(one, used) for one in data]
    clusters = None if clusters is None else [clusters[row] for row in used]
    values = np.array([value(one) for one in data])
    _refuse_undefined(values, metric)
    picked = [data[i] for i in _spread(len(data))]
    blocks = blocks_of(data[0].n_rows, clusters, CALLS // len(picked), seed)
    keep = [np.setdiff1d(np.arange(data[0].n_rows), block).tolist() for block in blocks]
    left_out = np.array([[value(_rows(one, rows)) for one in picked] for rows in keep])
    variance, name = _jackknife(left_out, len(data)), f"{metric} in {f.name}"
    return Values(values.reshape(-1, k), variance, len(blocks) - 1.0, name, n_texts=len(used))


def _spread(n: int) -> list[int]:
    """Return the positions of a few of `n` runs, evenly spread."""
    return [int(i) for i in np.linspace(0, n - 1, min(n, RUNS)).round()]


def _rows(data: FieldData, rows: Sequence[int]) -> FieldData:
    """Return some rows of a field's data."""

    def of(values: Any) -> Any:
        return (
            None
            if values is None
            else np.asarray(values)[rows]
            if isinstance(values, np.ndarray)
            else [values[r] for r in rows]
        )

    return replace(
        data, human=of(data.human), model=of(data.model), human_applies=of(data.human_applies),
        model_applies=of(data.model_applies), gate_unanswered=of(data.gate_unanswered), texts=of(data.texts),
        missing_reason=of(data.missing_reason), unaligned=of(data.unaligned), weights=of(data.weights),
    )  # fmt: skip


def _of_estimator(
    runs: Sequence[Run], estimator: Callable[[Run], Any], clusters: Sequence[str] | None, seed: int
) -> Values:
    started = time.monotonic()
    estimates = [read_estimate(estimator(run)) for run in runs]
    each = (time.monotonic() - started) / len(runs)
    values = np.array([one.value for one in estimates])
    _refuse_undefined(values, "the estimator")
    name = getattr(estimator, "__name__", "the estimate").replace("<lambda>", "the estimate")
    se = np.array([one.se for one in estimates])
    if not np.isnan(se).any():  # the estimator knows its error over texts; runs on the same texts share it
        return Values(values[:, None], float((se**2).mean()), float(MANY), name)
    picked = [
        runs[i] for i in np.linspace(0, len(runs) - 1, min(len(runs), RUNS)).round().astype(int).tolist()
    ]
    blocks = blocks_of(len(runs[0].task), clusters, BLOCKS if each < QUICK else CALLS // len(picked), seed)
    every = np.arange(len(runs[0].task))
    left_out = np.array(
        [
            [
                read_estimate(estimator(part_of(run, np.setdiff1d(every, block).tolist()))).value
                for run in picked
            ]
            for block in blocks
        ]
    )
    return Values(values[:, None], _jackknife(left_out, len(runs)), len(blocks) - 1.0, name)


def _jackknife(left_out: FloatArray, n_runs: int) -> float:
    """Return the variance over texts of the mean of `n_runs` runs, from (blocks, some runs) values without a block.

    Runs on the same texts move together: their mean has the covariance of two of them, and a part of what is their own.
    """
    if np.isnan(left_out).any():
        raise ScoringError(
            "the statistic is not defined on a part of the texts: its error over texts is unknown."
        )
    b, r = left_out.shape
    if b < 2:
        return math.nan
    apart = left_out - left_out.mean(0)
    covariance = (b - 1) / b * (apart.T @ apart)
    own = float(np.trace(covariance)) / r
    between = float(covariance.sum()) - own * r
    shared = max(0.0, between / (r * (r - 1))) if r > 1 else own
    return float(shared + (own - shared) / n_runs)


def _refuse_undefined(values: FloatArray, what: str) -> None:
    if np.isnan(values).any():
        raise ScoringError(f"{what} has no value in {int(np.isnan(values).sum())} of {len(values)} runs.")
