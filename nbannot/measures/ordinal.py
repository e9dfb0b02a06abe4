"""Likert metrics from count tables: rank correlations, weighted kappas, ordinal and interval alpha, errors.

Tables are (..., K, K) counts of the answered rows, human rows and model columns, over the whole scale of the
codebook (scale points that nobody used included), or a `CellTable` of a long scale; `values` are the K scale
points. There is no place for "no answer" on an ordered scale, so these numbers are of the answered rows and are
read with the coverage.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbannot.measures.classification import ratio
from nbannot.measures.observed import CellTable
from nbannot.measures.resample import normal_quantile
from nbannot.measures.result import NAN, FloatArray

Tables = FloatArray | CellTable


def spearman(tables: Tables) -> FloatArray:
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


def kendall_tau_b(tables: Tables) -> FloatArray:
    """Return Kendall's tau-b; ``nan`` when one side is constant."""
    human, model = _margins(tables)
    n = human.sum(-1)
    pairs = [(n * n - (side**2).sum(-1)) / 2 for side in (human, model)]
    return ratio(_concordance(tables), np.sqrt(pairs[0] * pairs[1]))


def weighted_kappa(tables: FloatArray, weights: FloatArray) -> FloatArray:
    """Return weighted kappa (Cohen 1968) for (K, K) disagreement weights.

    0 when one side is constant; ``nan`` when both are constant on the same label.
    """
    human, model = _margins(tables)
    observed = (tables * weights).sum((-1, -2)) * human.sum(-1)
    expected = np.einsum("...i,ij,...j->...", human, weights, model, optimize=True)
    return 1 - ratio(observed, expected)


def quadratic_kappa(tables: Tables, values: FloatArray) -> FloatArray:
    """Return kappa with squared distances of the scale points as weights, on the whole scale."""
    if not isinstance(tables, CellTable):
        return weighted_kappa(tables, (values[:, None] - values[None]) ** 2)
    # By chance, the squared distance is the two variances and the squared distance of the means.
    points, sides = _points(tables, values), tables.margins
    n = sides[0].sum(-1)
    means = [ratio((side * points).sum(-1), n) for side in sides]
    spreads = [
        ratio((side * (points - np.nan_to_num(mean)[..., None]) ** 2).sum(-1), n)
        for side, mean in zip(sides, means, strict=True)
    ]
    expected = spreads[0] + spreads[1] + (means[0] - means[1]) ** 2
    expected = np.where(expected > 1e-12 * float(np.ptp(points)) ** 2, expected, 0.0)
    return 1 - ratio(_mean_of(tables, values, np.square), expected)


def linear_kappa(tables: Tables, values: FloatArray) -> FloatArray:
    """Return kappa with absolute distances of the scale points as weights, on the whole scale."""
    if not isinstance(tables, CellTable):
        return weighted_kappa(tables, np.abs(values[:, None] - values[None]))
    # By chance, two labels lie on two sides of a gap between neighbouring points.
    below = [np.cumsum(side, -1) for side in tables.margins]
    n = below[0][..., -1]
    shares = [side[..., :-1] / np.maximum(n, 1e-300)[..., None] for side in below]
    apart = shares[0] * (1 - shares[1]) + shares[1] * (1 - shares[0])
    expected = (apart * np.diff(_points(tables, values))).sum(-1)
    return 1 - ratio(_mean_of(tables, values, np.abs), expected)


def alpha_ordinal(tables: Tables) -> FloatArray:
    """Return Krippendorff's ordinal alpha of two coders; ``nan`` without variation.

    The ordinal distance of two labels is the squared difference of their average ranks among all values
    of both coders, so scale points that nobody used change nothing.
    """
    marginals = np.add(*_margins(tables))
    return _alpha_of_positions(tables, np.cumsum(marginals, -1) - marginals / 2)


def alpha_interval(tables: Tables, values: FloatArray) -> FloatArray:
    """Return Krippendorff's interval alpha of two coders; ``nan`` without variation."""
    points = _points(tables, values).astype(float)
    return _alpha_of_positions(tables, np.broadcast_to(points, _margins(tables)[0].shape))


def _alpha_of_positions(tables: Tables, positions: FloatArray) -> FloatArray:
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


def mean_absolute_error(tables: Tables, values: FloatArray) -> FloatArray:
    """Return the mean absolute difference in scale points."""
    return _mean_of(tables, values, np.abs)


def bias(tables: Tables, values: FloatArray) -> FloatArray:
    """Return the mean of model minus human in scale points; above 0: the model answers higher."""
    return _mean_of(tables, values, np.positive)


def within_one(tables: Tables, values: FloatArray) -> FloatArray:
    """Return the share of answers at most one scale point off."""
    return _mean_of(tables, values, lambda difference: (np.abs(difference) <= 1).astype(float))


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


def _points(tables: Tables, values: FloatArray) -> FloatArray:
    """Return the scale points that the margins of the tables are about."""
    return values[tables.cells.labels] if isinstance(tables, CellTable) else values


def _margins(tables: Tables) -> tuple[FloatArray, FloatArray]:
    """Return (..., K) human and model totals; einsum is several times faster than sum on short axes."""
    if isinstance(tables, CellTable):
        return tables.margins
    return np.einsum("...ij->...i", tables), np.einsum("...ij->...j", tables)


def _product(tables: Tables, human: FloatArray, model: FloatArray) -> FloatArray:
    """Return the sum over the cells of count times human times model score."""
    if isinstance(tables, CellTable):
        return tables.product(human, model)
    product: FloatArray = np.einsum("...i,...i->...", np.einsum("...ij,...j->...i", tables, model), human)
    return product


def _concordance(tables: Tables) -> FloatArray:
    """Return the number of concordant minus that of discordant pairs."""
    if isinstance(tables, CellTable):
        return tables.concordance()
    before = np.cumsum(np.cumsum(tables, -1), -2)
    concordant = (tables[..., 1:, 1:] * before[..., :-1, :-1]).sum((-1, -2))
    after = np.cumsum(np.cumsum(tables[..., ::-1], -1), -2)[..., ::-1]
    discordant = (tables[..., 1:, :-1] * after[..., :-1, 1:]).sum((-1, -2))
    difference: FloatArray = concordant - discordant
    return difference


def _mean_of(tables: Tables, values: FloatArray, cost: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return the mean over the rows of a cost of model minus human scale point."""
    if isinstance(tables, CellTable):
        cells, points = tables.cells, _points(tables, values)
        of_cell = cost(points[cells.model] - points[cells.human])
        return ratio(tables.counts @ of_cell, tables.counts.sum(-1))
    return ratio((tables * cost(values[None] - values[:, None])).sum((-1, -2)), tables.sum((-1, -2)))
