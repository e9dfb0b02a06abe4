"""Likert metrics from count tables: rank correlations, weighted kappas, ordinal and interval alpha, errors.

Tables are (..., K, K) counts of the answered rows, human rows and model columns, over the whole scale of the
codebook (scale points that nobody used included); `values` are the K scale points. There is no place for "no
answer" on an ordered scale, so these numbers are of the answered rows and are read with the coverage.
"""

from __future__ import annotations

import math

import numpy as np

from nbannot.measures.classification import ratio
from nbannot.measures.resample import normal_quantile
from nbannot.measures.result import NAN, FloatArray


def spearman(tables: FloatArray) -> FloatArray:
    """Return Spearman's rank correlation (Pearson on average ranks); ``nan`` when one side is constant."""
    human, model = _margins(tables)
    total = human.sum(-1, keepdims=True)
    from_middle = [np.cumsum(side, -1) - side / 2 - total / 2 for side in (human, model)]
    covariance = _product(tables, *from_middle)
    spreads = [(side * ranks**2).sum(-1) for side, ranks in zip((human, model), from_middle, strict=True)]
    tiny = 1e-12 * total[..., 0] ** 3
    spread = np.where((spreads[0] > tiny) & (spreads[1] > tiny), spreads[0] * spreads[1], 0.0)
    return ratio(covariance, np.sqrt(spread))


def spearman_limits(r: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the closed-form interval of Bonett and Wright (2000) for Spearman's correlation.

    Fisher's z with standard error ``sqrt((1 + r**2 / 2) / (n - 3))``; ``nan`` for fewer than four rows.
    """
    if n < 4 or math.isnan(r) or abs(r) >= 1:
        return NAN, NAN
    half = normal_quantile((1 + level) / 2) * math.sqrt((1 + r * r / 2) / (n - 3))
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def kendall_tau_b(tables: FloatArray) -> FloatArray:
    """Return Kendall's tau-b; ``nan`` when one side is constant."""
    before = np.cumsum(np.cumsum(tables, -1), -2)
    concordant = (tables[..., 1:, 1:] * before[..., :-1, :-1]).sum((-1, -2))
    after = np.cumsum(np.cumsum(tables[..., ::-1], -1), -2)[..., ::-1]
    discordant = (tables[..., 1:, :-1] * after[..., :-1, 1:]).sum((-1, -2))
    human, model = _margins(tables)
    n = human.sum(-1)
    pairs = [(n * n - (side**2).sum(-1)) / 2 for side in (human, model)]
    return ratio(concordant - discordant, np.sqrt(pairs[0] * pairs[1]))


def weighted_kappa(tables: FloatArray, weights: FloatArray) -> FloatArray:
    """Return weighted kappa (Cohen 1968) for (K, K) disagreement weights.

    0 when one side is constant; ``nan`` when both are constant on the same label.
    """
    human, model = _margins(tables)
    observed = (tables * weights).sum((-1, -2)) * human.sum(-1)
    expected = np.einsum("...i,ij,...j->...", human, weights, model, optimize=True)
    return 1 - ratio(observed, expected)


def quadratic_kappa(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return kappa with squared distances of the scale points as weights, on the whole scale."""
    return weighted_kappa(tables, (values[:, None] - values[None]) ** 2)


def linear_kappa(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return kappa with absolute distances of the scale points as weights, on the whole scale."""
    return weighted_kappa(tables, np.abs(values[:, None] - values[None]))


def alpha_ordinal(tables: FloatArray) -> FloatArray:
    """Return Krippendorff's ordinal alpha of two coders; ``nan`` without variation.

    The ordinal distance of two labels is the squared difference of their average ranks among all values
    of both coders, so scale points that nobody used change nothing.
    """
    marginals = np.add(*_margins(tables))
    return _alpha_of_positions(tables, np.cumsum(marginals, -1) - marginals / 2)


def alpha_interval(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return Krippendorff's interval alpha of two coders; ``nan`` without variation."""
    return _alpha_of_positions(tables, np.broadcast_to(values.astype(float), tables.shape[:-1]))


def _alpha_of_positions(tables: FloatArray, positions: FloatArray) -> FloatArray:
    """Return alpha with squared differences of (..., K) positions as distance."""
    human, model = _margins(tables)
    marginals = human + model
    n_values = marginals.sum(-1)
    centre = ratio((marginals * positions).sum(-1), n_values)
    from_centre = positions - np.nan_to_num(centre)[..., None]
    spread = (marginals * from_centre**2).sum(-1)
    product = _product(tables, from_centre, from_centre)
    observed = spread - 2 * product
    largest = np.abs(positions).max(-1, initial=0.0) ** 2 * n_values
    spread = np.where(spread > 1e-12 * largest, spread, 0.0)
    return 1 - ratio((n_values - 1) * observed, n_values * spread)


def mean_absolute_error(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return the mean absolute difference in scale points."""
    return _mean_of(tables, np.abs(values[None] - values[:, None]))


def bias(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return the mean of model minus human in scale points; above 0: the model answers higher."""
    return _mean_of(tables, values[None] - values[:, None])


def within_one(tables: FloatArray, values: FloatArray) -> FloatArray:
    """Return the share of answers at most one scale point off."""
    return _mean_of(tables, (np.abs(values[None] - values[:, None]) <= 1).astype(float))


def farthest_imputed(table: FloatArray, values: FloatArray) -> FloatArray:
    """Return the (..., K, K) table with every missing answer put on the scale point farthest from the human's.

    Parameters
    ----------
    table : (..., K, K+1) counts, last column: rows without an answer. A human in the exact middle of the scale
        gets its upper end.
    """
    low_end = values - values[0] > values[-1] - values
    full = table[..., :-1].copy()
    full[..., 0] += np.where(low_end, table[..., -1], 0.0)
    full[..., -1] += np.where(low_end, 0.0, table[..., -1])
    return full


def _margins(tables: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (..., K) human and model totals; einsum is several times faster than sum on short axes."""
    return np.einsum("...ij->...i", tables), np.einsum("...ij->...j", tables)


def _product(tables: FloatArray, human: FloatArray, model: FloatArray) -> FloatArray:
    """Return the sum over the cells of count times human times model score."""
    found: FloatArray = np.einsum("...i,...i->...", np.einsum("...ij,...j->...i", tables, model), human)
    return found


def _mean_of(tables: FloatArray, cost: FloatArray) -> FloatArray:
    return ratio((tables * cost).sum((-1, -2)), tables.sum((-1, -2)))
