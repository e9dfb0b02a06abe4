"""Comparison of runs on the same texts: paired differences with intervals and tests, for two runs or many.

A difference is A minus B, on the same rows, resampled together. Accuracy is tested by McNemar's mid-p;
everything else by approximate randomisation: under the hypothesis of no difference, the two answers to a text
could as well be exchanged. Overlapping intervals of two runs say nothing about their difference.

One yardstick: the intervals of a family of comparisons are adjusted as its p values are, and where the bootstrap
and the test disagree about 0, the limit next to 0 is that of the test. So an interval holds 0 exactly where the
adjusted p value does not tell two runs apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.accounting import LABEL_TYPES, FieldData
from nbannot.measures.best_run import BestRun, best_run_corrected
from nbannot.measures.intervals import FEW_EFFECTIVE, ONE_SIDED, standard_error
from nbannot.measures.pair_resampling import PairedResampling, randomisation
from nbannot.measures.pair_result import OPTIMISTIC, ManyResult, PairResult
from nbannot.measures.paired_statistics import (
    SHARES,
    RowStatistics,
    correct_rows,
    goodness,
    runs_statistics,
)
from nbannot.measures.resample import (
    FEW_CLUSTERS,
    Sample,
    normal_quantile,
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
    multiplicities,
)
from nbannot.measures.text_extras import TextExtras

__all__ = [
    "BestRun",
    "ManyResult",
    "PairResult",
    "Paired",
    "adjust_family",
    "best_run_corrected",
    "compare_many",
    "compare_two",
    "paired",
]


Limits = Callable[[float], tuple[float, float]]
"""Level -> the limits of a difference at that level."""


@dataclass(frozen=True)
class _Tested:
    """A pair before its family is known: everything that does not depend on the level."""

    pair: PairResult
    limits: Limits | None = None
    detectable: Callable[[float], float] | None = None


@dataclass(frozen=True)
class Paired:
    """All pairs of runs in one metric, tested; `adjust_family` makes their results."""

    metric: str
    runs: tuple[str, ...]
    values: tuple[float, ...]
    tested: list[_Tested]
    best: int | None
    cochran: CochranQ | None
    conventions: str
    level: float


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
    result = compare_many(
        [data_a, data_b],
        metric,
        n_resamples=n_resamples,
        seed=seed,
        level=level,
        names=names,
        extras=extras,
    )
    return result.pairs[0]


def compare_many(
    runs: Sequence[FieldData],
    metric: str,
    *,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    names: Sequence[str] | None = None,
    extras: bool | TextExtras = False,
    method: str = "holm",
) -> ManyResult:
    """Return every pair of runs in one metric, resampled together, adjusted over these pairs.

    Parameters
    ----------
    runs : the same field of each run; the same rows and human labels in all.
    metric : a metric of the field's type, by its name on disk.
    names : of the runs; None: run 0, run 1, ...
    extras : as in `score_field`, for the metrics that need them.
    method : of the adjustment, as in `adjusted`.

    Raises
    ------
    ScoringError
        Fewer than two runs, runs on different rows, or an unknown metric.
    """
    pairs = paired(runs, metric, n_resamples=n_resamples, seed=seed, level=level, names=names, extras=extras)
    return adjust_family([pairs], method)[0]


def paired(
    runs: Sequence[FieldData],
    metric: str,
    *,
    n_resamples: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    names: Sequence[str] | None = None,
    extras: bool | TextExtras = False,
) -> Paired:
    """Return every pair of runs in one metric, tested but not adjusted; arguments as in `compare_many`."""
    if len(runs) < 2:
        raise ScoringError(f"a comparison needs at least two runs. Got {len(runs)}.")
    named = tuple(names) if names is not None else tuple(f"run {i}" for i in range(len(runs)))
    stats = runs_statistics(runs, metric, extras)
    resampling = PairedResampling(runs[0], stats, n_resamples, seed, level)
    tested = [
        _tested(runs, stats, resampling, metric, a, b, named) for a, b in combinations(range(len(runs)), 2)
    ]
    values = resampling.values
    return Paired(
        metric=metric,
        runs=named,
        values=tuple(values.tolist()),
        tested=tested,
        best=None if np.isnan(values).all() else int(np.nanargmax(goodness(metric, values))),
        cochran=_cochran(runs, metric),
        conventions=resampling.line(),
        level=level,
    )


def adjust_family(found: Sequence[Paired], method: str = "holm") -> list[ManyResult]:
    """Return the results of several metrics with p values and intervals adjusted over all of their pairs.

    Give everything that is looked at together: what one table of a field shows.
    """
    every = [tested for one in found for tested in one.tested]
    p = [tested.pair.p for tested in every]
    corrected, family = adjusted(p, method).tolist(), multiplicities(p, method).tolist()
    level = found[0].level if found else NAN
    flat = iter(
        [
            _adjusted(tested, p_adjusted, level, times)
            for tested, p_adjusted, times in zip(every, corrected, family, strict=True)
        ]
    )
    return [
        _ranked(
            ManyResult(
                one.metric,
                one.runs,
                one.values,
                pairs=[next(flat) for _ in one.tested],
                best=one.best,
                cochran=one.cochran,
                conventions=one.conventions,
            ),
            1 - level,
        )
        for one in found
    ]


def _adjusted(tested: _Tested, p_adjusted: float, level: float, times: float) -> PairResult:
    """Return a pair with its interval at the level that `times` comparisons leave to it."""
    pair = replace(tested.pair, p_adjusted=p_adjusted)
    if tested.limits is None or math.isnan(p_adjusted):
        return pair
    alpha = (1 - level) / times
    low, high = tested.limits(1 - alpha)
    method, doubts = pair.ci_method, [pair.reason]
    if not low - 1e-12 <= pair.diff <= high + 1e-12:
        doubts.append(ONE_SIDED)
        low, high = min(low, pair.diff), max(high, pair.diff)
    agreed = _as_tested(pair, low, high, 1 - level)
    if agreed != (low, high):
        method = f"{method}, next to 0 by the test"
    return replace(
        pair,
        ci_low=agreed[0],
        ci_high=agreed[1],
        ci_method=method,
        ci_level=1 - alpha,
        mdd=pair.mdd if tested.detectable is None else tested.detectable(alpha),
        reason="; ".join(filter(None, doubts)),
    )


def _as_tested(pair: PairResult, low: float, high: float, alpha: float) -> tuple[float, float]:
    """Return the limits, the one next to 0 moved where they say otherwise than p whether 0 is left out.

    The moved limit is that of the test-based interval (Miettinen 1976): ``diff * (1 - z_level / z_p)``.
    """
    different = pair.p_adjusted < alpha
    if different != (low <= 0 <= high) or pair.diff == 0:
        return low, high
    z = normal_quantile(1 - pair.p_adjusted / 2) if 0 < pair.p_adjusted < 1 else 0.0
    limit = pair.diff * (1 - normal_quantile(1 - alpha / 2) / z) if z > 0 else -pair.diff
    if pair.diff > 0:
        return max(limit, -high), high
    return low, min(limit, -low)


def _ranked(result: ManyResult, alpha: float) -> ManyResult:
    """Return the result with the comparisons to the best run."""
    if result.best is None:
        return result
    to_best, same = [], [result.best]
    for (a, b), pair in zip(combinations(range(len(result.runs)), 2), result.pairs, strict=True):
        if result.best not in (a, b):
            continue
        other = b if a == result.best else a
        to_best.append(pair if a == result.best else _turned(pair))
        if not pair.p_adjusted < alpha and not math.isnan(result.values[other]):
            same.append(other)
    return replace(result, to_best=to_best, not_distinguishable=tuple(sorted(same)))


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


def _few(sample: Sample, n: int) -> str:
    """Return the warning about few clusters, or about weights that leave little of many texts; or an empty string."""
    if sample.n_clusters is not None and sample.n_clusters < FEW_CLUSTERS:
        return f"only {sample.n_clusters} clusters: {OPTIMISTIC}"
    if sample.n_effective is not None and sample.n_effective < FEW_EFFECTIVE <= n:
        return f"effective n only {sample.n_effective:.0f} of {n}: {OPTIMISTIC}"
    return ""


def _tested(
    runs: Sequence[FieldData],
    stats: Sequence[RowStatistics],
    resampling: PairedResampling,
    metric: str,
    a: int,
    b: int,
    names: Sequence[str],
) -> _Tested:
    values = resampling.values
    sample = resampling.sample
    base = PairResult(
        names[a],
        names[b],
        metric,
        float(values[a]),
        float(values[b]),
        float(values[a] - values[b]),
        n=resampling.n,
        n_clusters=sample.n_clusters,
        reason=_few(sample, resampling.n),
    )
    if math.isnan(base.diff):
        return _Tested(replace(base, reason="not defined for one of the runs"))
    if metric in SHARES and runs[0].type in LABEL_TYPES and sample.simple:
        return _by_mcnemar(base, stats[a].rows[:, 0], stats[b].rows[:, 0])
    p, p_method = randomisation(resampling, a, b)
    base = replace(
        base,
        p=p,
        p_method=p_method,
        n_discordant=int((stats[a].rows != stats[b].rows).any(axis=1).sum()),
    )
    return _by_bootstrap(base, resampling.resampled[:, a] - resampling.resampled[:, b], resampling.level)


def _by_mcnemar(base: PairResult, right_a: FloatArray, right_b: FloatArray) -> _Tested:
    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    pair = replace(
        base,
        ci_method="Bonett-Price",
        p=mcnemar(only_a, only_b, base.n).p_mid,
        p_method="McNemar mid-p",
        n_discordant=only_a + only_b,
    )

    def limits(level: float) -> tuple[float, float]:
        test = mcnemar(only_a, only_b, base.n, level)
        return test.ci_low, test.ci_high

    return _Tested(
        pair, limits, lambda alpha: detectable_difference(base.n, (only_a + only_b) / base.n, alpha=alpha)
    )


def _by_bootstrap(base: PairResult, differences: FloatArray, level: float) -> _Tested:
    """Return a pair whose interval holds the middle of the resampled differences."""
    low, high, share = percentile_limits(differences, level)
    if zero_width(low, high):
        same = "no interval: the difference is the same in nearly every resample"
        return _Tested(replace(base, reason="; ".join(filter(None, (base.reason, same)))))
    doubt = f"interval unreliable: not defined in {1 - share:.0%} of the resamples" if share < 0.99 else ""
    pair = replace(base, ci_method="paired bootstrap", reason="; ".join(filter(None, (base.reason, doubt))))
    se = standard_error(differences)
    return _Tested(
        pair,
        lambda at: percentile_limits(differences, at)[:2],
        lambda alpha: detectable_from_error(se, alpha=alpha),
    )
