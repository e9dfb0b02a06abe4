"""Intervals: additive statistics of resampling units, and bootstrap, jackknife, BCa and Wilson limits from them.

Every metric of this package is a function of totals, ``f(sum of the units' statistics)``: confusion counts,
span counts, n-gram counts. A bootstrap of independent rows is then one multinomial draw over the distinct
units, and thousands of resamples cost one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nbannot.measures.result import NAN, FloatArray, IntArray

MANY_UNITS = 10_000
"""Above this number of distinct units, they are put at random into half as many groups before resampling.

5,000 groups know the standard error to 1 %, less than what 10,000 resamples leave open in a limit.
"""
MANY_CELLS = 20_000_000
"""The same holds when units times columns exceed this number, down to 1,000 groups."""
FEW_UNITS = 50
"""Below so many texts the bootstrap of alpha is too narrow, and a jackknife serves (Hughes 2022, arXiv:2210.13265)."""
FEW_CLUSTERS = 30
"""Below so many clusters the bootstrap is too narrow: a jackknife and t with G - 1 degrees of freedom serve instead."""
BLOCK_CELLS = 1_000_000
"""Numbers held at once while resampling; larger blocks are slower, each being fresh memory from the system."""
_MULTINOMIAL_COST = 20
"""One multinomial cell costs about as much as this many drawn indices."""
_PICKED_AT_ONCE = 50_000
"""Indices drawn in one call; more leave the processor's cache."""

