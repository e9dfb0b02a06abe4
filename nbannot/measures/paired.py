"""Comparison of runs on the same texts: paired differences with intervals and tests, for two runs or many.

A difference is A minus B, on the same rows, resampled together. Accuracy is tested by McNemar's mid-p;
everything else by approximate randomisation: under the hypothesis of no difference, the two answers to a text
could as well be exchanged. Overlapping intervals of two runs say nothing about their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.accounting import LABEL_TYPES, FieldData
from nbannot.measures.best_run import BestRun, best_run_corrected
from nbannot.measures.intervals import ONE_SIDED, standard_error
from nbannot.measures.pair_resampling import PairedResampling, randomisation
from nbannot.measures.paired_statistics import (
    SHARES,
    RowStatistics,
    correct_rows,
    goodness,
    runs_statistics,
)
from nbannot.measures.resample import (
    FEW_CLUSTERS,
    percentile_limits,
    zero_width,
)
from nbannot.measures.result import NAN, FloatArray
from nbannot.measures.significance import (
    CochranQ,
    adjusted,
    cochran_q,
    detectable_difference,
    detectable_from_error,
    mcnemar,
)
from nbannot.measures.text_extras import TextExtras

__all__ = [
    "BestRun",
    "ManyResult",
    "PairResult",
    "adjust_pairs",
    "best_run_corrected",
    "compare_many",
    "compare_two",
]


@dataclass(frozen=True, slots=True)
class PairResult:
    """The difference of two runs on the same texts, A minus B.

    Attributes
    ----------
    run_a, run_b : names of the runs.
    value_a, value_b, diff : the two values and A minus B; ``nan`` with a reason when not defined.
    ci_low, ci_high, ci_method : interval of the difference.
    p, p_method : two-sided test of no difference; p_adjusted is set by `adjust_pairs`.
    n, n_clusters : texts with a human label; clusters that were resampled, or None.
    n_discordant : texts that decide: for accuracy those that exactly one run has right, else those whose
        statistics differ.
    mdd : the smallest true difference that so many texts find with a power of 80 %.
    reason : why a value is missing or unreliable.
    """

    run_a: str
    run_b: str
    metric: str
    value_a: float
    value_b: float
    diff: float
    ci_low: float = NAN
    ci_high: float = NAN
    ci_method: str = ""
    p: float = NAN
    p_method: str = ""
    n: int = 0
    n_discordant: int = 0
    mdd: float = NAN
    n_clusters: int | None = None
    p_adjusted: float = NAN
    reason: str = ""

    def non_inferior(self, margin: float) -> bool | None:
        """Return True when A is shown to be at most `margin` worse than B; None without an interval.

        For metrics where higher is better. Declare the margin before looking; "not significant" is not this.
        """
        return None if math.isnan(self.ci_low) else self.ci_low > -abs(margin)


@dataclass(frozen=True)
class ManyResult:
    """All pairs of runs in one metric.

    Attributes
    ----------
    runs, values : names and values.
    pairs : every pair, p adjusted by Holm over all of them.
    best : index of the best value; None when none is defined.
    to_best : the comparisons with the best run (best minus other), Holm over these.
    not_distinguishable : indices of the runs that are not worse than the best at 5 % after Holm, with the best.
    cochran : Cochran's Q over all runs, for accuracy of independent unweighted rows; otherwise None.
    conventions : one line.
    """

    metric: str
    runs: tuple[str, ...]
    values: tuple[float, ...]
    pairs: list[PairResult]
    best: int | None
    to_best: list[PairResult] = field(default_factory=list)
    not_distinguishable: tuple[int, ...] = ()
    cochran: CochranQ | None = None
    conventions: str = ""


def compare_two(
    data_a: FieldData,
    data_b: FieldData,
    metric: str,
    *,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    names: tuple[str, str] = ("A", "B"),
    extras: bool | TextExtras = False,
) -> PairResult:
    """Return the difference of two runs in one metric; see `compare_many`."""
    found = compare_many(
        [data_a, data_b],
        metric,
        n_resamples=n_resamples,
        seed=seed,
        level=level,
        names=names,
        extras=extras,
    )
    return found.pairs[0]


def compare_many(
    runs: Sequence[FieldData],
    metric: str,
    *,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    names: Sequence[str] | None = None,
    extras: bool | TextExtras = False,
) -> ManyResult:
    """Return every pair of runs in one metric, resampled together.

    Parameters
    ----------
    runs : the same field of each run; the same rows and human labels in all.
    metric : a metric of the field's type, by its name on disk.
    names : of the runs; None: run 0, run 1, ...
    extras : as in `score_field`, for the metrics that need them.

    Raises
    ------
    ScoringError
        Fewer than two runs, runs on different rows, or an unknown metric.
    """
    if len(runs) < 2:
        raise ScoringError(f"a comparison needs at least two runs. Got {len(runs)}.")
    named = tuple(names) if names is not None else tuple(f"run {i}" for i in range(len(runs)))
    stats = runs_statistics(runs, metric, extras)
    resampling = PairedResampling(runs[0], stats, n_resamples, seed, level)
    pairs = [
        _pair(runs, stats, resampling, metric, a, b, named) for a, b in combinations(range(len(runs)), 2)
    ]
    values = resampling.values
    return _ranked(
        ManyResult(
            metric=metric,
            runs=named,
            values=tuple(values.tolist()),
            pairs=adjust_pairs(pairs),
            best=None if np.isnan(values).all() else int(np.nanargmax(goodness(metric, values))),
            cochran=_cochran(runs, metric),
            conventions=resampling.line(len(pairs)),
        )
    )


def adjust_pairs(pairs: Sequence[PairResult], method: str = "holm") -> list[PairResult]:
    """Return the pairs with p adjusted over all of them: give everything that one table shows."""
    corrected = adjusted([pair.p for pair in pairs], method).tolist()
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, corrected, strict=True)]


def _ranked(found: ManyResult) -> ManyResult:
    """Return the result with the comparisons to the best run."""
    if found.best is None:
        return found
    best = found.runs[found.best]
    order = list(zip(combinations(range(len(found.runs)), 2), found.pairs, strict=True))
    others, to_best = [], []
    for (a, b), pair in order:
        if found.best in (a, b):
            others.append(b if a == found.best else a)
            to_best.append(pair if a == found.best else _turned(pair))
    to_best = adjust_pairs(to_best)
    same = [other for other, pair in zip(others, to_best, strict=True) if not pair.p_adjusted < 0.05]
    same = [other for other in same if not math.isnan(found.values[other])]
    assert all(pair.run_a == best for pair in to_best)
    return replace(found, to_best=to_best, not_distinguishable=tuple(sorted([found.best, *same])))


def _turned(pair: PairResult) -> PairResult:
    return replace(
        pair,
        run_a=pair.run_b,
        run_b=pair.run_a,
        value_a=pair.value_b,
        value_b=pair.value_a,
        diff=-pair.diff,
        ci_low=-pair.ci_high,
        ci_high=-pair.ci_low,
    )


def _cochran(runs: Sequence[FieldData], metric: str) -> CochranQ | None:
    simple = runs[0].clusters is None and runs[0].weights is None
    if metric not in SHARES or runs[0].type not in LABEL_TYPES or not simple or len(runs) < 3:
        return None
    return cochran_q(np.column_stack([correct_rows(run) for run in runs]).astype(bool))


def _pair(
    runs: Sequence[FieldData],
    stats: Sequence[RowStatistics],
    resampling: PairedResampling,
    metric: str,
    a: int,
    b: int,
    names: Sequence[str],
) -> PairResult:
    values = resampling.values
    sample = resampling.sample
    few = sample.n_clusters is not None and sample.n_clusters < FEW_CLUSTERS
    base = PairResult(
        names[a],
        names[b],
        metric,
        float(values[a]),
        float(values[b]),
        float(values[a] - values[b]),
        n=resampling.n,
        n_clusters=sample.n_clusters,
        reason=f"only {sample.n_clusters} clusters: interval and p may be too optimistic" if few else "",
    )
    if math.isnan(base.diff):
        return replace(base, reason="not defined for one of the runs")
    if metric in SHARES and runs[0].type in LABEL_TYPES and sample.simple:
        return _by_mcnemar(base, stats[a].rows[:, 0], stats[b].rows[:, 0], resampling.level)
    low, high, method, reason, se = _interval(resampling, a, b)
    p, p_method = randomisation(resampling, a, b)
    return replace(
        base,
        ci_low=low,
        ci_high=high,
        ci_method=method,
        p=p,
        p_method=p_method,
        n_discordant=int((stats[a].rows != stats[b].rows).any(axis=1).sum()),
        mdd=detectable_from_error(se),
        reason="; ".join(filter(None, (base.reason, reason))),
    )


def _by_mcnemar(base: PairResult, right_a: FloatArray, right_b: FloatArray, level: float) -> PairResult:
    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    test = mcnemar(only_a, only_b, base.n, level)
    return replace(
        base,
        ci_low=test.ci_low,
        ci_high=test.ci_high,
        ci_method="Bonett-Price",
        p=test.p_mid,
        p_method="McNemar mid-p",
        n_discordant=only_a + only_b,
        mdd=detectable_difference(base.n, (only_a + only_b) / base.n),
    )


def _interval(resampling: PairedResampling, a: int, b: int) -> tuple[float, float, str, str, float]:
    """Return low, high, method, what is doubtful, and the standard error of the difference."""
    differences = resampling.resampled[:, a] - resampling.resampled[:, b]
    low, high, share = percentile_limits(differences, resampling.level)
    if zero_width(low, high):
        return NAN, NAN, "", "no interval: the difference is the same in nearly every resample", NAN
    doubts = [f"interval unreliable: not defined in {1 - share:.0%} of the resamples"] if share < 0.99 else []
    diff = float(resampling.values[a] - resampling.values[b])
    if not low - 1e-12 <= diff <= high + 1e-12:
        doubts.append(ONE_SIDED)
        low, high = min(low, diff), max(high, diff)
    return low, high, "paired bootstrap", "; ".join(doubts), standard_error(differences)
