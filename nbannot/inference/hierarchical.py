"""The hierarchical bootstrap of a grid of runs: levels of every facet that is not held fixed, then texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbannot.measures.accounting import unit_codes
from nbannot.measures.result import FloatArray

RESAMPLES = 2_000
FEW_LEVELS = 6
MOST_NUMBERS = 20_000_000
"""Resamples times texts beyond which the mean over texts is drawn from its normal distribution instead."""


@dataclass(frozen=True)
class Hierarchical:
    """The interval of the hierarchical bootstrap, the standard deviation of its draws, and how it was made."""

    low: float
    high: float
    sd: float
    how: str


def hierarchical(
    values: FloatArray,
    facets: Mapping[str, Sequence[str]],
    residuals: FloatArray | None,
    variance: float,
    df: float,
    seed: int,
    n_resamples: int = RESAMPLES,
) -> Hierarchical:
    """Return the 95% interval of the mean of a grid.

    Parameters
    ----------
    values : (N,) the statistic in every cell of the grid.
    facets : facet -> (N,) levels, of the facets that are not held fixed.
    residuals : (units, N) by how much a text (or cluster) moves each cell's value when it is drawn once more; None: the
        mean over texts is drawn with `variance`.
    df : Satterthwaite's degrees of freedom, whose t quantile is used where a facet has fewer than 6 levels.

    Notes
    -----
    Of k levels k - 1 are drawn with replacement, which makes the variance of their mean that of the usual estimator
    (Rao & Wu 1988). Levels of crossed facets are drawn independently, the pigeonhole bootstrap (Owen 2007), which is
    rather too wide than too narrow: an interaction counts with every facet that it belongs to.
    """
    rng = np.random.default_rng(seed)
    weight = np.ones((n_resamples, len(values)))
    levels = {name: unit_codes(of) for name, of in facets.items()}
    sizes = {name: int(codes.max()) + 1 for name, codes in levels.items()}
    for name, codes in levels.items():
        k = sizes[name]
        if k > 1:
            weight *= rng.multinomial(k - 1, np.full(k, 1 / k), size=n_resamples)[:, codes]
    kept = weight.sum(1) > 0  # a grid that is not full may have no run of the levels that were drawn
    weight = weight[kept] / weight[kept].sum(1, keepdims=True)
    drawn = weight @ values
    if residuals is not None and len(residuals) * len(weight) <= MOST_NUMBERS:
        units = len(residuals)
        picks = rng.multinomial(units, np.full(units, 1 / units), size=len(weight)).astype(float)
        drawn = drawn + ((picks @ residuals) * weight).sum(1)
    else:
        drawn = drawn + rng.normal(0, math.sqrt(variance), len(drawn))
    sd, mean = float(drawn.std(ddof=1)), float(values.mean())
    told = f"{len(drawn):,} draws, seed {seed}"
    if any(1 < k < FEW_LEVELS for k in sizes.values()):
        from scipy.stats import t

        half = float(t.ppf(0.975, df)) * sd
        return Hierarchical(mean - half, mean + half, sd, f"t with {df:.1f} degrees of freedom, {told}")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Hierarchical(float(low), float(high), sd, f"percentiles, {told}")