Evaluate = Callable[[FloatArray], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Sample:
    """Additive statistics of the resampling units, equal units held once.

    Attributes
    ----------
    stats : (u, c) statistics of the distinct units, or None when unit i counts 1 in column i and nothing else.
    counts : (u,) how many units are like that.
    columns : (c,) positions of the columns among `width`; all others are 0. None: all of them.
    width : number of additive statistics d that a metric expects.
    n_clusters : number of clusters; None for independent rows.
    grouped : True when the units are random groups of rows, made for speed.
    n_effective : how many rows of equal weight say as much (Kish 1965: (sum w)² / sum w²); None: weights are equal.
    """

    stats: FloatArray | None
    counts: IntArray
    columns: IntArray | None
    width: int
    n_clusters: int | None = None
    grouped: bool = False
    n_effective: float | None = None

    @property
    def n_units(self) -> int:
        """Number of units that one resample draws."""
        return int(self.counts.sum())

    @property
    def simple(self) -> bool:
        """True for independent rows of equal weight, where Wilson limits hold."""
        return self.n_clusters is None and self.n_effective is None

    @property
    def method(self) -> str:
        """Name of the percentile interval from this sample."""
        if self.n_clusters is not None:
            return "cluster bootstrap"
        return "bootstrap of random groups" if self.grouped else "multinomial bootstrap"

    def spread(self, totals: FloatArray) -> FloatArray:
        """Return (b, c) sums of the held columns as (b, width) totals."""
        if self.columns is None:
            return totals
        wide = np.zeros((len(totals), self.width))
        wide[:, self.columns] = totals
        return wide

    def totals(self) -> FloatArray:
        """Return the (width,) totals of the sample itself."""
        counts = self.counts[None].astype(float)
        whole: FloatArray = self.spread(counts if self.stats is None else counts @ self.stats)[0]
        return whole

    def resampled(self, n_resamples: int, seed: int) -> Iterator[FloatArray]:
        """Yield (b, width) totals of resamples, in blocks that add up to `n_resamples`."""
        rng = np.random.default_rng(seed)
        block = max(1, BLOCK_CELLS // max(self.width, len(self.counts)))
        for first in range(0, n_resamples, block):
            drawn = self.draws(rng, min(block, n_resamples - first))
            yield self.spread(drawn if self.stats is None else drawn @ self.stats)

    def draws(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return (size, u) how often each distinct unit was drawn."""
        n, n_distinct = self.n_units, len(self.counts)
        if n_distinct * _MULTINOMIAL_COST <= n:
            return rng.multinomial(n, self.counts / n, size=size).astype(float)
        units = np.repeat(np.arange(n_distinct), self.counts)
        identity = n_distinct == n
        drawn = np.empty((size, n_distinct))
        at_once = max(1, BLOCK_CELLS // max(n, n_distinct))
        for first in range(0, size, at_once):
            picks = rng.integers(0, n, (min(at_once, size - first), n))
            shifted = (picks if identity else units[picks]) + n_distinct * np.arange(len(picks))[:, None]
            counted = np.bincount(shifted.ravel(), minlength=n_distinct * len(picks))
            drawn[first : first + at_once] = counted.reshape(len(picks), n_distinct)
        return drawn


def sample_cells(
    cells: IntArray,
    width: int,
    clusters: IntArray | None = None,
    weights: FloatArray | None = None,
    seed: int = 1,
) -> Sample:
    """Return the sample of rows that each fall into one cell of a flat table with `width` cells.

    Parameters
    ----------
    cells : (n,) cell of each row, 0..width-1.
    clusters : (n,) integer codes of what is resampled together; None: single rows.
    weights : (n,) weights of the rows; None: all 1.
    """
    in_cell = np.bincount(cells, minlength=width)
    columns = np.flatnonzero(in_cell)
    if clusters is None and weights is None:
        return Sample(None, in_cell[columns].astype(np.int64), columns, width)
    position = (np.cumsum(in_cell > 0) - 1)[cells]
    value = np.ones(len(cells)) if weights is None else np.asarray(weights, dtype=float)
    if clusters is None:
        levels, level = np.unique(value, return_inverse=True)
        pairs, counts = np.unique(position * len(levels) + level, return_counts=True)
        if _affordable(len(pairs), len(cells), len(columns)):
            stats = np.zeros((len(pairs), len(columns)))
            stats[np.arange(len(pairs)), pairs // len(levels)] = levels[pairs % len(levels)]
            return Sample(stats, counts.astype(np.int64), columns, width, n_effective=_effective(weights))
    units, n_clusters, grouped = _units(len(cells), len(columns), clusters, seed)
    n_units = int(units.max()) + 1 if len(units) else 0
    sums = np.zeros((n_units, len(columns)))
    np.add.at(sums, (units, position), value)
    return _distinct(sums, columns, width, n_clusters, grouped, _effective(weights))


def sample_observed(
    places: IntArray,
    clusters: IntArray | None = None,
    weights: FloatArray | None = None,
    seed: int = 1,
) -> tuple[Sample, IntArray]:
    """Return the sample of rows over the distinct places alone, and these in ascending order (at least one)."""
    observed, cells = np.unique(places, return_inverse=True)
    if not len(observed):
        observed = np.zeros(1, dtype=np.int64)
    return sample_cells(cells, len(observed), clusters, weights, seed), observed


def sample_rows(
    stats: FloatArray, clusters: IntArray | None = None, weights: FloatArray | None = None, seed: int = 1
) -> Sample:
    """Return the sample of rows with (n, d) additive statistics; clusters and weights as in `sample_cells`."""
    value = stats if weights is None else stats * np.asarray(weights, dtype=float)[:, None]
    width = stats.shape[1]
    if clusters is None:
        rows = _distinct(value, None, width, None, grouped=False, n_effective=_effective(weights))
        if _affordable(len(rows.counts), len(value), width):
            return rows
    units, n_clusters, grouped = _units(len(value), width, clusters, seed)
    n_units = int(units.max()) + 1 if len(units) else 0
    sums = np.zeros((n_units, width))
    for column in range(width):
        sums[:, column] = np.bincount(units, weights=value[:, column], minlength=n_units)
    return _distinct(sums, None, width, n_clusters, grouped, _effective(weights))


def _effective(weights: FloatArray | None) -> float | None:
    if weights is None:
        return None
    w = np.asarray(weights, dtype=float)
    return float(w.sum() ** 2 / (w**2).sum()) if len(w) else 0.0


def _many(width: int) -> int:
    """Return how many units with `width` statistics are resampled one by one."""
    return min(MANY_UNITS, max(2_000, MANY_CELLS // max(1, width)))


def _affordable(n_distinct: int, n_units: int, width: int) -> bool:
    """Return True when units need no random groups: few of them, or few distinct ones."""
    return min(n_units, 2 * _MULTINOMIAL_COST * n_distinct) <= _many(width)


def _units(
    n_rows: int, width: int, clusters: IntArray | None, seed: int
) -> tuple[IntArray, int | None, bool]:
    """Return the unit of each row, the number of clusters, and whether units became random groups."""
    units = np.arange(n_rows) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    n_units = int(units.max()) + 1 if n_rows else 0
    n_clusters = None if clusters is None else n_units
    if n_units <= _many(width):
        return units, n_clusters, False
    groups = np.random.default_rng([seed, n_units]).permutation(n_units) % (_many(width) // 2)
    return groups[units], n_clusters, True


def _distinct(
    stats: FloatArray,
    columns: IntArray | None,
    width: int,
    n_clusters: int | None,
    grouped: bool,
    n_effective: float | None,
) -> Sample:
    """Return the sample with equal units merged.

    Units are matched by a random projection and then compared, which is much faster than sorting rows; two
    different units with the same projection leave the rows unmerged, which changes nothing but the speed.
    """
    counts = np.ones(len(stats), dtype=np.int64)
    key = stats @ np.random.default_rng(0).standard_normal(stats.shape[1])
    _, first, unit_of, repeats = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if (stats == stats[first[unit_of]]).all():
        stats, counts = stats[first], repeats.astype(np.int64)
    return Sample(stats, counts, columns, width, n_clusters, grouped, n_effective)


def bootstrap(sample: Sample, evaluate: Evaluate, n_resamples: int, seed: int) -> dict[str, FloatArray]:
    """Return every metric of `evaluate` in each resample, (n_resamples, ...) per name."""
    blocks = [dict(evaluate(totals)) for totals in sample.resampled(n_resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def percentile_limits(values: FloatArray, level: float) -> tuple[float, float, float]:
    """Return the percentile limits of resampled values and the share of resamples where they are defined."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return NAN, NAN, 0.0
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), defined.size / values.size


def jackknife(sample: Sample, evaluate: Evaluate) -> dict[str, tuple[FloatArray, IntArray]]:
    """Return per metric the values with one unit left out, and how many units each stands for."""
    held = np.eye(len(sample.counts)) if sample.stats is None else sample.stats
    values = evaluate(sample.totals()[None] - sample.spread(held))
    return {name: (value, sample.counts) for name, value in values.items()}


def jackknife_limits(
    value: float, left_out: FloatArray, counts: IntArray, level: float, low: float, high: float
) -> tuple[float, float]:
    """Return ``value ± t(G-1) * jackknife SE``, cut at the range `low`..`high` of the metric.

    ``nan`` when a value with one unit left out is not defined, or with fewer than two units.
    """
    n_units = int(counts.sum())
    if n_units < 2 or np.isnan(left_out).any():
        return NAN, NAN
    mean = counts @ left_out / n_units
    se = math.sqrt((n_units - 1) / n_units * float(counts @ (left_out - mean) ** 2))
    half = t_quantile((1 + level) / 2, n_units - 1) * se
    return max(low, value - half), min(high, value + half)


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927).

    >>> [round(limit, 3) for limit in wilson(50, 50)]
    [0.929, 1.0]
    """
    if n <= 0:
        return NAN, NAN
    z2 = normal_quantile((1 + level) / 2) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if successes <= 0 else centre - half), (1.0 if successes >= n else centre + half)


def normal_quantile(probability: float) -> float:
    """Return the quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def t_quantile(probability: float, df: int) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def zero_width(low: float, high: float) -> bool:
    """Return True for limits that coincide (to 1e-12): no interval at all."""
    return high - low <= 1e-12
