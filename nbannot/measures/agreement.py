"""Agreement of any number of coders: percent agreement, Fleiss' kappa, Gwet's AC1, Krippendorff's alpha.

Two coders are a special case; their kappa as a run against the human labels is in `classification`. Coefficients
are functions of additive statistics of the texts, so intervals resample texts (never single ratings).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbannot.errors import ScoringError
from nbannot.measures.accounting import is_missing, unit_codes
from nbannot.measures.classification import ratio
from nbannot.measures.intervals import UNIT_RANGE, Intervals, Settings
from nbannot.measures.resample import FEW_UNITS, normal_quantile, sample_rows
from nbannot.measures.result import NAN, FloatArray, Result

LEVELS = ("nominal", "ordinal", "interval", "ratio")


def value_counts(
    ratings: Sequence[Sequence[Any]], values: Sequence[Any] | None = None
) -> tuple[FloatArray, tuple[Any, ...]]:
    """Return the (units, q) table of how many coders gave each value to each unit, and the q values.

    Parameters
    ----------
    ratings : one sequence per unit with one value per coder, None (or ``nan``) where a coder gave none.
    values : the values in order (the scale of the codebook); None: those that occur, sorted where possible.

    Raises
    ------
    ScoringError
        A rating is not among `values`.
    """
    given = [[value for value in unit if not is_missing(value)] for unit in ratings]
    known = _in_order({value for unit in given for value in unit}) if values is None else tuple(values)
    position = {value: index for index, value in enumerate(known)}
    counts = np.zeros((len(given), len(known)))
    for row, unit in enumerate(given):
        for value in unit:
            if value not in position:
                raise ScoringError(f"unit {row} has the value {value!r}, which is not among {list(known)!r}.")
            counts[row, position[value]] += 1
    return counts, known


def unit_statistics(counts: FloatArray) -> FloatArray:
    """Return the (units, q*q + q + 3) additive statistics of a units x values table.

    Per unit: its coincidences (each ordered pair of ratings counts 1 / (m - 1)), the shares of its ratings per
    value, its share of agreeing pairs, and whether it has two, or one, rating at least.
    """
    m = counts.sum(1, keepdims=True)
    pairable, rated = m > 1, m > 0
    pairs = np.einsum("ui,uj->uij", counts, counts) - np.einsum("ui,ij->uij", counts, np.eye(counts.shape[1]))
    coincidences = np.where(pairable[..., None], pairs / np.maximum(m - 1, 1)[..., None], 0.0)
    shares = np.where(rated, counts / np.maximum(m, 1), 0.0)
    agreeing = np.where(
        pairable, (counts * (counts - 1)).sum(1, keepdims=True) / np.maximum(m * (m - 1), 1), 0.0
    )
    return np.hstack([coincidences.reshape(len(counts), -1), shares, agreeing, pairable, rated])


@dataclass(frozen=True, slots=True)
class CoderTotals:
    """Sums of `unit_statistics` with any leading dimensions, taken apart."""

    coincidences: FloatArray
    shares: FloatArray
    agreeing: FloatArray
    n_pairable: FloatArray
    n_rated: FloatArray

    @classmethod
    def of(cls, totals: FloatArray, q: int) -> CoderTotals:
        """Return the parts of (..., q*q + q + 3) totals."""
        coincidences = totals[..., : q * q].reshape(*totals.shape[:-1], q, q)
        return cls(coincidences, totals[..., q * q : -3], totals[..., -3], totals[..., -2], totals[..., -1])

    @classmethod
    def of_counts(cls, counts: FloatArray) -> CoderTotals:
        """Return the totals of a units x values table."""
        counts = np.asarray(counts, dtype=float)
        return cls.of(unit_statistics(counts).sum(0), counts.shape[1])


def percent_agreement(t: CoderTotals) -> FloatArray:
    """Return the mean share of agreeing pairs over units with two ratings or more (Fleiss' observed agreement)."""
    return ratio(t.agreeing, t.n_pairable)


def fleiss_kappa(t: CoderTotals) -> FloatArray:
    """Return Fleiss' kappa (Fleiss 1971); with missing ratings in Gwet's generalised form.

    ``nan`` when only one value occurs.
    """
    p = ratio(t.shares, t.n_rated[..., None])
    chance = (p * p).sum(-1)
    return ratio(percent_agreement(t) - chance, np.where(1 - chance > 1e-12, 1 - chance, 0.0))


def gwet_ac1(t: CoderTotals) -> FloatArray:
    """Return Gwet's AC1 (Gwet 2008) over the q values; ``nan`` for a single value."""
    q = t.shares.shape[-1]
    if q < 2:
        return np.full(t.n_rated.shape, np.nan)
    p = ratio(t.shares, t.n_rated[..., None])
    chance = (p * (1 - p)).sum(-1) / (q - 1)
    return ratio(percent_agreement(t) - chance, 1 - chance)


def krippendorff_alpha(t: CoderTotals, level: str = "nominal", values: Sequence[Any] = ()) -> FloatArray:
    """Return Krippendorff's alpha (Krippendorff 2011) from coincidences.

    Parameters
    ----------
    level : nominal, ordinal (values in the order of the table), interval or ratio (numeric `values`).

    Notes
    -----
    Units with one rating carry no pair and drop out. ``nan`` when the pairable ratings do not vary.
    """
    marginals = t.coincidences.sum(-1)
    n = marginals.sum(-1)
    delta = _distances(marginals, level, values)
    observed = (t.coincidences * delta).sum((-1, -2))
    expected = (marginals[..., :, None] * marginals[..., None, :] * delta).sum((-1, -2))
    return 1 - ratio((n - 1) * observed, expected)


def _distances(marginals: FloatArray, level: str, values: Sequence[Any]) -> FloatArray:
    q = marginals.shape[-1]
    if level == "nominal":
        return 1 - np.eye(q)
    if level == "ordinal":
        ranks = np.cumsum(marginals, -1) - marginals / 2
        squares: FloatArray = (ranks[..., :, None] - ranks[..., None, :]) ** 2
        return squares
    if level not in LEVELS:
        raise ScoringError(f"level must be one of {', '.join(LEVELS)}. Got {level!r}.")
    points = np.array([float(value) for value in values])
    difference: FloatArray = points[:, None] - points[None]
    if level == "ratio":
        difference = np.nan_to_num(ratio(difference, points[:, None] + points[None]))
    return difference**2


def coder_agreement(
    ratings: Sequence[Sequence[Any]],
    level: str = "nominal",
    values: Sequence[Any] | None = None,
    clusters: Sequence[Hashable] | None = None,
    n_resamples: int = 10_000,
    seed: int = 1,
    confidence: float = 0.95,
) -> dict[str, Result]:
    """Return the agreement of the coders with intervals that resample units.

    Parameters
    ----------
    ratings, values : as in `value_counts`.
    level : of the headline alpha.
    clusters : what units share; None: units are independent.

    Returns
    -------
    ``percent_agreement, fleiss_kappa, gwet_ac1, krippendorff_alpha, krippendorff_alpha_nominal``, of numbers at a
    level above nominal also ``krippendorff_alpha_interval``; each with its standard error. `n` counts the units,
    `n_answered` those with two ratings or more.
    """
    counts, known = value_counts(ratings, values)
    return counts_agreement(counts, known, level, clusters, Settings(n_resamples, seed, confidence))


def counts_agreement(
    counts: FloatArray,
    known: Sequence[Any],
    level: str = "nominal",
    clusters: Sequence[Hashable] | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    weights: FloatArray | None = None,
) -> dict[str, Result]:
    """Return the same as `coder_agreement` from the (units, q) table of how many coders gave each of `known`.

    With `weights`, one per unit (1 on average), every unit's coincidences and shares count as often.
    """
    numeric = level != "nominal" and all(isinstance(value, int | float) for value in known)

    def evaluate(totals: FloatArray) -> Mapping[str, FloatArray]:
        t = CoderTotals.of(totals, len(known))
        values = {
            "percent_agreement": percent_agreement(t),
            "fleiss_kappa": fleiss_kappa(t),
            "gwet_ac1": gwet_ac1(t),
            "krippendorff_alpha": krippendorff_alpha(t, level, known),
            "krippendorff_alpha_nominal": krippendorff_alpha(t),
        }
        if numeric:
            values["krippendorff_alpha_interval"] = krippendorff_alpha(t, "interval", known)
        return values

    sample = sample_rows(
        unit_statistics(counts), None if clusters is None else unit_codes(clusters), weights, settings.seed
    )
    n_pairable = int((counts.sum(1) > 1).sum())
    labels = tuple(str(value) for value in known)
    blank = Result(
        NAN, n=len(counts), n_answered=n_pairable, labels_used=labels, conventions=f"alpha {level}"
    )
    intervals = Intervals(sample, evaluate, settings, blank)
    values = {
        name: intervals.result(
            name,
            bounds=UNIT_RANGE if name == "percent_agreement" else (-1.0, 1.0),
            if_undefined="no variation" if n_pairable else "no unit with two ratings",
            jackknife_below=FEW_UNITS,
        )
        for name in intervals.values
    }
    levels = {
        "krippendorff_alpha": level,
        "krippendorff_alpha_nominal": "nominal",
        "krippendorff_alpha_interval": "interval",
    }
    for name, result in values.items():
        if result.defined:
            alpha = package_alpha(counts, levels[name], known) if name in levels and weights is None else None
            values[name] = replace(
                result, value=result.value if alpha is None else alpha, se=intervals.error(name)
            )
    return values


PACKAGE_CELLS = 20_000_000
"""The package makes a table of values for each unit; above so many numbers in all, ours gives the point value too."""


def package_alpha(counts: FloatArray, level: str, known: Sequence[Any]) -> float | None:
    """Return alpha of a (units, q) table by the package `krippendorff`; ``None`` where that takes too much memory.

    Resampled values come from `krippendorff_alpha`, which takes many tables at once.
    """
    from krippendorff import alpha

    used = counts.sum(0) > 0
    table = counts[counts.sum(1) > 1][:, used]
    if table.size * table.shape[1] > PACKAGE_CELLS:
        return None
    points = [value for value, is_used in zip(known, used.tolist(), strict=True) if is_used]
    measure: Any = level
    domain = np.array(points, dtype=float) if level in ("interval", "ratio") else np.arange(len(points))
    return float(
        alpha(value_counts=table.astype(np.int64), value_domain=domain, level_of_measurement=measure)
    )


def scott_pi(tables: FloatArray) -> FloatArray:
    """Return Scott's pi (Scott 1955) of (..., K, K) tables of two coders; ``nan`` when only one label occurs."""
    n = tables.sum((-1, -2))
    both = (tables.sum(-1) + tables.sum(-2)) / 2
    chance = (both**2).sum(-1)
    observed = np.einsum("...kk->...", tables) * n
    return ratio(observed - chance, np.where(n * n - chance > 1e-12 * n * n, n * n - chance, 0.0))


def bennett_s(table: FloatArray) -> float:
    """Return Bennett's S (Brennan-Prediger; for two labels PABAK) of a (K, K) table of two coders."""
    k = len(table)
    return float((k * np.trace(table) / table.sum() - 1) / (k - 1))


@dataclass(frozen=True, slots=True)
class KappaError:
    """Large-sample errors of a kappa: `se` around the value, `se_null` under independence, z and limits."""

    kappa: float
    se: float
    se_null: float
    z: float
    ci_low: float
    ci_high: float


def kappa_error(table: FloatArray, weights: FloatArray | None = None, level: float = 0.95) -> KappaError:
    """Return the standard errors of (weighted) kappa by Fleiss, Cohen and Everitt (1969).

    Parameters
    ----------
    table : (K, K) counts of two coders.
    weights : (K, K) disagreement weights; None: all disagreements weigh the same.
    """
    n, p = table.sum(), table / table.sum()
    cost = 1 - np.eye(len(table)) if weights is None else np.asarray(weights, dtype=float)
    w = 1 - cost / cost.max()
    row, col = p.sum(1), p.sum(0)
    observed, chance = float((w * p).sum()), float(row @ w @ col)
    kappa = (observed - chance) / (1 - chance)
    margin = (w @ col)[:, None] + (row @ w)[None]
    spread = (p * (w - margin * (1 - kappa)) ** 2).sum() - (kappa - chance * (1 - kappa)) ** 2
    spread_null = (np.outer(row, col) * (w - margin) ** 2).sum() - chance**2
    se, se_null = (math.sqrt(max(0.0, float(v)) / n) / (1 - chance) for v in (spread, spread_null))
    half = normal_quantile((1 + level) / 2) * se
    return KappaError(kappa, se, se_null, kappa / se_null if se_null else NAN, kappa - half, kappa + half)


def _in_order(values: set[Any]) -> tuple[Any, ...]:
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=repr))
